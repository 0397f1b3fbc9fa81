"""What an augmentation does to a batch, drawn on the host and carried to the device in two copies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from facedistill.system.devices import copied_to

Layout = Sequence[tuple[str, Sequence[tuple[bool, Sequence[int]]]]]


class Changes:
    """The tensors of several effects, packed; workers and loaders pass it on, pin it and move it like a tensor.

    Args:
        integers: All int64 numbers, flat.
        numbers: All float32 numbers, flat.
        layout: Of each effect the name, and of each of its tensors whether it holds integers, and its shape.

    >>> changes = Changes.of({"flip": [torch.tensor([0, 2])], "dim": [torch.tensor([1]), torch.tensor([0.5])]})
    >>> dict(changes.effects())["dim"]
    [tensor([1]), tensor([0.5000])]
    """

    __slots__ = ("integers", "layout", "numbers")

    def __init__(self, integers: Tensor, numbers: Tensor, layout: Layout) -> None:
        self.integers, self.numbers, self.layout = integers, numbers, layout

    @classmethod
    def of(cls, effects: Mapping[str, Sequence[Tensor]]) -> Changes:
        """Packs int64 and float32 tensors, by the names of effects."""
        flat: tuple[list[Tensor], list[Tensor]] = ([torch.empty(0)], [torch.empty(0, dtype=torch.int64)])
        for tensor in (tensor for tensors in effects.values() for tensor in tensors):
            flat[tensor.dtype == torch.int64].append(tensor.flatten())
        layout = [
            (name, [(one.dtype == torch.int64, tuple(one.shape)) for one in tensors])
            for name, tensors in effects.items()
        ]
        return cls(torch.cat(flat[1]), torch.cat(flat[0]), layout)

    def effects(self) -> Iterator[tuple[str, list[Tensor]]]:
        """Name and tensors of each effect, in order; the tensors are views."""
        starts = [0, 0]
        for name, tensors in self.layout:
            views = []
            for whole, shape in tensors:
                size, strides = 1, []
                for length in reversed(shape):
                    strides.append(size)
                    size *= length
                packed = self.integers if whole else self.numbers
                views.append(packed.as_strided(shape, strides[::-1], starts[whole]))
                starts[whole] += size
            yield name, views

    def pin_memory(self) -> Changes:
        """In memory from which a GPU copies without making the host wait."""
        return Changes(self.integers.pin_memory(), self.numbers.pin_memory(), self.layout)

    def to(self, device: torch.device) -> Changes:
        """On `device`; the host does not wait for the copies."""
        return Changes(copied_to(device, self.integers), copied_to(device, self.numbers), self.layout)
