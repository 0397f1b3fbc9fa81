"""The packed tensors of several effects: unpacked they are what went in, wherever they have been."""

from __future__ import annotations

import pickle

import pytest
import torch
from lightning.pytorch.utilities import move_data_to_device

from facedistill.data.augmentation import PhotoAugment
from facedistill.data.augmentation.changes import Changes
from tests.helpers.no_waits import META

DRAWN = {
    "move": [torch.arange(18.0).view(2, 3, 3)],
    "cover": [torch.tensor([0, 3]), torch.rand(2, 4).T[:2], torch.tensor([7, 8]), torch.rand(2)],
    "gray": [torch.tensor([1])],
}


def test_what_is_unpacked_is_what_was_packed() -> None:
    changes = Changes.of(DRAWN)
    for given in (changes, pickle.loads(pickle.dumps(changes)), move_data_to_device(changes, "cpu")):
        unpacked = dict(given.effects())
        assert list(unpacked) == list(DRAWN)
        for name, tensors in DRAWN.items():
            assert all(torch.equal(*pair) for pair in zip(unpacked[name], tensors, strict=True)), name
    moved = dict(move_data_to_device({"changes": changes}, META)["changes"].effects())
    assert [one.shape for one in moved["cover"]] == [one.shape for one in DRAWN["cover"]]
    assert moved["move"][0].device == META


def test_nothing_drawn_is_packed_too() -> None:
    assert not list(Changes.of({}).effects())
    none = PhotoAugment(flip=0).prepare(seed=0, step=0, samples=torch.arange(3))
    assert none.layout == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_pinned_and_moved_to_a_gpu_it_is_the_same() -> None:
    moved = Changes.of(DRAWN).pin_memory().to(torch.device("cuda"))
    for name, tensors in moved.effects():
        assert all(torch.equal(one.cpu(), other) for one, other in zip(tensors, DRAWN[name], strict=True))
