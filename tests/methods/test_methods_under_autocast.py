"""What methods keep by hand, and what they compare, is float32 whatever precision the networks run in."""

from __future__ import annotations

from dataclasses import replace

import torch

from facedistill.methods.coupleface import CoupleFace
from facedistill.methods.crd import CRD
from facedistill.methods.refo import ReFO
from facedistill.methods.weighted_sum import WeightedSum
from tests.methods.small_methods import D, at_progress, faces, small
from tests.methods.test_bank_methods import CENTERS, CRD_SMALL


def _batch():
    embeddings = torch.randn(8, D, generator=torch.Generator().manual_seed(2))
    return replace(faces(), teacher_embeddings=embeddings)


def _half(method, batch):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return method.distill(batch)


def test_crds_bank_of_the_teacher_does_not_depend_on_autocast():
    plain, half = (small(CRD, **CRD_SMALL) for _ in range(2))
    plain.distill(_batch())
    _half(half, _batch())
    assert torch.equal(half.teacher_bank.vectors, plain.teacher_bank.vectors)


def test_coupleface_centers_do_not_depend_on_autocast():
    arguments = {"centers": CENTERS, "num_relations": 2, "identity_weight": 0}
    plain, half = (small(CoupleFace, **arguments) for _ in range(2))
    plain.distill(_batch())
    _half(half, _batch())
    assert torch.equal(half.centers, plain.centers)


def test_refos_adapter_starts_as_the_identity_under_autocast_too():
    output = _half(at_progress(small(ReFO), 0.35), _batch())
    assert output.terms["stay"].item() == 0


def test_a_sum_gives_its_losses_float32_outside_autocast():
    seen = []

    def watched(student, teacher):
        seen.append((student.dtype, teacher.dtype, torch.is_autocast_enabled("cpu")))
        return (student - teacher).square().mean()

    batch = replace(_batch(), teacher_embeddings=_batch().teacher_embeddings.bfloat16())
    _half(small(WeightedSum, losses={"watched": {"loss": watched}}), batch)
    assert seen == [(torch.float32, torch.float32, False)]
