"""supervised, proxyless, margin_distillation and adadistill against per-image loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from facedistill.errors import ConfigError
from facedistill.methods.adadistill import AdaDistill
from facedistill.methods.margin_distillation import MarginDistillation
from facedistill.methods.proxyless import Proxyless
from facedistill.methods.supervised import Supervised
from facedistill.models.heads import ArcFaceHead, CosFaceHead
from facedistill.types import FaceBatch, Offers
from tests.helpers.random_tensors import cosine

K, D, N = 4, 6, 8


class Flat(nn.Module):
    """A frozen or learning linear map from 3 x 2 x 2 "faces", D = 6."""

    embedding_dim = D

    def __init__(self, seed, *, learns):
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(
            torch.randn(12, D, generator=draw, dtype=torch.double), requires_grad=learns
        )

    def forward(self, images):
        return images.flatten(1) @ self.weight.to(images.dtype)


def _parts():
    return {"student": Flat(1, learns=True), "teacher": Flat(2, learns=False), "optimizer": torch.optim.SGD}


def _batch(chosen=slice(None), **changes):
    draw = torch.Generator().manual_seed(5)
    images = torch.rand(N, 3, 2, 2, generator=draw, dtype=torch.double)
    labels = torch.tensor([0, 1, 3, 1, 2, 0, 1, 3])
    return FaceBatch(**{"images": images[chosen], "labels": labels[chosen], **changes})


def _centers():
    return nn.functional.normalize(
        torch.randn(K, D, dtype=torch.double, generator=torch.Generator().manual_seed(3))
    )


def _head(kind=ArcFaceHead):
    torch.manual_seed(4)
    return kind(num_identities=K, embedding_dim=D, init_std=1.0).double()


def _adadistill(**arguments):
    torch.manual_seed(6)
    return (
        AdaDistill(**_parts(), num_identities=K, embedding_dim=D, **{"init_std": 1.0, **arguments})
        .double()
        .train()
    )


def _cross_entropy(student, centers, labels, margins, kind="arcface"):
    losses = []
    for f, y, m in zip(student, labels.tolist(), margins, strict=True):
        cosines = [cosine(f, w) for w in centers]
        if kind == "cosface":
            own = cosines[y] - m
        elif math.acos(cosines[y].item()) + m < math.pi:
            own = torch.cos(torch.acos(cosines[y]) + m)
        else:
            own = cosines[y] - m * math.sin(m)
        logits = 64 * torch.stack([own if k == y else c for k, c in enumerate(cosines)])
        losses.append(torch.logsumexp(logits, 0) - logits[y])
    return torch.stack(losses).mean()


def _same(method, found, expected):
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    wanted = [p for p in method.parameters() if p.requires_grad]
    for one, other in zip(
        torch.autograd.grad(found, wanted), torch.autograd.grad(expected, wanted), strict=True
    ):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-7)


def test_supervised_is_the_margin_softmax_and_never_asks_the_teacher():
    parts = _parts()
    parts["teacher"].forward = None
    method, batch = Supervised(**parts, head=_head()), _batch()
    output = method.distill(batch)
    expected = _cross_entropy(method.student(batch.images), method.head.weight, batch.labels, [0.5] * N)
    _same(method, output.loss, expected)
    assert [*output.terms] == ["identity"]
    required = Supervised.requirements_with({})
    assert (required.labels, required.teacher, required.identity_loss) == (True, False, True)
    with pytest.raises(ConfigError) as error:
        Supervised(**_parts(), identity_weight=0.0)
    assert str(error.value) == (
        "method.identity_weight: Supervised has no other loss than the head's; set it above 0, got 0.0"
    )


@pytest.mark.parametrize(
    ("kind", "margin", "name"), [(ArcFaceHead, 0.5, "arcface"), (CosFaceHead, 0.4, "cosface")]
)
def test_proxyless_classifies_the_student_by_the_teachers_centers(kind, margin, name):
    method, batch = Proxyless(**_parts(), head=_head(kind), centers=_centers()), _batch()
    expected = _cross_entropy(method.student(batch.images), _centers(), batch.labels, [margin] * N, name)
    _same(method, method.distill(batch).loss, expected)
    assert [name for name, p in method.named_parameters() if p.requires_grad] == ["student.weight"]
    assert Proxyless.requirements_with({}).missing(Offers()) == ["labels", "class_centers"]


def test_proxyless_needs_one_width():
    with pytest.raises(ConfigError, match=r"^backbone.embedding_dim: the teacher is 9 wide"):
        Proxyless(**_parts(), head=_head(), centers=torch.ones(K, 9))


def test_margin_distillation_takes_the_margin_from_the_teacher():
    method, batch = MarginDistillation(**_parts(), centers=_centers()).double(), _batch()
    teacher = method.teacher(batch.images)
    close = [max(0.0, cosine(t, _centers()[y]).item()) for t, y in zip(teacher, batch.labels, strict=True)]
    margins = [(0.5 - 0.2) / max(close) * d + 0.2 for d in close]
    assert max(margins) == pytest.approx(0.5)
    assert min(margins) == pytest.approx(0.2)  # an image farther than a right angle from its center
    expected = _cross_entropy(method.student(batch.images), _centers(), batch.labels, margins)
    output = method.distill(batch)
    assert output.loss.item() == pytest.approx(expected.item(), rel=1e-6)
    _same(method, output.loss, expected)
    assert output.terms["margin_rad"].item() == pytest.approx(sum(margins) / N)
    assert not [key for key in method.state_dict() if "centers" in key]


def test_margin_distillation_refuses_what_cannot_be():
    message = r"^method.most_margin_rad: expected at least least_margin_rad \(0.2\), got 0.1$"
    with pytest.raises(ConfigError, match=message):
        MarginDistillation(**_parts(), centers=_centers(), most_margin_rad=0.1)
    method = MarginDistillation(**_parts(), centers=torch.ones(K, 9))
    with pytest.raises(ConfigError) as error:
        method.distill(_batch(teacher_embeddings=torch.ones(N, 9)))
    assert str(error.value) == (
        "backbone.embedding_dim: the teacher is 9 wide, the student's embedding 6; set backbone.embedding_dim=9"
    )


@pytest.mark.parametrize("version", ["alpha", "alpha_prime"])
@pytest.mark.parametrize(("kind", "margin"), [("arcface", 0.45), ("cosface", 0.35)])
def test_adadistill_moves_the_centers_and_classifies_by_them(version, kind, margin):
    method, batch = _adadistill(version=version, margin_kind=kind, margin=margin), _batch()
    old = method.centers.clone()
    student, teacher = method.student(batch.images), method.teacher(batch.images)
    output = method.distill(batch)
    proposals = {y: [] for y in range(K)}
    for f, t, y in zip(student.detach(), teacher, batch.labels.tolist(), strict=True):
        alpha = cosine(f, t).item()
        if version == "alpha_prime":
            alpha *= min(max(cosine(old[y], t).item(), 1e-6), 1)
        alpha = min(max(alpha, 1e-6), 1)
        proposals[y].append(alpha * old[y] + (1 - alpha) * t / t.norm())
    centers = torch.stack([sum(proposals[y]) / len(proposals[y]) for y in range(K)])
    assert torch.allclose(method.centers, centers, atol=1e-9)
    expected = _cross_entropy(method.student(batch.images), centers, batch.labels, [margin] * N, kind)
    _same(method, output.loss, expected)
    assert torch.allclose(output.agreement, torch.cosine_similarity(student, teacher).detach())
    assert "centers" in method.state_dict()


def test_adadistill_keeps_centers_that_no_image_names_and_rests_in_evaluation():
    method = _adadistill()
    old = method.centers.clone()
    method.distill(_batch(slice(0, 1)))
    assert torch.equal(method.centers[1:], old[1:])
    assert not torch.equal(method.centers[0], old[0])
    moved = method.centers.clone()
    method.eval().distill(_batch())
    assert torch.equal(method.centers, moved)


def test_adadistill_needs_one_width():
    with pytest.raises(ConfigError) as error:
        AdaDistill(**_parts(), num_identities=K, embedding_dim=9)
    assert str(error.value) == (
        "backbone.embedding_dim: the teacher is 6 wide, the student's embedding 9; set backbone.embedding_dim=6"
    )
