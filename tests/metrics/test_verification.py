"""Verification metrics against brute force over all thresholds and scikit-learn."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import beta
from sklearn.metrics import roc_auc_score, roc_curve
from torch import Tensor

from facedistill.metrics.operating import tars_at_fars
from facedistill.metrics.verification import auc, eer, roc, tenfold_accuracy, verification_summary


def tied_scores(seed: int, genuine: int = 60, impostor: int = 90) -> tuple[Tensor, Tensor]:
    """Scores in steps of 0.05, so that ties occur within and across both kinds."""
    generator = torch.Generator().manual_seed(seed)
    g = torch.randn(genuine, generator=generator, dtype=torch.float64) * 0.3 + 0.5
    i = torch.randn(impostor, generator=generator, dtype=torch.float64) * 0.3
    return (g * 20).round() / 20, (i * 20).round() / 20


def every_threshold(scores: Tensor) -> list[float]:
    """A threshold at, between, below and above all scores: nothing else decides differently."""
    distinct = sorted(set(scores.tolist()))
    between = [(a + b) / 2 for a, b in pairwise(distinct)]
    return [distinct[0] - 1, *distinct, *between, distinct[-1] + 1]


def rate(scores: Tensor, threshold: float) -> float:
    return sum(score >= threshold for score in scores.tolist()) / len(scores)


def slow_best_accuracies(score: Tensor, same: Tensor, fold: Tensor) -> list[float]:
    """The best accuracy on the other folds, per fold, over all thresholds."""
    best = []
    for held_out in sorted(set(fold.tolist())):
        other = fold != held_out
        s, y = score[other], same[other]
        best.append(max(((s >= t) == y).double().mean().item() for t in every_threshold(s)))
    return best


@pytest.mark.parametrize("seed", range(5))
def test_tar_leq_is_the_best_of_all_allowed_thresholds(seed: int) -> None:
    genuine, impostor = tied_scores(seed)
    for far in (1 / 90, 0.05, 0.1, 0.5, 1.0):
        allowed = [
            rate(genuine, t)
            for t in every_threshold(torch.cat([genuine, impostor]))
            if rate(impostor, t) <= far + 1e-12
        ]
        [(tar, threshold)] = tars_at_fars(genuine, impostor, [far])
        assert tar == pytest.approx(max(allowed), abs=1e-12)
        assert rate(impostor, threshold) <= far + 1e-12
        assert rate(genuine, threshold) == pytest.approx(tar, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_tar_nearest_is_the_nearest_of_all_thresholds(seed: int) -> None:
    genuine, impostor = tied_scores(seed)
    thresholds = every_threshold(torch.cat([genuine, impostor]))
    for far in (1 / 90, 0.03, 0.1, 0.5):
        # nearest rate first, then the higher rate, then the higher tar
        wanted = min(thresholds, key=lambda t: (round(abs(rate(impostor, t) - far), 12), -rate(genuine, t)))
        [(tar, threshold)] = tars_at_fars(genuine, impostor, [far], "nearest")
        assert tar == pytest.approx(rate(genuine, wanted), abs=1e-12)
        assert rate(impostor, threshold) == pytest.approx(rate(impostor, wanted), abs=1e-12)
        assert tar >= tars_at_fars(genuine, impostor, [far], "leq")[0][0]


def test_conventions_differ_on_a_tie_among_the_highest_impostors() -> None:
    genuine = torch.tensor([0.95, 0.8, 0.7, 0.05])
    impostor = torch.tensor([0.75, 0.75] + [0.1] * 8)
    assert tars_at_fars(genuine, impostor, [0.15], "leq")[0][0] == 0.5  # none of the tied two may pass
    assert tars_at_fars(genuine, impostor, [0.15], "nearest")[0][0] == 0.75  # 0.2 is as near as 0: the higher


def test_every_allowed_impostor_is_used() -> None:
    # 0.29 * 100 is 28.999999999999996 in binary
    impostor = torch.arange(100) / 100
    [(_, threshold)] = tars_at_fars(torch.ones(1), impostor, [0.29])
    assert (impostor >= threshold).sum() == 29


def test_unreachable_far_raises() -> None:
    with pytest.raises(ValueError, match=r"^far must be within 1 / impostors = 0.00333 and 1, got 0.001$"):
        tars_at_fars(torch.rand(10), torch.rand(300), [1e-3])
    tars_at_fars(torch.rand(10), torch.rand(1000), [1e-3])
    with pytest.raises(ValueError, match=r"^far must be within .* and 1, got 1.5$"):
        tars_at_fars(torch.rand(10), torch.rand(300), [1.5])


def test_auc_agrees_with_scikit_learn_and_with_counting() -> None:
    for seed in range(5):
        genuine, impostor = tied_scores(seed)
        labels = np.r_[np.ones(len(genuine)), np.zeros(len(impostor))]
        wanted = roc_auc_score(labels, torch.cat([genuine, impostor]).numpy())
        counted = sum((g > i) + 0.5 * (g == i) for g in genuine.tolist() for i in impostor.tolist())
        assert auc(genuine, impostor) == pytest.approx(wanted, abs=1e-12)
        assert auc(genuine, impostor) == pytest.approx(counted / (60 * 90), abs=1e-12)


def test_roc_visits_scikit_learns_points() -> None:
    genuine, impostor = tied_scores(3)
    labels = np.r_[np.ones(len(genuine)), np.zeros(len(impostor))]
    far, tar, _ = roc_curve(labels, torch.cat([genuine, impostor]).numpy(), drop_intermediate=False)
    curve = roc(genuine, impostor)
    np.testing.assert_allclose(curve.far, far, atol=1e-12)
    np.testing.assert_allclose(curve.tar, tar, atol=1e-12)
    for t, f in zip(curve.threshold.tolist(), far, strict=True):
        assert rate(impostor, t) == pytest.approx(f, abs=1e-12)


def test_eer_is_where_the_roc_crosses_the_diagonal() -> None:
    for seed in range(5):
        genuine, impostor = tied_scores(seed)
        labels = np.r_[np.ones(len(genuine)), np.zeros(len(impostor))]
        far, tar, _ = roc_curve(labels, torch.cat([genuine, impostor]).numpy(), drop_intermediate=False)
        low, high = 0.0, 1.0  # bisect 1 - x - tar(x), which falls
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if 1 - middle - np.interp(middle, far, tar) > 0 else (low, middle)
        assert eer(genuine, impostor) == pytest.approx(low, abs=1e-9)


@pytest.mark.parametrize(
    ("genuine", "impostor", "wanted"),
    [([0.9, 0.8], [0.1, 0.2], 0.0), ([0.1, 0.2], [0.8, 0.9], 1.0), ([0.5, 0.5], [0.5, 0.5], 0.5)],
)
def test_eer_of_separated_reversed_and_equal_scores(
    genuine: list[float], impostor: list[float], wanted: float
) -> None:
    assert eer(torch.tensor(genuine), torch.tensor(impostor)) == wanted
    assert auc(torch.tensor(genuine), torch.tensor(impostor)) == 1 - wanted


@pytest.mark.parametrize("seed", range(4))
def test_ten_folds_reach_the_best_of_all_thresholds(seed: int) -> None:
    genuine, impostor = tied_scores(seed)
    score, same = torch.cat([genuine, impostor]), torch.arange(150) < 60
    fold = torch.arange(150) % 10
    mean, per_fold, threshold = tenfold_accuracy(score, same, fold)
    for held_out, best in enumerate(slow_best_accuracies(score, same, fold)):
        other = fold != held_out
        reached = ((score[other] >= threshold[held_out]) == same[other]).double().mean().item()
        assert reached == pytest.approx(best, abs=1e-12)
        inside = ~other
        held = ((score[inside] >= threshold[held_out]) == same[inside]).double().mean().item()
        assert per_fold[held_out].item() == pytest.approx(held, abs=1e-12)
    assert mean.item() == pytest.approx(sum(per_fold.tolist()) / 10, abs=1e-12)


def test_ten_folds_recover_a_planted_threshold() -> None:
    # genuine just above, impostors just below 0.31234: a grid of 0.01 would miss it
    generator = torch.Generator().manual_seed(0)
    offset = torch.rand(1000, generator=generator, dtype=torch.float64) * 2e-3 + 1e-5
    same = torch.arange(1000) % 2 == 0
    score = 0.31234 + torch.where(same, offset, -offset)
    mean, _, thresholds = tenfold_accuracy(score, same, torch.arange(1000) // 100)
    assert mean == 1
    assert (thresholds - 0.31234).abs().max() < 1e-4


def test_the_held_out_fold_does_not_change_its_threshold() -> None:
    genuine, impostor = tied_scores(0)
    score, same = torch.cat([genuine, impostor]), torch.arange(150) < 60
    fold = torch.arange(150) % 10
    changed = torch.where(fold == 4, -score, score)
    assert tenfold_accuracy(score, same, fold)[2][4] == tenfold_accuracy(changed, same, fold)[2][4]


def test_constant_scores_give_chance() -> None:
    same = torch.arange(100) % 2 == 0
    mean, _, _ = tenfold_accuracy(torch.zeros(100), same, torch.arange(100) // 10)
    assert mean == 0.5


def test_thresholds_separate_neighboring_floats() -> None:
    low, high = 0.1, np.nextafter(0.1, 1.0)
    found = roc(np.array([high, high]), np.array([low])).threshold
    assert [sum(score >= t for score in (low, high)) for t in found] == [0, 1, 2]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_scores_are_exact(dtype: torch.dtype) -> None:
    genuine, impostor = (s.to(dtype) for s in tied_scores(1))
    score, same, fold = torch.cat([genuine, impostor]), torch.arange(150) < 60, torch.arange(150) % 10
    half = verification_summary(score, same, fold)
    full = verification_summary(score.double(), same, fold)
    assert half == full


def test_arrays_and_tensors_give_the_same_summary_in_any_order() -> None:
    genuine, impostor = tied_scores(2)
    score, same, fold = torch.cat([genuine, impostor]), torch.arange(150) < 60, torch.arange(150) % 10
    wanted = verification_summary(score, same, fold)
    assert verification_summary(score.numpy(), same.numpy(), fold.numpy()) == wanted
    order = torch.randperm(150, generator=torch.Generator().manual_seed(0))
    shuffled = verification_summary(score[order], same[order], fold[order])
    for key in ("accuracy", "auc", "eer", "threshold", "tar", "tar_nearest"):
        assert shuffled[key] == wanted[key]


def test_summary_names_what_it_cannot_measure() -> None:
    generator = torch.Generator().manual_seed(0)
    same = torch.arange(2400) < 1200
    score = torch.randn(2400, generator=generator) * 0.1 + same * 0.4
    summary = verification_summary(score, same, torch.arange(2400) % 10)
    assert list(summary) == [
        *(
            "pairs",
            "genuine",
            "impostor",
            "intervals",
            "accuracy",
            "accuracy_std",
            "accuracy_ci",
            "threshold",
        ),
        *("auc", "auc_ci", "eer", "eer_ci", "tar", "tar_nearest"),
    ]
    assert (summary["pairs"], summary["genuine"], summary["impostor"]) == (2400, 1200, 1200)
    assert summary["tar"]["1e-4"] == summary["tar_nearest"]["1e-4"] == "not measurable"
    assert summary["tar"]["1e-3"]["tar"] <= summary["tar"]["1e-2"]["tar"]
    for figure, interval in (("accuracy", "accuracy_ci"), ("auc", "auc_ci"), ("eer", "eer_ci")):
        low, high = summary[interval]
        assert 0 <= low <= summary[figure] <= high <= 1
    low, high = summary["tar"]["1e-3"]["ci"]
    assert low < summary["tar"]["1e-3"]["tar"] < high


def test_perfect_accuracy_still_has_an_interval() -> None:
    same = torch.arange(200) % 2 == 0
    summary = verification_summary(same.float(), same, torch.arange(200) // 20)
    assert summary["accuracy"] == 1
    assert summary["accuracy_ci"] == pytest.approx([beta(200.5, 0.5).ppf(0.025), 1], abs=1e-9)


def test_bad_scores_raise() -> None:
    with pytest.raises(ValueError, match=r"^score: 1 of 3 scores are not finite$"):
        tenfold_accuracy(torch.tensor([0.1, torch.nan, 0.2]), torch.ones(3), torch.arange(3))
    with pytest.raises(ValueError, match=r"^score, same, fold must be of one length, got 3, 2, 3$"):
        tenfold_accuracy(torch.rand(3), torch.ones(2), torch.arange(3))
    with pytest.raises(ValueError, match=r"^fold must name at least two folds, got 1$"):
        tenfold_accuracy(torch.rand(3), torch.ones(3), torch.zeros(3))
    with pytest.raises(ValueError, match=r"^impostor must hold at least one score$"):
        auc(torch.rand(3), torch.rand(0))
