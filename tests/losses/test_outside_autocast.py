"""Autocast around a loss changes nothing: no matrix product of float32 falls to half precision."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from facedistill.losses import (
    contrastive,
    groups,
    logits,
    mined,
    pair_distributions,
    ranks,
    relations,
    relations_to_centers,
    rkd,
    triplets,
)
from facedistill.losses.grouping import Grouping

SEEDED = torch.Generator().manual_seed(0)
STUDENT, NOISE = (torch.randn(24, 64, generator=SEEDED) for _ in range(2))
TEACHER, LABELS = STUDENT + 0.5 * NOISE, torch.arange(24) % 6
CENTERS = F.normalize(torch.randn(40, 64, generator=SEEDED))
LOGITS, OTHERS = (20 * torch.randn(24, 40, generator=SEEDED) for _ in range(2))
NEAREST = torch.arange(24 * 20).view(24, 20) % 40


def _ranks(student):
    pairs = ranks.score_pairs(student, TEACHER, LABELS)
    return torch.stack(
        ranks.rank_losses(pairs, torch.arange(50), torch.tensor([0.1, 0.3]), torch.tensor([0.1, 0.2]))
    )


def _ddl(hard, easy):
    return torch.stack(list(pair_distributions.ddl_terms(easy, hard).values()))


LOSSES = {
    "sp": lambda s: relations.sp_loss(s, TEACHER),
    "pkt": lambda s: relations.pkt_loss(s, TEACHER),
    "cckd": lambda s: relations.cckd_loss(s, TEACHER),
    "darkrank": lambda s: relations.darkrank_loss(s, TEACHER),
    "rkd distance": lambda s: rkd.rkd_distance_loss(s, TEACHER),
    "rkd angle": lambda s: rkd.rkd_angle_loss(s, TEACHER),
    "triplets": lambda s: triplets.triplet_distillation(s, TEACHER, LABELS),
    "relation excess": lambda s: relations_to_centers.relation_excess(s, TEACHER, CENTERS[NEAREST]),
    "ddl": lambda s: _ddl(
        pair_distributions.labeled_pairs(s, LABELS), pair_distributions.labeled_pairs(TEACHER, LABELS)
    ),
    "ddl views": lambda s: _ddl(*(pair_distributions.pairs_with_anchors(e, TEACHER) for e in (s, s + NOISE))),
    "iled": lambda s: mined.instance_distillation(s, TEACHER),
    "rpsd": lambda s: mined.pair_similarity_distillation(s, TEACHER, NOISE, TEACHER.flip(0), num_pairs=9),
    "shared bank": lambda s: contrastive.bank_scores(s, TEACHER, CENTERS),
    "bank per image": lambda s: contrastive.bank_scores(s, TEACHER, CENTERS[NEAREST]),
    "ekd": _ranks,
    "kd": lambda s: logits.kd(LOGITS + s[:, :40], OTHERS),
    "dkd": lambda s: logits.dkd(LOGITS + s[:, :40], OTHERS, LABELS),
    "gkd": lambda s: groups.gkd(LOGITS + s[:, :40], OTHERS, LABELS, Grouping(size=9)),
}


def _found(loss):
    student = STUDENT.clone().requires_grad_()
    value = loss(student)
    value.sum().backward()
    return value.detach(), student.grad


@pytest.mark.parametrize("name", LOSSES)
def test_autocast_changes_neither_loss_nor_gradient(name):
    value, gradient = _found(LOSSES[name])
    student = STUDENT.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = LOSSES[name](student)
    half.sum().backward()
    assert half.dtype == torch.float32
    assert torch.equal(half, value)
    assert torch.equal(student.grad, gradient)
    assert gradient.abs().sum() > 0


def test_autocast_does_not_change_who_is_nearest():
    alike = F.normalize(CENTERS[:1] + 1e-3 * CENTERS)  # cosines that bfloat16 cannot tell apart
    plain = relations_to_centers.nearest_identities(TEACHER, LABELS, alike, 20)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(relations_to_centers.nearest_identities(TEACHER, LABELS, alike, 20), plain)
