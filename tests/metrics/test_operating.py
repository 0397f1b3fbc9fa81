"""TAR at FARs from one sort, against scikit-learn's curve and brute force."""

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from facedistill.metrics import operating
from facedistill.metrics.operating import above, between, tars_at_fars
from facedistill.metrics.verification import tenfold_accuracy, verification_summary

FARS = [1e-4, 1e-3, 1e-2, 1e-1, 1.0]


def random_scores(seed: int, digits: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(0.5, 0.2, 500).round(digits), rng.normal(0, 0.2, 20_000).round(digits)


@pytest.mark.parametrize("digits", [1, 2, 9])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_both_conventions_are_those_of_scikit_learns_complete_curve(digits: int, dtype: type) -> None:
    genuine, impostor = (scores.astype(dtype) for scores in random_scores(digits, digits))
    labels = np.r_[np.ones(len(genuine)), np.zeros(len(impostor))]
    far, tar, _ = roc_curve(labels, np.r_[genuine, impostor], drop_intermediate=False)
    leq = [tar[far <= wanted + 1e-12].max() for wanted in FARS]
    from_behind = far[::-1], tar[::-1]
    nearest = [from_behind[1][np.argmin(np.abs(from_behind[0] - wanted))] for wanted in FARS]
    for convention, wanted_tars in (("leq", leq), ("nearest", nearest)):
        points = tars_at_fars(genuine, impostor, FARS, convention)
        np.testing.assert_allclose([tar for tar, _ in points], wanted_tars, atol=1e-12)
        for tar_, threshold in points:
            assert (genuine.astype(float) >= threshold).mean() == pytest.approx(tar_, abs=1e-12)


@pytest.mark.parametrize("digits", [1, 2, 9])
def test_insightfaces_rule_is_that_of_its_script(digits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """scikit-learn's curve without the points on straight lines, from behind, the nearest rate."""
    monkeypatch.setattr(operating, "_REACH", 1)
    for seed in range(10):
        genuine, impostor = random_scores(seed, digits)
        genuine, impostor = genuine[: 30 + seed], impostor[: 2000 + 500 * seed]
        labels = np.r_[np.ones(len(genuine)), np.zeros(len(impostor))]
        far, tar, _ = roc_curve(labels, np.r_[genuine, impostor])
        fars = FARS[1:]
        wanted = [tar[::-1][np.argmin(np.abs(far[::-1] - rate))] for rate in fars]
        points = tars_at_fars(genuine, impostor, fars, "insightface")
        np.testing.assert_allclose([tar for tar, _ in points], wanted, atol=1e-12)
        for tar_, threshold in points:
            assert (genuine >= threshold).mean() == pytest.approx(tar_, abs=1e-12)


def test_the_three_rules_on_a_curve_drawn_by_hand() -> None:
    """Five impostors between two genuine scores: the point at FAR 0.3 lies on a straight line of the curve."""
    genuine, impostor = np.array([0.9, 0.2]), np.array([0.8, 0.7, 0.6, 0.5, 0.4, *[0.1] * 5])
    found = {c: tars_at_fars(genuine, impostor, [0.3], c)[0] for c in ("leq", "nearest", "insightface")}  # type: ignore[arg-type]
    assert {c: tar for c, (tar, _) in found.items()} == {"leq": 0.5, "nearest": 0.5, "insightface": 1.0}
    rates = {c: (impostor >= threshold).mean() for c, (_, threshold) in found.items()}
    assert rates == {"leq": 0.3, "nearest": 0.3, "insightface": 0.5}  # corners: 0 at 0.9, 0.5 at 0.4 and 0.2


def test_one_rate_alone_gives_the_same_as_several() -> None:
    genuine, impostor = random_scores(5, 2)
    together = tars_at_fars(genuine, impostor, FARS)
    assert [tars_at_fars(genuine, impostor, [far])[0] for far in FARS] == together


def test_an_unknown_convention_raises() -> None:
    with pytest.raises(ValueError, match=r"^convention must be leq, nearest or insightface, got 'exact'$"):
        tars_at_fars(np.ones(3), np.ones(3), [1.0], "exact")  # type: ignore[arg-type]


def test_a_threshold_between_neighboring_floats_is_the_higher_one() -> None:
    assert between(1.0, np.nextafter(1.0, 2.0)) == np.nextafter(1.0, 2.0)
    assert between(0.25, 0.75) == 0.5


def test_a_threshold_decides_alike_in_float32_and_float64() -> None:
    low = np.float32(0.3)
    high = np.nextafter(low, np.float32(1))
    (_, threshold), (_, none_above) = (
        tars_at_fars(np.array([top]), np.array([low, low]), [0.5], "leq")[0] for top in (high, low)
    )
    for kind in (np.float32, np.float64):
        scores = np.array([low, high]).astype(kind)
        assert (scores >= threshold).tolist() == [False, True]
        assert not scores[0] >= none_above
    assert above(0.1 + 1e-12) > 0.1 + 1e-12


def test_folds_of_unequal_size_and_any_numbers() -> None:
    """Equals a loop that takes the middle of the best thresholds."""
    rng = np.random.default_rng(0)
    score, same = rng.normal(0, 1, 200).round(1), rng.random(200) < 0.4
    fold = rng.choice([7, -3, 100], 200, p=[0.7, 0.2, 0.1])
    _, per_fold, thresholds = tenfold_accuracy(score, same, fold)
    for number, held_out in enumerate(sorted({7, -3, 100})):
        other = fold != held_out
        distinct = np.unique(score[other])
        candidates = [distinct[0], *(distinct[:-1] + distinct[1:]) / 2, above(distinct[-1])]
        right = np.array([((score[other] >= t) == same[other]).sum() for t in candidates])
        best = np.flatnonzero(right == right.max())
        assert thresholds[number] == candidates[best[len(best) // 2]]
        inside = ((score[~other] >= thresholds[number].item()) == same[~other]).mean()
        assert per_fold[number].item() == pytest.approx(inside, abs=1e-12)


def test_a_protocol_without_folds_has_no_accuracy() -> None:
    rng = np.random.default_rng(1)
    same = np.arange(210_000) % 100 == 0
    score = rng.normal(0, 0.2, len(same)).astype(np.float32) + 0.5 * same.astype(np.float32)
    fars = {"1e-5": 1e-5, "1e-6": 1e-6}
    summary = verification_summary(score, same, None, fars=fars)
    assert "accuracy" not in summary
    assert "threshold" not in summary
    assert summary["tar"]["1e-6"] == "not measurable"
    assert summary["auc_ci"][0] <= summary["auc"] <= summary["auc_ci"][1]
    threshold = np.sort(score[~same])[-3]  # two of 207,900 impostors may pass
    assert summary["tar"]["1e-5"]["tar"] == pytest.approx((score[same] > threshold).mean())
