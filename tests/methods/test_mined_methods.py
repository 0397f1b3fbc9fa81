"""DDL and ILED + RPSD as methods."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from facedistill.distributed import collectives
from facedistill.errors import ConfigError
from facedistill.losses import mined, pair_distributions
from facedistill.methods import ddl
from facedistill.methods.ddl import DDL
from facedistill.methods.iled_rpsd import ILEDRPSD
from facedistill.types import Offers
from tests.methods.small_methods import faces, small


def test_ddl_takes_the_easy_pairs_from_what_the_teacher_sees():
    batch = replace(faces(), teacher_images=faces(seed=1).images)
    method = small(DDL, identity_weight=0.0)
    output = method.distill(batch)
    easy, hard = (
        pair_distributions.labeled_pairs(network(images), batch.labels)
        for network, images in ((method.teacher, batch.teacher_images), (method.student, batch.images))
    )
    terms = pair_distributions.ddl_terms(easy, hard)
    expected = 0.1 * terms["genuine"] + 0.02 * terms["impostor"] + 0.5 * terms["order"]
    assert output.loss.item() == pytest.approx(expected.item())
    assert output.agreement.shape == (8,)


def _rank_major(rows: torch.Tensor) -> torch.Tensor:
    """What gathering returns in two processes, each with every second image."""
    return torch.cat([rows[0::2], rows[1::2]])


def test_ddl_takes_the_same_pairs_in_two_processes(monkeypatch):
    batch = replace(faces(), labels=torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]))
    alone = small(DDL, identity_weight=0.0).distill(batch)
    monkeypatch.setattr(collectives, "world_size", lambda: 2)
    for name in ("gather", "gather_constant"):
        monkeypatch.setattr(ddl, name, _rank_major)
    assert small(DDL, identity_weight=0.0).distill(batch).loss.item() == pytest.approx(alone.loss.item())


def test_ddl_on_views_needs_no_label_and_teaches_both_views():
    batch = replace(faces(), labels=None, teacher_images=faces(seed=1).images)
    method = small(DDL, identity_weight=0.0, pairs="views")
    output = method.distill(batch)
    output.loss.backward()
    assert all(p.grad.any() for p in method.student.parameters())
    alike = small(DDL, identity_weight=0.0, pairs="views").distill(
        replace(batch, teacher_images=batch.images)
    )
    assert alike.terms["genuine"].item() == pytest.approx(0, abs=1e-6)
    assert output.terms["genuine"] > 1e-4
    assert DDL.requirements_with({"pairs": "views", "identity_weight": 0}).missing(Offers()) == []
    assert DDL.requirements_with({"pairs": "views"}).labels
    assert DDL.requirements_with({"identity_weight": 0}).missing(Offers()) == ["labels"]


def test_ddl_on_views_refuses_a_single_view():
    with pytest.raises(ConfigError, match=r"method.pairs=views: .* set data.source.teacher_view=clean"):
        small(DDL, identity_weight=0.0, pairs="views").distill(faces())


def test_rpsd_compares_with_the_batches_before():
    method = small(ILEDRPSD, identity_weight=0.0, num_pairs=12, bank_size=8, weight=2.0)
    batches = [replace(faces(seed=seed), labels=None) for seed in (0, 1)]
    method.distill(batches[0])
    bank = [torch.nn.functional.normalize(net(batches[0].images)) for net in (method.student, method.teacher)]
    output = method.distill(batches[1])
    student, teacher = method.student(batches[1].images), method.teacher(batches[1].images)
    pairs = mined.pair_similarity_distillation(student, teacher, *bank, num_pairs=12)
    assert output.loss.item() == pytest.approx(
        2 * (pairs + mined.instance_distillation(student, teacher)).item(), rel=1e-5
    )
