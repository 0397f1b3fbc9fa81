"""RKD, SP, PKT, CCKD and DarkRank as methods."""

from __future__ import annotations

import functools
import inspect

import pytest
import torch
from omegaconf import OmegaConf

import facedistill.losses.relations as relations
from facedistill.config.signature import problems
from facedistill.errors import ConfigError
from facedistill.losses.rkd import rkd_angle_loss, rkd_distance_loss
from facedistill.methods.cckd import CCKD
from facedistill.methods.darkrank import DarkRank
from facedistill.methods.ekd import EKD
from facedistill.methods.pkt import PKT
from facedistill.methods.rkd import RKD
from facedistill.methods.sp import SP
from facedistill.system.paths import config_dir
from facedistill.types import Offers
from tests.helpers.random_tensors import random_batch
from tests.helpers.tiny_networks import PlainHead, PlainStudent, TinyTeacher
from tests.methods.small_methods import overfit

METHODS = [RKD, SP, PKT, CCKD, DarkRank]


def _method(kind, dim=6, **arguments):
    torch.manual_seed(0)
    arguments = {"identity_weight": 0, **arguments}
    head = PlainHead(num_identities=4, embedding_dim=dim) if arguments["identity_weight"] else None
    adam = functools.partial(torch.optim.Adam, lr=1e-2)
    return kind(
        student=PlainStudent(dim), teacher=TinyTeacher(), optimizer=adam, head=head, **arguments
    ).double()


EXPECTED = {
    RKD: lambda s, t: 25 * rkd_distance_loss(s, t) + 50 * rkd_angle_loss(s, t),
    SP: relations.sp_loss,
    PKT: relations.pkt_loss,
    CCKD: relations.cckd_loss,
    DarkRank: relations.darkrank_loss,
}


@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize("dim", [6, 4])
def test_without_an_identity_loss_no_label_is_needed(kind, dim):
    method, batch = _method(kind, dim=dim, weight=3.0), random_batch()
    output = method.distill(batch)
    student, teacher = method.student(batch.images), method.teacher(batch.images)
    assert output.loss.item() == pytest.approx(3 * EXPECTED[kind](student, teacher).item(), rel=1e-10)
    if dim == 6:
        assert torch.allclose(output.agreement, torch.cosine_similarity(student, teacher))
        assert not output.agreement.requires_grad
    else:
        assert output.agreement is None
    output.loss.backward()
    assert all(p.grad.any() for p in method.student.parameters())
    assert kind.requirements_with({"identity_weight": 0}).missing(Offers()) == []
    assert kind.requirements_with({}).missing(Offers()) == ["labels"]


@pytest.mark.parametrize("kind", METHODS)
def test_each_can_be_learned(kind):
    first, last = overfit(_method(kind, weight=1.0), 150, random_batch())
    assert last < (0.9 if kind is DarkRank else 0.2) * first  # a likelihood has a floor


def test_a_term_of_weight_zero_is_not_computed():
    assert set(_method(RKD, angle_weight=0.0).distill(random_batch()).terms) == {"distance"}
    assert set(_method(RKD).distill(random_batch()).terms) == {"distance", "angle"}


def test_what_cannot_teach_is_refused():
    with pytest.raises(ConfigError) as error:
        _method(CCKD, orders=[0])
    assert str(error.value) == "method.orders: [0] has no order above 0; give [0, 1, 2] as in the paper"
    with pytest.raises(ConfigError) as error:
        _method(DarkRank, list_length=1)
    assert str(error.value) == "method.list_length: 1 leaves nothing to order; give 2 or more"


@pytest.mark.parametrize("kind", [EKD, *METHODS])
def test_the_yaml_says_what_the_class_does_by_itself(kind):
    node = OmegaConf.load(config_dir() / "method" / f"{kind.__name__.lower()}.yaml")
    node.pop("defaults", None)
    assert problems("method", OmegaConf.to_container(node)) == []
    assert node.pop("_target_") == f"{kind.__module__}.{kind.__name__}"
    assert node.pop("identity_weight") == 1.0
    defaults = {
        name: list(p.default) if isinstance(p.default, tuple) else p.default
        for name, p in inspect.signature(kind.__init__).parameters.items()
        if p.kind is p.KEYWORD_ONLY
    }
    assert OmegaConf.to_container(node) == defaults
