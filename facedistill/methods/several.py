"""How one student is compared with several teachers."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facedistill.distributed.collectives import global_mean
from facedistill.losses.precision import at_least_float32
from facedistill.models.teachers.team import TeacherTeam


class Compared(NamedTuple):
    """A teacher's name (empty where there is one teacher), weight, and embeddings (N, D) of student and teacher."""

    name: str
    weight: float
    student: Tensor
    teacher: Tensor


class TeamProjections(nn.Module):
    """The student's embedding as each teacher of a team would have it.

    Embedding spaces of two teachers have no direction in common, so a student cannot equal both. The leading teacher
    is compared with the student's own embedding if the widths are equal: then the exported student lives in its space. Every
    other teacher gets a linear map of the student's embedding, which learns with the student, is in the checkpoint, and is left
    out of the exported student. This is the regressor of FitNets (Romero et al., ICLR 2015) at the embedding, one for each
    teacher as in FEED (Park, Kwak, 2019; arXiv:1909.10754) and AM-RADIO (Ranzinger et al., CVPR 2024), whose maps are
    deeper. The maps begin with orthonormal rows or columns, which keep the student's cosines as far as the widths admit.

    Args:
        student_dim: Embedding width of the student.
        team: The teachers.
    """

    def __init__(self, student_dim: int, team: TeacherTeam) -> None:
        super().__init__()
        self.names, self.weights = team.names, team.weights
        self.maps = nn.ModuleList(nn.Linear(student_dim, width, bias=False) for width in team.widths)
        for one in self.maps:
            nn.init.orthogonal_(one.weight)  # type: ignore[arg-type]
        if student_dim == team.widths[0]:
            self.maps[0] = nn.Identity()

    def forward(self, student: Tensor) -> list[Tensor]:
        """Embeddings (N, D) of the student to one (N, D_m) for each teacher, in float32 or better."""
        student = at_least_float32(student)
        with torch.autocast(student.device.type, enabled=False):
            return [one(student) for one in self.maps]


def team_projections(student: nn.Module, teacher: nn.Module | None) -> TeamProjections | None:
    """The projections of a student of several teachers; None with one teacher."""
    if not isinstance(teacher, TeacherTeam):
        return None
    return TeamProjections(int(student.embedding_dim), teacher)  # type: ignore[arg-type]


def weighted(compared: list[Compared], distance: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """(N,) distances to one teacher, or their weighted mean over several."""
    parts = [one.weight * distance(one.student, one.teacher) for one in compared]
    return parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)


@torch.no_grad()
def mean_agreement(compared: list[Compared]) -> Tensor | None:
    """(N,) cosine of student and teacher, or its weighted mean over several; None where widths differ."""
    if any(one.student.shape != one.teacher.shape for one in compared):
        return None
    return weighted(compared, _cosines)


@torch.no_grad()
def cosines_by_teacher(compared: list[Compared]) -> dict[str, Tensor]:
    """Mean cosine () of student and each teacher, as "cosine_<name>" for the logs; empty with one teacher."""
    if len(compared) == 1:
        return {}
    return {f"cosine_{one.name}": global_mean(_cosines(one.student, one.teacher)) for one in compared}


@torch.no_grad()
def gaps_by_teacher(student: Tensor, team: TeacherTeam, embeddings: Tensor) -> dict[str, Tensor]:
    """How far the student's pairwise cosines are from each teacher's, as "cosine_gap_<name>" for the logs.

    Args:
        student: (N, D), gathered.
        team: The teachers.
        embeddings: (N, sum of widths) of the team, gathered.

    Returns:
        Mean absolute differences () in [0, 2] over all pairs.
    """
    with torch.autocast(student.device.type, enabled=False):
        units = [F.normalize(part.float()) for part in (student, *team.split(embeddings))]
        own, *theirs = (unit @ unit.T for unit in units)
    return {
        f"cosine_gap_{name}": (own - other).abs().mean()
        for name, other in zip(team.names, theirs, strict=True)
    }


def _cosines(student: Tensor, teacher: Tensor) -> Tensor:
    return F.cosine_similarity(at_least_float32(student), at_least_float32(teacher))
