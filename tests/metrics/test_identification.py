"""Identification metrics against loops over probes and thresholds."""

import numpy as np
import pytest
import torch

from facedistill.metrics import identification
from facedistill.metrics.confidence import subject_bootstrap
from facedistill.metrics.identification import (
    Searches,
    closed_set_summary,
    cmc,
    insightface_tpir,
    open_set_summary,
    search,
    searches_of,
    tpir_at_fpir,
)


def tied_scores(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(Q, G) scores with ties, identities of probes (some not enrolled) and of the gallery (some twice)."""
    rng = np.random.default_rng(seed)
    probe, gallery = rng.integers(0, 12, 40), np.r_[np.arange(8), np.arange(4)]
    scores = rng.normal(0, 0.2, (40, 12)) + 0.35 * (probe[:, None] == gallery[None])
    return scores.round(1), probe, gallery


def slow_search(scores: np.ndarray, probe: int, gallery: np.ndarray) -> tuple[int, float, float]:
    mates = [s for s, g in zip(scores, gallery, strict=True) if g == probe]
    others = [s for s, g in zip(scores, gallery, strict=True) if g != probe]
    best = max(mates, default=-np.inf)
    return (1 + sum(s >= best for s in others) if mates else 0), best, max(others)


def searched(seed: int) -> tuple[Searches, np.ndarray]:
    scores, probe, gallery = tied_scores(seed)
    return searches_of(*(torch.from_numpy(x) for x in (scores, probe, gallery))), probe


@pytest.mark.parametrize("seed", range(4))
def test_searches_are_those_of_a_loop(seed: int) -> None:
    scores, probe, gallery = tied_scores(seed)
    searches, _ = searched(seed)
    for number, wanted in enumerate(slow_search(s, p, gallery) for s, p in zip(scores, probe, strict=True)):
        found = (searches.rank[number], searches.mate[number], searches.other[number])
        assert found == pytest.approx(wanted)


def test_search_in_batches_equals_one_search(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    probes, gallery = (torch.nn.functional.normalize(torch.randn(n, 5, generator=generator)) for n in (23, 9))
    ids = torch.arange(23) % 11, torch.arange(9)
    wanted = searches_of(probes @ gallery.T, *ids)
    monkeypatch.setattr(identification, "_ELEMENTS", 40)
    for found, expected in zip(search(probes, gallery, *ids), wanted, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_tie_with_the_mate_counts_against_it() -> None:
    scores = torch.tensor([[0.5, 0.5, 0.1]])
    assert searches_of(scores, torch.tensor([0]), torch.tensor([0, 1, 2])).rank.tolist() == [2]


@pytest.mark.parametrize("seed", range(4))
def test_cmc_counts_ranks(seed: int) -> None:
    searches, _ = searched(seed)
    mated = [rank for rank in searches.rank.tolist() if rank]
    for k, share in enumerate(cmc(searches.rank, 12), start=1):
        assert share == pytest.approx(sum(rank <= k for rank in mated) / len(mated))
    assert cmc(searches.rank, 12)[-1] == 1
    with pytest.raises(ValueError, match=r"^no search is mated: no probe's identity is in the gallery$"):
        cmc(np.zeros(3, dtype=int), 5)


@pytest.mark.parametrize("seed", range(6))
def test_tpir_is_the_best_of_all_allowed_thresholds(seed: int) -> None:
    searches, _ = searched(seed)
    mated = searches.rank > 0
    thresholds = {*searches.mate[mated], *searches.other, 9.0}
    thresholds |= {t - 1e-6 for t in thresholds} | {t + 1e-6 for t in thresholds}
    for fpir in (1 / (~mated).sum(), 0.2, 0.5, 1.0):
        allowed = [t for t in thresholds if (searches.other[~mated] >= t).mean() <= fpir + 1e-12]
        rates = [((searches.mate >= t) & (searches.rank == 1))[mated].mean() for t in allowed]
        rate, threshold = tpir_at_fpir(searches, fpir)
        assert rate == pytest.approx(max(rates))
        assert (searches.other[~mated] >= threshold).mean() <= fpir + 1e-12
        hits = (searches.mate >= threshold) & (searches.rank == 1)
        assert hits[mated].mean() == pytest.approx(rate)


def test_rates_that_are_not_measurable() -> None:
    searches, probe = searched(0)
    non_mated = int((searches.rank == 0).sum())
    with pytest.raises(
        ValueError, match=rf"^fpir must be within 1 / non-mated searches = {1 / non_mated:.3g} and 1"
    ):
        tpir_at_fpir(searches, 1e-3)
    summary = open_set_summary([searches], probe, fpirs={"0.5": 0.5, "1e-3": 1e-3}, resamples=20)
    assert summary["1e-3"] == "not measurable"
    assert summary["0.5"]["tpir"] == tpir_at_fpir(searches, 0.5)[0]


def test_galleries_are_averaged_and_intervals_hold_the_figure() -> None:
    (first, probe), (second, _) = searched(1), searched(2)
    summary = open_set_summary([first, second], probe, fpirs={"0.5": 0.5}, resamples=200)["0.5"]
    assert summary["tpir"] == pytest.approx((tpir_at_fpir(first, 0.5)[0] + tpir_at_fpir(second, 0.5)[0]) / 2)
    assert summary["ci"][0] <= summary["tpir"] <= summary["ci"][1]
    assert len(summary["thresholds"]) == 2


def test_closed_set_summary() -> None:
    searches, probe = searched(3)
    summary = closed_set_summary(searches, probe)
    assert summary["searches"] == 40
    assert summary["mated"] == int((probe < 8).sum())
    assert list(summary["rank"]) == ["1", "5", "10"]
    for k, entry in summary["rank"].items():
        assert entry["rate"] == cmc(searches.rank, 10)[int(k) - 1]
        assert entry["ci"][0] <= entry["rate"] <= entry["ci"][1]


def test_insightfaces_tpir_on_scores_computed_by_hand() -> None:
    """Four probes, three identities: the other identities' scores are 0.8, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0."""
    scores = torch.tensor([[0.9, 0.8, 0.1], [0.6, 0.7, 0.2], [0.5, 0.3, 0.55], [0.58, 0.4, 0.0]])
    ids = torch.tensor([0, 1, 2, 0]), torch.arange(3)
    for rows in (1, 2**24):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(identification, "_ELEMENTS", rows)
            found = insightface_tpir(scores, torch.eye(3), *ids, {"0.25": 0.25, "0.5": 0.5, "9": 9.0})
        assert found["9"] == "not measurable"
        # ceil(4 * 0.25) = 1: above 0.8 lies the mate 0.9; ceil(4 * 0.5) = 2: above 0.6 also 0.7
        assert [found[label]["tpir"] for label in ("0.25", "0.5")] == [0.25, 0.5]
        assert [found[label]["threshold"] for label in ("0.25", "0.5")] == pytest.approx([0.8, 0.6])


def test_bootstrap_draws_identities() -> None:
    """Ten identities with five equal searches each give the width of ten searches, not of fifty."""
    values = np.repeat(np.arange(10) < 5, 5).astype(float)
    low, high = subject_bootstrap(
        lambda t: (values * t).sum() / t.sum(), np.repeat(np.arange(10), 5), resamples=2000
    )
    assert high - low == pytest.approx(0.6, abs=0.11)  # binomial(10, 1/2) / 10: 0.2 to 0.8
    low, high = subject_bootstrap(lambda t: (values * t).sum() / t.sum(), np.arange(50), resamples=2000)
    assert high - low < 0.32
