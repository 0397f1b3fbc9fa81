"""A real Lightning fit on stored faces: worker processes, interruptions, other numbers of processes, bad images."""

from __future__ import annotations

import copy
import functools
import pickle

import pytest
import torch

from facedistill.data.augment import Augment
from facedistill.data.module import FaceDataModule
from facedistill.data.sources.stored import StoredFaces
from facedistill.errors import DataError
from facedistill.methods.cosine import Cosine
from tests.data.formats.drawn_set import DrawnSet
from tests.helpers.trainers import quiet_trainer

pytestmark = pytest.mark.usefixtures("empty_cache")

BATCH, STEPS = 12, 9  # 32 faces: more than three epochs, whose ends no batch meets


class Recorded(StoredFaces):
    """Notes the indices of every batch that was trained on."""

    def finish(self, raw):
        self.__dict__.setdefault("seen", []).append(raw["indices"].tolist())
        return super().finish(raw)


def source_of(faces=None, **settings):
    balanced = {"identities": 2, "images": 2}
    return Recorded(faces or DrawnSet(), seed=3, balanced=balanced, augment=Augment(flip=0.5), **settings)


def fit(student, teacher, source, *, num_workers=0, stop_after=None, path=None, resume=None):
    data = FaceDataModule(
        source, torch.zeros(4, 3, 112, 112, dtype=torch.uint8), batch_size=BATCH, images=BATCH * STEPS,
        num_workers=num_workers,
    )  # fmt: skip
    method = Cosine(
        student=copy.deepcopy(student),
        teacher=teacher,
        optimizer=functools.partial(torch.optim.Adam, lr=1e-2),
    )
    trainer = quiet_trainer(stop_after or STEPS, checkpoint=path)
    trainer.fit(method, datamodule=data, ckpt_path=resume, weights_only=True)
    return method


@pytest.mark.parametrize(("cut_with", "resumed_with"), [(0, 0), (2, 2), (2, 0)])
def test_resume_is_exact_whatever_the_workers(tiny_student, tiny_teacher, tmp_path, cut_with, resumed_with):
    parts = tiny_student, tiny_teacher
    whole_source, cut_source = source_of(), source_of()
    whole = fit(*parts, whole_source)
    path = tmp_path / "last.ckpt"
    fit(*parts, cut_source, num_workers=cut_with, stop_after=4, path=path)
    resumed_source = source_of(decoded_cache=True)  # a cache changes nothing
    resumed = fit(*parts, resumed_source, num_workers=resumed_with, resume=path)
    assert cut_source.seen[:4] + resumed_source.seen == whole_source.seen
    assert resumed.images_seen == whole.images_seen == BATCH * STEPS
    for name, expected in whole.student.state_dict().items():
        assert torch.equal(resumed.student.state_dict()[name], expected), name


@pytest.mark.parametrize("world_size", [2, 4])
def test_a_state_saved_by_one_process_continues_with_the_same_global_batches_on_several(
    tiny_student, tiny_teacher, tmp_path, world_size
):
    whole, path = source_of(), tmp_path / "last.ckpt"
    fit(tiny_student, tiny_teacher, whole)
    fit(tiny_student, tiny_teacher, source_of(), stop_after=4, path=path)
    state = torch.load(path, weights_only=True)["FaceDataModule"]
    streams = []
    for rank in range(world_size):
        data = FaceDataModule(source_of(), torch.zeros(0), batch_size=BATCH, images=BATCH * STEPS)
        data.load_state_dict(state)
        data._rank_and_world_size = lambda rank=rank: (rank, world_size)
        streams.append([raw["indices"] for raw in data.train_dataloader()])
    joined = [torch.stack(shares, dim=1).flatten().tolist() for shares in zip(*streams, strict=True)]
    assert joined == whole.seen[4:]


def test_a_source_travels_to_spawned_workers(tmp_path):
    """Where workers are spawned and not forked, the source is pickled: no memory map may be copied."""
    source = StoredFaces(DrawnSet(), seed=3, decoded_cache=True)
    first = source.raw(0, batch_size=BATCH)["images"]  # the map is open now
    data = pickle.dumps(source)
    assert len(data) < len(pickle.dumps(DrawnSet())) + 10_000
    assert torch.equal(pickle.loads(data).raw(0, batch_size=BATCH)["images"], first)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_bad_image_stays_one_sentence(tiny_student, tiny_teacher, num_workers):
    with pytest.raises(DataError) as error:
        fit(tiny_student, tiny_teacher, source_of(DrawnSet(size_px=96)), num_workers=num_workers)
    assert str(error.value).startswith("drawn ")
    assert "\n" not in str(error.value)
