"""Methods that compare embeddings: formula, labels when wanted, two processes as one."""

from __future__ import annotations

import functools

import pytest
import torch

from facedistill.errors import ConfigError
from facedistill.losses.embedding import cosine_loss, embedding_mse
from facedistill.methods.cosine import Cosine
from facedistill.methods.embedding_mse import EmbeddingMSE
from facedistill.methods.shrinkteanet import ShrinkTeaNet
from facedistill.methods.weighted_sum import WeightedSum
from facedistill.types import FaceBatch
from tests.methods.small_methods import faces, overfit, small


def _cos(a, b):
    return (a * b).sum() / a.norm() / b.norm()


BY_HAND = {
    EmbeddingMSE: ("mse", lambda s, t: ((s - t) ** 2).sum() / 6),
    Cosine: ("cosine_distance", lambda s, t: 1 - _cos(s, t)),
    ShrinkTeaNet: ("angular", lambda s, t: (1 - _cos(s, t)) ** 2),
}


@pytest.mark.parametrize("method", BY_HAND, ids=lambda method: method.__name__)
def test_formula_and_gradient(method):
    name, formula = BY_HAND[method]
    instance, batch = small(method, head=True, identity_weight=0.5, weight=3.0), faces()
    output = instance.distill(batch)
    student, teacher = instance.student(batch.images), instance.teacher(batch.images)
    own = sum(formula(s, t) for s, t in zip(student, teacher, strict=True)) / 8
    logits = (
        4 * torch.nn.functional.normalize(student) @ torch.nn.functional.normalize(instance.head.weight).T
    )
    logits = torch.stack(
        [row - 0.4 * (torch.arange(5) == y) for row, y in zip(logits, batch.labels, strict=True)]
    )
    identity = sum(torch.logsumexp(z, 0) - z[y] for z, y in zip(logits, batch.labels, strict=True)) / 8
    assert output.terms[name].item() == pytest.approx(own.item(), rel=1e-5)
    assert output.terms["identity"].item() == pytest.approx(identity.item(), rel=1e-5)
    parameters = [*instance.student.parameters(), instance.head.weight]
    found = torch.autograd.grad(output.loss, parameters)
    expected = torch.autograd.grad(0.5 * identity + 3 * own, parameters)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    cosines = torch.stack([_cos(s, t) for s, t in zip(student, teacher, strict=True)])
    assert torch.allclose(output.agreement, cosines, atol=1e-6)
    assert not output.agreement.requires_grad


@pytest.mark.parametrize("method", BY_HAND, ids=lambda method: method.__name__)
def test_without_identity_loss_no_label_is_needed(method):
    assert not method.requirements_with({"identity_weight": 0}).labels
    assert method.requirements_with({"identity_weight": 1.0}).labels
    instance = small(method, identity_weight=0)
    output = instance.distill(FaceBatch(images=faces(images=1).images))
    assert set(output.terms) == {BY_HAND[method][0]}
    assert output.loss.shape == ()
    kept = FaceBatch(images=faces(1).images, teacher_embeddings=torch.ones(1, 6))
    assert instance.distill(kept).agreement.shape == (1,)
    first, last = overfit(instance, 200, faces())
    assert last < 0.05 * first


LOSSES = {
    "mse": {"weight": 2.0, "loss": embedding_mse},
    "cosine": {"loss": functools.partial(cosine_loss)},
}


class _Scaled(torch.nn.Module):
    """A loss with a parameter, that gives one value per image."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(()))

    def forward(self, student, teacher):
        return (self.factor * student - teacher).square().sum(1)


def test_a_weighted_sum_is_the_sum_of_its_terms():
    batch = faces()
    instance = small(WeightedSum, losses=LOSSES)
    output = instance.distill(batch)
    assert list(output.terms) == ["mse", "cosine"]
    assert output.loss.item() == pytest.approx(2 * output.terms["mse"].item() + output.terms["cosine"].item())
    listed = [{"name": name, **item} for name, item in LOSSES.items()]
    assert small(WeightedSum, losses=listed).distill(batch).loss.item() == output.loss.item()
    names = {"terms": {"loss": cosine_loss}, "self": {"loss": cosine_loss}}
    assert small(WeightedSum, losses=names).distill(batch).terms.keys() == names.keys()
    learned = small(WeightedSum, losses={"own": {"loss": _Scaled()}}, head=True, identity_weight=1.0)
    output = learned.distill(batch)
    output.loss.backward()
    assert list(output.terms) == ["identity", "own"]
    assert "learned_losses.0.factor" in dict(learned.named_parameters())
    assert learned.learned_losses[0].factor.grad.abs() > 0


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ({}, "method.losses: is empty; name at least one loss with its _target_ and weight"),
        ([], "method.losses: is empty; name at least one loss with its _target_ and weight"),
        (None, "method.losses: is empty; name at least one loss with its _target_ and weight"),
        (
            [{"name": "a", "loss": cosine_loss}, {"name": "a", "loss": cosine_loss}],
            "method.losses: two losses are named a; give each its own name",
        ),
        (
            {"identity": {"loss": cosine_loss}},
            "method.losses: two losses are named identity; give each its own name",
        ),
        (
            {"loss": {"loss": cosine_loss}},
            "method.losses: two losses are named loss; give each its own name",
        ),
        (
            {"a": {"weight": 1.0}},
            "method.losses.a: needs a loss with a _target_, and _partial_: true if that is a function",
        ),
        (
            [{"weight": 1.0}],
            "method.losses: an item of the list has no name, got {'weight': 1.0}; give it a name",
        ),
    ],
)
def test_a_sum_that_is_none_is_refused(losses, message):
    with pytest.raises(ConfigError) as error:
        small(WeightedSum, losses=losses)
    assert str(error.value) == message
