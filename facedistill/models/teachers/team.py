"""Several frozen teachers of one student."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facedistill.models.teachers.frozen import FrozenTeacher


class TeacherTeam(nn.Module):
    """Frozen teachers side by side; each adapts the faces to its own input.

    The embedding is that of all members, next to each other and raw, so that a cache of it serves any weights. The first
    member leads: the student's own embedding is compared with its (`facedistill.methods.several`), and faces are chosen
    and generated pairs are made with it.

    Args:
        members: By name, the leading one first; the others are sorted by name, so their order changes nothing.
        weights: By the same names, >= 0 and not all 0; what counts is their proportion.

    Attributes:
        names: Of the members.
        members: In the order of `names`.
        weights: In the order of `names`, of sum 1.
        widths: D of each member.
        embedding_dim: Sum of `widths`.
        fingerprint: sha256 over the members' fingerprints.
        precision: Of all members.
        input_spec: Of the leading member.
    """

    def __init__(self, members: Mapping[str, FrozenTeacher], weights: Mapping[str, float]) -> None:
        super().__init__()
        first, *others = members
        self.names = (first, *sorted(others))
        self.members = nn.ModuleList(members[name] for name in self.names)
        total = sum(weights[name] for name in self.names)
        self.weights = tuple(weights[name] / total for name in self.names)
        self.widths = tuple(int(members[name].embedding_dim) for name in self.names)
        self.embedding_dim = sum(self.widths)
        self.fingerprint = hashlib.sha256(
            "/".join(members[name].fingerprint for name in self.names).encode()
        ).hexdigest()
        self.precision = "+".join(members[name].precision for name in self.names)
        self.input_spec = self.lead.input_spec

    @property
    def lead(self) -> FrozenTeacher:
        """The first member."""
        return self.members[0]  # type: ignore[return-value]

    @property
    def network(self) -> nn.Module:
        """The leading member's network."""
        return self.lead.network

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Faces (N, 3, H, W) in [-1, 1] to raw float32 embeddings (N, sum of `widths`), without gradient."""
        return torch.cat([member(images) for member in self.members], dim=1)

    def split(self, embeddings: Tensor) -> tuple[Tensor, ...]:
        """The members' parts (N, D) of embeddings (N, sum of `widths`)."""
        return embeddings.split(self.widths, dim=1)

    def comparable(self, embeddings: Tensor) -> list[Tensor]:
        """The members' parts (N, D), each face's scaled to the root mean square that the leading member's has.

        Raw embeddings of published teachers differ 60 times in length; without this, squared errors would follow one
        teacher alone. A map of the student's embedding takes up the scale, and cosines do not have one.
        """
        lead, *others = self.split(embeddings.float())
        rms = lead.square().mean(1, keepdim=True).sqrt()
        return [lead, *(F.normalize(part) * rms * part.shape[1] ** 0.5 for part in others)]

    def joined(self, embeddings: Tensor) -> Tensor:
        """Unit vectors (N, sum of `widths`) whose cosines are the weighted means of the members' cosines.

        Each member's part has unit length times the root of its weight.
        """
        parts = zip(self.weights, self.split(embeddings.float()), strict=True)
        return torch.cat([weight**0.5 * F.normalize(part) for weight, part in parts], dim=1)

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode, whatever `mode`."""
        return super().train(False)


Teacher = FrozenTeacher | TeacherTeam


def lead_of(teacher: Teacher) -> FrozenTeacher:
    """The teacher itself, or the leading one of several."""
    return teacher.lead if isinstance(teacher, TeacherTeam) else teacher
