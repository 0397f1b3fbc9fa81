"""DDL against loops over pairs and nodes, and against the formula of TFace's code."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from facedistill.losses.pair_distributions import (
    PairSimilarities,
    ddl_terms,
    distribution_divergence,
    labeled_pairs,
    pairs_with_anchors,
    soft_histogram,
)
from tests.helpers.random_tensors import cosine, random_embeddings

LABELS = torch.tensor([0, 1, 0, 2, 1, 0])


def _slow_pairs(embeddings, labels):
    """Similarities of the pairs as lists, found image by image."""
    genuine, impostor, size = [], [], len(labels)
    for i in range(size):
        after = [j % size for j in range(i + 1, i + size) if labels[j % size] == labels[i]]
        if after:
            genuine.append(cosine(embeddings[i], embeddings[after[0]]))
        others = [cosine(embeddings[i], embeddings[j]) for j in range(size) if labels[j] != labels[i]]
        if others:
            impostor.append(max(others))
    return genuine, impostor


def _slow_histogram(similarities, nodes, width):
    places = [-1 + 2 * r / (nodes - 1) for r in range(nodes)]
    masses = [sum(torch.exp(-((s - t) ** 2) / (2 * width**2)) for s in similarities) for t in places]
    return [mass / sum(masses) for mass in masses]


def _slow_terms(easy, hard, nodes, width):
    found = []
    for p, q in zip(easy, hard, strict=True):
        p, q = (_slow_histogram(side, nodes, width) for side in (p, q))
        found.append(sum((a + 1e-9) * torch.log((a + 1e-9) / (b + 1e-9)) for a, b in zip(p, q, strict=True)))
    sides = [tuple(sum(s) / len(s) for s in side) for side in (easy, hard)]
    return [*found, sum(p[1] - q[0] for p in sides for q in sides)]


def _terms(student, teacher, labels=LABELS, **settings):
    return ddl_terms(labeled_pairs(teacher, labels), labeled_pairs(student, labels), **settings)


def test_terms_and_gradients_are_those_of_the_loop():
    student, teacher = random_embeddings(6)
    student.requires_grad_()
    found = torch.stack(list(_terms(student, teacher, nodes=9, width=0.2).values()))
    expected = torch.stack(
        _slow_terms(_slow_pairs(teacher, LABELS), _slow_pairs(student, LABELS), nodes=9, width=0.2)
    )
    assert found.tolist() == pytest.approx(expected.tolist(), abs=1e-9)
    for ours, theirs in zip(found, expected, strict=True):
        gradients = [torch.autograd.grad(value, student, retain_graph=True)[0] for value in (ours, theirs)]
        assert gradients[0].abs().max() > 1e-3
        assert torch.allclose(*gradients, atol=1e-7)


def test_gradcheck():
    student, teacher = random_embeddings(6)
    loss = lambda s: tuple(_terms(s, teacher, nodes=9, width=0.2).values())  # noqa: E731
    assert torch.autograd.gradcheck(loss, (student.requires_grad_(),))


def test_the_histogram_is_that_of_tface_on_its_nodes():
    similarities = torch.tensor([0.2, 0.55, 0.9], dtype=torch.float64)
    nodes = soft_histogram(similarities, torch.ones(3).double(), nodes=2001)[1000:-1]  # 0 to 0.999 by 0.001
    places = torch.arange(0, 1, 0.001, dtype=torch.float64)
    released = torch.exp(-0.5 * ((similarities[:, None] - places) / 0.1) ** 2).sum(0)
    assert torch.allclose(nodes / nodes.sum(), released / released.sum())


def test_distributions_that_are_one_lose_nothing_and_narrow_gaussians_what_theory_says():
    places = torch.linspace(-1, 1, 2001, dtype=torch.float64)
    one, other = (F.softmax(-0.5 * ((places - mean) / 0.1) ** 2, 0) for mean in (0.1, 0.3))
    assert distribution_divergence(one, one) == 0
    assert distribution_divergence(one, other).item() == pytest.approx(0.2**2 / (2 * 0.1**2), rel=1e-3)


def test_pairs_with_anchors_need_no_label():
    student, anchors = random_embeddings(5, dims=(4, 4))
    pairs = pairs_with_anchors(student, anchors)
    for i in range(5):
        others = [cosine(student[i], student[j]).item() for j in range(5) if j != i]
        assert pairs.genuine[i].item() == pytest.approx(cosine(student[i], anchors[i]).item())
        assert pairs.impostor[i].item() == pytest.approx(max(others))


def test_order_rewards_genuine_above_impostor():
    def side(genuine, impostor):
        ones = torch.ones(2)
        return PairSimilarities(torch.tensor(genuine), ones, torch.tensor(impostor), ones)

    order = ddl_terms(side([0.9, 0.7], [0.1, 0.3]), side([0.5, 0.5], [0.4, 0.4]))["order"]
    assert order.item() == pytest.approx(2 * (0.2 + 0.4) - 2 * (0.8 + 0.5))


@pytest.mark.parametrize("labels", [[0], [0, 0, 0], [0, 1, 2]])
def test_batches_without_a_kind_of_pair_are_finite(labels):
    student, teacher = (e.bfloat16() for e in random_embeddings(len(labels)))
    student.requires_grad_()
    terms = _terms(student, teacher, torch.tensor(labels))
    sum(terms.values()).backward()
    assert student.grad.isfinite().all()
    assert all(math.isfinite(value.item()) and value.dtype == torch.float32 for value in terms.values())
    if labels == [0]:
        assert [value.item() for value in terms.values()] == [0, 0, 0]
