"""EKD's thresholds and ranks against loops over pairs and thresholds, written from methods.md section 2.2."""

from __future__ import annotations

import math

import pytest
import torch

from facedistill.distributed import collectives
from facedistill.losses.rank_thresholds import RankThresholds
from facedistill.losses.ranks import rank_losses, score_pairs, soft_rank, thresholds_at, weighted_sums
from tests.helpers.random_tensors import cosine, random_embeddings, random_labels

FARS = (1e-1, 1e-2, 1e-3)


def _labeled_embeddings(size=12, identities=4, seed=0, dtype=torch.float64):
    student, teacher = random_embeddings(size, (5, 7), seed=seed, dtype=dtype)
    return student, teacher, random_labels(size, identities, seed=seed)


def _slow_thresholds(embeddings, labels, fars, queue=None, queue_labels=None):
    scores = [
        cosine(embeddings[i], embeddings[j]).item()
        for i in range(len(labels)) for j in range(i + 1, len(labels)) if labels[i] != labels[j]
    ]  # fmt: skip
    for other, label in zip(queue or [], queue_labels or [], strict=True):
        scores += [cosine(e, other).item() for e, own in zip(embeddings, labels, strict=True) if own != label]
    scores.sort(reverse=True)
    return [scores[len(scores) // round(1 / far)] for far in fars]


def _slow_losses(student, teacher, labels, ours, theirs, hardest, temperature):
    def rank(score, thresholds):
        total = 0
        for t in thresholds:
            exponent = ((score - t) / temperature).clamp(-50, 50)
            total = total + 1 / (1 + torch.exp(-exponent))
        return total

    genuine, impostor = [], []
    for i in range(len(labels)):
        for j in range(i + 1, len(labels)):
            score = cosine(student[i], student[j])
            error = (rank(score, ours) - rank(cosine(teacher[i], teacher[j]), theirs)) ** 2
            if labels[i] == labels[j]:
                genuine.append(error)
            else:
                impostor.append((score.item(), error))
    impostor = [error for _, error in sorted(impostor, key=lambda pair: -pair[0])[:hardest]]
    return tuple(sum(part) / len(part) if part else student.sum() * 0 for part in (genuine, impostor))


def _fast_losses(student, teacher, labels, ours, theirs, hardest, temperature):
    pairs = score_pairs(student, teacher, labels)
    top = pairs.impostor_scores(pairs.student)
    top = top.topk(min(hardest, len(top))).indices
    return rank_losses(pairs, top, ours, theirs, temperature=temperature)


@pytest.mark.parametrize("hardest", [1, 7, 10_000])
@pytest.mark.parametrize("identities", [1, 4, 10_000])
def test_losses_and_gradients_are_those_of_the_loop(hardest, identities):
    student, teacher, labels = _labeled_embeddings(identities=identities)
    student.requires_grad_()
    thresholds = torch.linspace(-0.2, 0.6, 4, dtype=torch.float64), torch.linspace(-0.3, 0.5, 4).double()
    found = _fast_losses(student, teacher, labels, *thresholds, hardest, 0.05)
    slow = _slow_losses(student, teacher, labels, *thresholds, hardest, 0.05)
    for one, other in zip(found, slow, strict=True):
        assert one.item() == pytest.approx(float(torch.as_tensor(other).detach()), abs=1e-12)
        gradient, expected = (
            torch.autograd.grad(loss, student, retain_graph=True)[0] for loss in (one, other)
        )
        assert torch.allclose(gradient, expected, atol=1e-10)
    if identities == 4:
        assert min(found[0].item(), found[1].item()) > 1e-3


def test_gradcheck():
    student, teacher, labels = _labeled_embeddings(size=6, identities=2)
    thresholds = torch.linspace(-0.2, 0.6, 3).double()

    def losses(embeddings):
        return _fast_losses(embeddings, teacher, labels, thresholds, thresholds, 4, 0.1)

    assert torch.autograd.gradcheck(losses, (student.requires_grad_(),))


def test_identical_networks_agree_and_the_teacher_gets_no_gradient():
    student, _, labels = _labeled_embeddings()
    student.requires_grad_()
    teacher = student.detach().clone().requires_grad_()
    thresholds = torch.tensor([0.1, 0.3]).double()
    genuine, impostor = _fast_losses(student, teacher, labels, thresholds, thresholds, 9, 0.01)
    assert genuine.item() == impostor.item() == 0
    (genuine + impostor).backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert not student.grad.any()


@pytest.mark.parametrize("labels", [[0], [0, 0], [0, 1], [0, 0, 0, 0]])
def test_absent_pairs_are_zero_and_never_nan(labels):
    student, teacher, _ = _labeled_embeddings(size=len(labels))
    student.requires_grad_()
    tracker = RankThresholds((0.1,)).double()
    pairs = score_pairs(student, teacher, torch.tensor(labels))
    hardest, count = tracker.update(pairs, 2000)
    genuine, impostor = rank_losses(pairs, hardest, tracker.student, tracker.teacher)
    expected = sum(labels[i] != labels[j] for i in range(len(labels)) for j in range(i))
    assert int(count) == expected
    assert bool(tracker.student.any()) == bool(tracker.updates) == (expected > 0)
    assert (genuine > 0) == (len(labels) - expected > 1)
    (genuine + impostor).backward()
    assert student.grad.isfinite().all()


def test_bf16_and_autocast_compute_in_float32():
    student, teacher, labels = _labeled_embeddings(dtype=torch.bfloat16)
    student.requires_grad_()
    thresholds = torch.tensor([0.1, 0.3])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = _fast_losses(student, teacher, labels, thresholds, thresholds, 9, 0.01)
    expected = _fast_losses(student.float(), teacher.float(), labels, thresholds, thresholds, 9, 0.01)
    for one, other in zip(losses, expected, strict=True):
        assert one.dtype == torch.float32
        assert one.item() == pytest.approx(other.item(), rel=1e-6)
    sum(losses).backward()
    assert student.grad.dtype == torch.bfloat16
    assert student.grad.isfinite().all()


def test_soft_rank_counts_thresholds():
    ranks = soft_rank(torch.tensor([-0.5, 0.2, 0.25, 0.9]), torch.tensor([0.0, 0.2, 0.4]), 1e-3)
    assert torch.allclose(ranks, torch.tensor([0.0, 1.5, 2.0, 3.0]), atol=1e-6)
    hostile = torch.tensor([1e4, -1e4], requires_grad=True)
    soft_rank(hostile, torch.tensor([0.0]), 1e-8).sum().backward()
    assert hostile.grad.isfinite().all()


def test_soft_rank_has_the_value_and_the_gradient_of_its_formula():
    scores = torch.linspace(-1, 1, 401, dtype=torch.float64).requires_grad_()
    thresholds, weights = torch.tensor([-0.2, 0.1, 0.3]).double(), torch.linspace(-2, 3, 401).double()
    exponents = ((scores[:, None] - thresholds) / 0.02).clamp(-50, 50)  # some on either side of the limits
    formula = exponents.sigmoid().sum(1)
    ranks = soft_rank(scores, thresholds, 0.02)
    torch.testing.assert_close(ranks, formula)
    torch.testing.assert_close(
        *(torch.autograd.grad(one, scores, weights)[0] for one in (ranks, formula)), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("count", [10, 19, 29, 30, 100, 12_345])
def test_places_are_those_of_integer_division(count):
    descending = torch.arange(count, 0, -1).double()
    found = thresholds_at(descending, torch.tensor(count), FARS)
    assert found.tolist() == [count - count // a for a in (10, 100, 1000)]


@pytest.mark.parametrize("warm_start", [False, True])
def test_thresholds_follow_batches(warm_start):
    tracker = RankThresholds(FARS, momentum=0.9, warm_start=warm_start).double()
    ours, theirs = [0.0] * 3, [0.0] * 3
    for step in range(4):
        student, teacher, labels = _labeled_embeddings(seed=step)
        tracker.update(score_pairs(student, teacher, labels), 5)
        kept = 0 if warm_start and step == 0 else 0.9
        ours = [
            kept * t + (1 - kept) * b
            for t, b in zip(ours, _slow_thresholds(student, labels, FARS), strict=True)
        ]
        theirs = [
            kept * t + (1 - kept) * b
            for t, b in zip(theirs, _slow_thresholds(teacher, labels, FARS), strict=True)
        ]
        assert tracker.student.tolist() == pytest.approx(ours, abs=1e-12)
        assert tracker.teacher.tolist() == pytest.approx(theirs, abs=1e-12)
    before = tracker.student.clone()
    student, teacher, labels = _labeled_embeddings(identities=1)
    tracker.update(score_pairs(student, teacher, labels), 5)
    assert torch.equal(tracker.student, before)
    assert int(tracker.updates) == 4


@pytest.mark.parametrize("size", [5, 12, 20, 36])
def test_a_queue_widens_the_impostor_pairs(size):
    tracker = RankThresholds(FARS, momentum=0.0, queue_size=size, student_dim=5, teacher_dim=7).double()
    past = []
    for step in range(5):
        student, teacher, labels = _labeled_embeddings(seed=step)
        pairs = score_pairs(student, teacher, labels)
        hardest, count = tracker.update(pairs, 5)
        kept = past[-size:]
        for found, own, column in ((tracker.student, student, 0), (tracker.teacher, teacher, 1)):
            queue = [row[column] for row in kept]
            slow = _slow_thresholds(own, labels.tolist(), FARS, queue, [row[2] for row in kept])
            assert found.tolist() == pytest.approx(slow, abs=1e-9)
        expected = sum(int(a != b) for i, a in enumerate(labels) for b in labels[:i])
        expected += sum(int(a != row[2]) for a in labels for row in kept)
        assert int(count) == expected
        order = pairs.impostor_scores(pairs.student).argsort(descending=True)[:5]
        assert torch.equal(hardest, order)
        past += [(s, t, int(label)) for s, t, label in zip(student, teacher, labels, strict=True)]
    clone = RankThresholds(FARS, queue_size=size, student_dim=5, teacher_dim=7).double()
    clone.load_state_dict(tracker.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(clone.buffers(), tracker.buffers(), strict=True))


def test_the_queue_is_the_same_in_two_processes(monkeypatch):
    student, teacher, labels = _labeled_embeddings()
    size, gathered = (
        len(labels) - 3,
        torch.cat([torch.arange(0, len(labels), 2), torch.arange(1, len(labels), 2)]),
    )
    queues = []
    for rows, world_size in ((torch.arange(len(labels)), 1), (gathered, 2)):
        monkeypatch.setattr(collectives, "world_size", lambda number=world_size: number)
        tracker = RankThresholds(FARS, queue_size=size, student_dim=5, teacher_dim=7).double()
        tracker.update(score_pairs(student[rows], teacher[rows], labels[rows]), 5)
        queues.append((tracker.queue_student, tracker.queue_teacher, tracker.queue_labels))
    assert all(torch.equal(one, other) for one, other in zip(*queues, strict=True))


def test_rates_below_one_pair_are_unresolved():
    tracker = RankThresholds((1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6))
    assert tracker.unresolved(130_432) == [1e-6]
    assert tracker.unresolved(1_968) == [1e-4, 1e-5, 1e-6]
    assert tracker.unresolved(10**6) == []
    assert math.isclose(tracker.unresolved(9)[0], 0.1)


@pytest.mark.parametrize(("count", "far", "place"), [
    (999_999, 1e-6, 0), (1_000_000, 1e-6, 1), (2_999_999, 1e-6, 2), (100, 0.29, 29), (30, 0.1, 3), (29, 0.1, 2),
])  # fmt: skip
def test_a_threshold_is_at_the_floor_of_the_rate_times_the_pairs(count, far, place):
    descending = torch.arange(40, 0, -1) / 40
    assert thresholds_at(descending, torch.tensor(count), [far]).item() == descending[place].item()
    assert RankThresholds([far]).unresolved(count) == ([far] if place == 0 else [])


def test_weighted_sums_are_those_of_the_pairs_dense_or_sparse():
    unit, _, _ = _labeled_embeddings(size=6)
    pairs = [(0, 1), (1, 2), (0, 1), (2, 5)]  # one comes twice
    positions = torch.tensor([6 * i + j for i, j in pairs])
    weights = torch.tensor([0.5, -1.0, 2.0, 0.25], dtype=unit.dtype)
    expected = torch.zeros_like(unit)
    for (i, j), weight in zip(pairs, weights, strict=True):
        expected[i] += weight * unit[j]
        expected[j] += weight * unit[i]
    for dense in (False, True):
        assert torch.allclose(weighted_sums(unit, positions, weights, dense=dense), expected)
