"""Photographs next to rendered faces: which ones, in which order, and a resume that is exact."""

from __future__ import annotations

import copy
import functools

import numpy as np
import pytest
import torch

from facedistill.data.augment import Augment
from facedistill.data.formats.face_set import read_faces
from facedistill.data.module import FaceDataModule
from facedistill.data.sources.mixed import MixedFaces
from facedistill.data.sources.rendered import RenderedFaces
from facedistill.errors import ConfigError
from facedistill.images import to_float
from facedistill.methods.cosine import Cosine
from facedistill.methods.rkd import RKD
from facedistill.methods.synthdistill import SynthDistill
from tests.data.formats.drawn_set import DrawnSet
from tests.helpers.trainers import quiet_trainer

BATCH, PHOTOGRAPHS = 8, 3
FACES = DrawnSet(identities=4, images=4)


def source_of(generator, **settings):
    return MixedFaces(generator, FACES, seed=3, share=0.4, **{"held_out": 4, **settings})


def batch_of(source, number, **share):
    return source.finish(source.raw(number, batch_size=BATCH, **share)).images


def known(images):
    """Positions in the set of photographs (n, 3, 112, 112)."""
    faces = to_float(torch.from_numpy(read_faces(FACES, np.arange(len(FACES)))).permute(0, 3, 1, 2))
    return [[index for index, face in enumerate(faces) if torch.equal(face, image)] for image in images]


def test_photographs_come_first_and_each_once_per_pass_and_none_of_those_held_out(tiny_generator):
    source = source_of(tiny_generator, resampling="static")
    shown = [index for step in range(8) for index in known(batch_of(source, step)[:PHOTOGRAPHS])]
    first, second = [sorted(index for (index,) in part) for part in (shown[:12], shown[12:])]
    held_out = [index for (index,) in known(to_float(source.held_out_images()))]
    assert first == second == sorted(set(range(16)) - set(held_out))
    assert shown[:12] != shown[12:]
    assert known(batch_of(source, 0)[PHOTOGRAPHS:]) == [[]] * 5
    other = MixedFaces(tiny_generator, FACES, seed=4, share=0.4, held_out=4)
    assert torch.equal(other.held_out_images(), source.held_out_images())  # seeds of a table validate alike


def test_only_rendered_rows_are_resampled_by_their_own_agreement(tiny_generator):
    agreement = torch.linspace(-1, 1, BATCH)
    mixed, rendered = source_of(tiny_generator), RenderedFaces(tiny_generator, seed=3)
    for source in (mixed, rendered):
        batch_of(source, 0)
        source.observe(0, agreement)
    assert torch.allclose(batch_of(mixed, 1)[PHOTOGRAPHS:], batch_of(rendered, 1)[PHOTOGRAPHS:], atol=1e-5)


@pytest.mark.parametrize("step", [0, 1, 4])
def test_any_number_of_processes_sees_the_same_images(tiny_generator, step):
    source = source_of(tiny_generator, augment=Augment(scale=0.05))
    source.observe(0, torch.linspace(-1, 1, BATCH))
    ranks = [batch_of(source, step, rank=rank, world_size=2) for rank in range(2)]
    assert torch.allclose(torch.stack(ranks, 1).flatten(0, 1), batch_of(source, step), atol=1e-5)


METHODS = {
    "synthdistill": (SynthDistill, {}, {"replay": 1, "pool_images": 16, "augment": Augment(scale=0.05)}),
    "cosine": (Cosine, {}, {}),
    "rkd": (RKD, {"identity_weight": 0.0}, {"resampling": "static"}),
}


@pytest.mark.parametrize("name", METHODS)
def test_resume_is_exact(tiny_student, tiny_teacher, tiny_generator, tmp_path, name):
    method_class, arguments, settings = METHODS[name]

    def fit(folder, *, stop_after=7, resume=None):
        source = source_of(tiny_generator, **settings)
        folder.mkdir(exist_ok=True)
        source.open(folder, resume=resume is not None)
        faces = source.held_out_images()
        data = FaceDataModule(source, faces, batch_size=BATCH, images=7 * BATCH)
        method = method_class(
            student=copy.deepcopy(tiny_student), teacher=tiny_teacher,
            optimizer=functools.partial(torch.optim.Adam, lr=1e-2), **arguments,
        )  # fmt: skip
        trainer = quiet_trainer(stop_after, checkpoint=tmp_path / "last.ckpt")
        trainer.fit(method, datamodule=data, ckpt_path=resume, weights_only=True)
        return method

    whole = fit(tmp_path / "whole")
    fit(tmp_path / "cut", stop_after=3)
    resumed = fit(tmp_path / "cut", resume=tmp_path / "last.ckpt")
    assert resumed.images_seen == whole.images_seen == 7 * BATCH  # photographs and rendered faces
    for key, expected in whole.student.state_dict().items():
        assert torch.equal(resumed.student.state_dict()[key], expected), key


@pytest.mark.parametrize(("settings", "message"), [
    ({"share": 1.0}, r"^data.source.share=1.0: must be between 0 and 1; use data=stylegan for rendered faces"),
    ({"held_out": 16}, r"^data.source.held_out=16: the set has 16 photographs, and some must be left .* set it to 1$"),
])  # fmt: skip
def test_a_mixture_that_cannot_be_made_is_refused(tiny_generator, settings, message):
    with pytest.raises(ConfigError, match=message):
        MixedFaces(tiny_generator, FACES, seed=3, **settings)


def test_a_batch_without_a_photograph_and_a_cache_of_the_teacher_are_refused(tiny_generator, tiny_teacher):
    source = source_of(tiny_generator)
    with pytest.raises(
        ConfigError, match=r"^data.source.share=0.4: makes 0 of data.batch_size=1 images photo"
    ):
        source.raw(0, batch_size=1)
    with pytest.raises(ConfigError, match=r"^data.teacher_cache=true: MixedFaces has no fixed set of faces"):
        source.cache_teacher(tiny_teacher)
