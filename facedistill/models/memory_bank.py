"""Memory banks: one vector per image of a finite set, or the embeddings of the last batches; no optimizer moves them."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facedistill.distributed.collectives import gather_constant, in_sample_order
from facedistill.models.latents import row_generators


class MemoryBank(nn.Module):
    """One vector per image, a running mean of the projections of that image.

    It is a buffer: in the checkpoint, the same in every process. 5.8 million images of width 128 are 3 GB.

    Args:
        num_images: Size of the set.
        dim: Width of a vector.
        momentum: Share of the old vector that stays, in [0, 1).
        seed: Of the initial vectors, uniform in ±sqrt(3 / dim) as in CRD's released code, so of length about 1.

    Attributes:
        vectors: (num_images, dim) float32.
    """

    vectors: Tensor

    def __init__(self, *, num_images: int, dim: int, momentum: float = 0.5, seed: int = 0) -> None:
        super().__init__()
        self.momentum = momentum
        seeded = torch.Generator().manual_seed(seed)
        uniform = torch.rand(num_images, dim, generator=seeded)
        self.register_buffer("vectors", (2 * uniform - 1) * (3 / dim) ** 0.5)

    @torch.no_grad()
    def update(self, indices: Tensor, projections: Tensor) -> None:
        """vector <- unit(momentum · vector + (1 - momentum) · projection), from all processes.

        An image that occurs several times in the global batch counts with the mean of its projections; the
        released code keeps whichever is written last.

        Args:
            indices: (N,) positions of this process's images.
            projections: (N, dim) unit projections.
        """
        indices, projections = gather_constant(indices), gather_constant(projections.detach().float())
        same = (indices[:, None] == indices[None, :]).to(projections.dtype)
        mean = same @ projections / same.sum(1, keepdim=True)
        moved = self.momentum * self.vectors[indices] + (1 - self.momentum) * mean
        self.vectors[indices] = F.normalize(moved)


class EmbeddingQueue(nn.Module):
    """The unit embeddings of both networks of the last images; for streams, which have no finite set.

    Buffers: in the checkpoint, the same in every process. Rows of zeros are empty.

    Args:
        size: M images.
        student_dim: Embedding width of the student.
        teacher_dim: Embedding width of the teacher.

    Attributes:
        student: (M, student_dim) float32.
        teacher: (M, teacher_dim) float32, the same images.
    """

    student: Tensor
    teacher: Tensor
    place: Tensor

    def __init__(self, size: int, *, student_dim: int, teacher_dim: int) -> None:
        super().__init__()
        self.register_buffer("student", torch.zeros(size, student_dim))
        self.register_buffer("teacher", torch.zeros(size, teacher_dim))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, student: Tensor, teacher: Tensor) -> None:
        """Overwrites the oldest places with a gathered batch, (N, D) and (N, D'), or its last M images.

        They enter in the order of the global batch, of which each process has every W-th image, so that any number of processes
        has the same queue.
        """
        size = len(self.student)
        if not size:
            return
        student, teacher = (in_sample_order(gathered)[-size:] for gathered in (student, teacher))
        places = (self.place + torch.arange(len(student), device=self.place.device)) % size
        self.student[places] = F.normalize(student.detach().to(self.student))
        self.teacher[places] = F.normalize(teacher.detach().to(self.teacher))
        self.place.copy_((self.place + len(student)) % size)


def draw_indices(seed: int, stream: str, counters: Tensor, count: int, num_images: int) -> Tensor:
    """Uniform positions in a finite set, with replacement, as a function of (seed, stream, counter) alone.

    Args:
        seed: The run's seed.
        stream: What the numbers are for.
        counters: (N,) counters >= 0, one per row.
        count: M, positions per row.
        num_images: Size of the set.

    Returns:
        (N, M) int64 on the CPU.
    """
    rows = [g.integers(num_images, size=count) for g in row_generators(seed, stream, counters)]
    return torch.from_numpy(np.stack(rows))
