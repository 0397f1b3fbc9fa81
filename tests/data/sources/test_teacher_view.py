"""`data.source.teacher_view`: the teacher sees the student's images, or those before the augmentation."""

from __future__ import annotations

import functools

import pytest
import torch

from facedistill.data.augment import Augment
from facedistill.data.sources.mixed import MixedFaces
from facedistill.data.sources.rendered import RenderedFaces
from facedistill.data.sources.stored import StoredFaces
from facedistill.methods.synthdistill import SynthDistill
from tests.data.formats.drawn_set import DrawnSet

AUGMENT = Augment(flip=0.5, shift=0.1)


def _sources(generator, **settings):
    yield RenderedFaces(generator, seed=3, **settings)
    yield MixedFaces(generator, DrawnSet(), seed=3, held_out=1, **settings)
    yield StoredFaces(DrawnSet(), seed=3, **settings)


def _batch(source):
    return source.finish(source.raw(0, batch_size=6))


@pytest.mark.parametrize("view", ["same", "clean"])
def test_the_teacher_sees_what_its_view_says(tiny_generator, tiny_student, tiny_teacher, view):
    shown = _sources(tiny_generator, augment=AUGMENT, teacher_view=view)
    for plain, source in zip(_sources(tiny_generator), shown, strict=True):
        clean, batch = _batch(plain).images, _batch(source)
        assert not torch.equal(batch.images, clean)
        assert torch.equal(batch.seen_by_teacher, clean if view == "clean" else batch.images)
        method = SynthDistill(
            student=tiny_student.eval(),
            teacher=tiny_teacher,
            optimizer=functools.partial(torch.optim.SGD, lr=1.0),
        )
        expected = torch.cosine_similarity(tiny_student(batch.images), tiny_teacher(batch.seen_by_teacher))
        assert torch.allclose(method.distill(batch).agreement, expected)
