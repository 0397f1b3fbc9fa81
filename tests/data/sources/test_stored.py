"""The source of stored faces: shares, mirror images, what is kept, and what is refused."""

from __future__ import annotations

import json
import re
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from facedistill.data.augment import Augment
from facedistill.data.cache.array import KeptArray
from facedistill.data.sources.stored import StoredFaces
from facedistill.errors import ConfigError, DataError
from facedistill.models.teachers.team import TeacherTeam
from facedistill.types import InputSpec
from tests.data.formats.drawn_set import DrawnSet

pytestmark = pytest.mark.usefixtures("empty_cache")


class Teacher(nn.Module):
    """Frozen and asked as `FrozenTeacher` is, and counting."""

    embedding_dim, precision, input_spec = 6, "fp32", InputSpec()

    def __init__(self, fingerprint: str = "a" * 64) -> None:
        super().__init__()
        self.network = nn.Linear(3 * 16, 6)
        self.fingerprint = fingerprint
        self.asked = 0

    @torch.no_grad()
    def forward(self, images):
        self.asked += len(images)
        return self.network(nn.functional.adaptive_avg_pool2d(images, 4).flatten(1))


def test_ranks_share_one_global_batch():
    source = StoredFaces(DrawnSet(), seed=3, balanced={"identities": 2, "images": 2})
    whole = source.raw(5, batch_size=12)
    parts = [source.raw(5, batch_size=12, rank=rank, world_size=2) for rank in range(2)]
    for name in ("indices", "labels", "images", "balanced"):
        shares = [
            torch.as_tensor(part[name].values if name == "balanced" else part[name])
            for part in (whole, *parts)
        ]
        assert torch.equal(torch.stack(shares[1:], dim=1).flatten(0, 1), shares[0]), name


def test_faces_are_the_files_pixels_in_minus_one_to_one():
    faces = DrawnSet()
    source = StoredFaces(faces, seed=3)
    batch = source.finish(source.raw(0, batch_size=8))
    for image, index, label in zip(batch.images, batch.indices, batch.labels, strict=True):
        pixels = np.asarray(Image.open(BytesIO(faces.encoded(int(index)))))
        expected = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1) / 127.5 - 1
        assert torch.allclose(image, expected, atol=1e-6)
        assert label == faces.labels[index]


def test_kept_embeddings_are_those_of_the_very_images_mirrored_or_not():
    source = StoredFaces(DrawnSet(), seed=3, augment=Augment(flip=0.5))
    teacher = Teacher()
    source.cache_teacher(teacher)
    assert teacher.asked == 2 * 32
    differ = 0
    for step in range(4):
        batch = source.finish(source.raw(step, batch_size=8))
        assert torch.allclose(batch.teacher_embeddings, teacher(batch.images), atol=2e-3)
        plain = teacher(source.finish(source.raw(step, batch_size=8)).images.flip(-1))
        differ += int((batch.teacher_embeddings - plain).abs().max() > 1e-2)
    assert differ == 4  # the mirrored view is another embedding, so mixing them up would show


def test_embeddings_are_computed_once_and_another_teacher_has_its_own():
    faces, teacher = DrawnSet(), Teacher()
    StoredFaces(faces, seed=3).cache_teacher(teacher)
    StoredFaces(faces, seed=4).cache_teacher(teacher)
    assert teacher.asked == 32
    other = Teacher("b" * 64)
    StoredFaces(faces, seed=3).cache_teacher(other)
    assert other.asked == 32
    other.input_spec = InputSpec(color="BGR")  # the same weights, shown other numbers
    StoredFaces(faces, seed=3).cache_teacher(other)
    assert other.asked == 64
    larger = DrawnSet(images=9)
    StoredFaces(larger, seed=3).cache_teacher(teacher)
    assert teacher.asked == 32 + 36


@pytest.mark.parametrize(("factor", "size"), [(1e9, "e+0"), (float("nan"), "nan")])
def test_embeddings_that_cannot_be_kept_are_refused(factor, size):
    teacher = Teacher()
    teacher.network.weight.data.mul_(factor)
    with pytest.raises(
        DataError, match=f"teacher: its embeddings reach .*{re.escape(size)}.* must be within 65,504; "
    ):
        StoredFaces(DrawnSet(), seed=3).embed_set(teacher)


def test_embeddings_of_several_teachers_are_kept_side_by_side():
    members = {"a": Teacher(), "b": Teacher("b" * 64)}
    team = TeacherTeam(members, {"a": 1.0, "b": 3.0})
    source = StoredFaces(DrawnSet(), seed=3)
    source.cache_teacher(team)
    batch = source.finish(source.raw(0, batch_size=8))
    assert torch.allclose(batch.teacher_embeddings, team(batch.images), atol=2e-3)
    assert batch.teacher_embeddings.shape == (8, 12)
    asked = members["a"].asked
    StoredFaces(DrawnSet(), seed=3).cache_teacher(TeacherTeam(members, {"a": 2.0, "b": 1.0}))
    assert members["a"].asked == asked  # weights do not change what is kept


def test_an_interrupted_computation_continues_where_it_stopped(tmp_path):
    def kept():
        return KeptArray(tmp_path, "squares", {"what": "squares"}, (400, 1), np.int64)

    asked = []

    def compute(start, stop):
        if start >= 340 and len(asked) < 40:
            raise KeyboardInterrupt
        asked.append(start)
        return np.arange(start, stop)[:, None] ** 2

    with pytest.raises(KeyboardInterrupt):
        kept().fill(compute, block=10, title="squares")
    assert json.loads(kept().path.with_suffix(".json").read_text())["rows"] == 320
    asked += [-1] * 40
    kept().fill(compute, block=10, title="squares")
    assert asked[-8:] == list(range(320, 400, 10))
    assert (kept()[:, 0] == np.arange(400) ** 2).all()
    kept().path.unlink()  # its note stays, and must not vouch for the file that is begun in its place
    asked.clear()
    with pytest.raises(KeyboardInterrupt):
        kept().fill(lambda start, stop: compute(start + 340, stop + 340), block=10, title="squares")
    assert not kept().path.with_suffix(".json").exists()
    asked += [-1] * 40
    kept().fill(compute, block=10, title="squares")
    assert (kept()[:, 0] == np.arange(400) ** 2).all()
    kept().path.write_bytes(b"torn")  # a damaged file is made anew
    kept().path.with_suffix(".json").write_text("[]")
    kept().fill(compute, block=10, title="squares")
    assert kept()[399, 0] == 399**2


def test_augmentation_and_kept_embeddings_exclude_each_other():
    source = StoredFaces(DrawnSet(), seed=3, augment=Augment(flip=0.5, shift=0.1))
    with pytest.raises(ConfigError) as error:
        source.cache_teacher(Teacher())
    assert str(error.value) == (
        "data.teacher_cache=true: stored embeddings are right for plain and mirrored images only; set "
        "data.source.augment to {flip: 0.5} alone, data.source.teacher_view to clean, or teacher_cache to false"
    )


def test_kept_embeddings_of_clean_images_go_with_any_augmentation(empty_cache):
    augment, teacher = Augment(flip=0.5, shift=0.1), Teacher()
    source = StoredFaces(DrawnSet(), seed=3, augment=augment, teacher_view="clean")
    source.cache_teacher(teacher)
    batch = source.finish(source.raw(0, batch_size=8))
    assert torch.allclose(batch.teacher_embeddings, teacher(batch.seen_by_teacher), atol=1e-3)
    assert not torch.allclose(batch.teacher_embeddings, teacher(batch.images), atol=1e-3)


def test_decoded_bytes_are_kept():
    faces = DrawnSet()
    plain, kept = StoredFaces(faces, seed=3), StoredFaces(faces, seed=3, decoded_cache=True)
    assert torch.equal(plain.raw(1, batch_size=8)["images"], kept.raw(1, batch_size=8)["images"])
    faces._files = [b""] * 32
    assert torch.equal(kept.raw(1, batch_size=8)["images"], kept.raw(1, batch_size=8)["images"])


def test_unlabeled_and_badly_sized_faces():
    source = StoredFaces(DrawnSet(labeled=False), seed=3)
    assert not source.offers.labels
    assert source.finish(source.raw(0, batch_size=4)).labels is None
    with pytest.raises(DataError) as error:
        StoredFaces(DrawnSet(size_px=96), seed=3).raw(0, batch_size=1)
    assert str(error.value).startswith("drawn ")
    assert " is 96x96 pixels, and faces are 112x112; " in str(error.value)


def test_an_uneven_general_part_is_refused():
    source = StoredFaces(DrawnSet(), seed=3, balanced={"identities": 3, "images": 3})
    with pytest.raises(ConfigError) as error:
        source.raw(0, batch_size=12, world_size=2)
    assert str(error.value) == (
        "data.batch_size=12: leaves 3 images outside the balanced part, which 2 processes cannot share equally; "
        "change it by 1"
    )
