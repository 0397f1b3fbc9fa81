"""From searches of a gallery to rank-k, CMC and TPIR at a FPIR.

A probe is searched in a gallery of enrolled templates. A search is *mated* when its person is enrolled. The rank
of a mated search is 1 + the number of templates of other people that score at least as high as its best mate:
ties count against it. An enrolled template is *reported* when its score is >= the threshold. Rates are fractions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from facedistill.metrics.confidence import subject_bootstrap
from facedistill.metrics.operating import between

NOT_MEASURABLE = "not measurable"
FPIRS = {"1e-1": 1e-1, "1e-2": 1e-2, "1e-3": 1e-3}
_ELEMENTS = 2**24  # scores in memory at a time
_ROUNDING = 1e-9


class Searches(NamedTuple):
    """What Q searches of one gallery found.

    Attributes:
        rank: (Q,) int64 rank of the best mate, 0 where nobody of that identity is enrolled.
        mate: (Q,) float64 score of the best mate, -inf where there is none.
        other: (Q,) float64 highest score of another identity, -inf where the gallery has no other.
    """

    rank: np.ndarray
    mate: np.ndarray
    other: np.ndarray


def searches_of(scores: Tensor, probe: Tensor, gallery: Tensor) -> Searches:
    """Ranks from a whole score matrix.

    Args:
        scores: (Q, G) of each probe with each gallery template.
        probe: (Q,) identity of each probe.
        gallery: (G,) identity of each gallery template; an identity may have several.
    """
    is_mate = probe[:, None] == gallery[None, :].to(probe.device)
    low = torch.tensor(-torch.inf, dtype=scores.dtype, device=scores.device)
    mate = torch.where(is_mate, scores, low).amax(dim=1)
    others = torch.where(is_mate, low, scores)
    rank = 1 + (others >= mate[:, None]).sum(dim=1)
    rank = torch.where(is_mate.any(dim=1), rank, 0)
    return Searches(
        rank.cpu().numpy(), mate.double().cpu().numpy(), others.amax(dim=1).double().cpu().numpy()
    )


def search(probes: Tensor, gallery: Tensor, probe_id: Tensor, gallery_id: Tensor) -> Searches:
    """Searches every probe, a few at a time.

    Args:
        probes: (Q, D) unit templates.
        gallery: (G, D) unit templates, G >= 1.
        probe_id: (Q,) identity of each probe.
        gallery_id: (G,) identity of each gallery template.
    """
    rows = max(1, _ELEMENTS // len(gallery))
    parts = [
        searches_of(some @ gallery.T, ids, gallery_id)
        for some, ids in zip(probes.split(rows), probe_id.split(rows), strict=True)
    ]
    return Searches(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def cmc(rank: np.ndarray, max_rank: int) -> np.ndarray:
    """Cumulative match characteristic: (max_rank,) share of mated searches with rank <= 1, 2, …, max_rank.

    Raises:
        ValueError: If no search is mated.
    """
    mated = rank[rank > 0]
    if len(mated) == 0:
        raise ValueError("no search is mated: no probe's identity is in the gallery")
    counts = np.bincount(np.minimum(mated, max_rank + 1), minlength=max_rank + 2)
    return np.cumsum(counts[1 : max_rank + 1]) / len(mated)


def tpir_at_fpir(searches: Searches, fpir: float, *, max_rank: int = 1) -> tuple[float, float]:
    """True positive identification rate where at most `fpir` of the non-mated searches report anybody.

    A mated search succeeds when its mate has a rank <= `max_rank` and a score >= the threshold; a non-mated
    one is a false positive when any score is >= the threshold (NIST FRVT 1:N: TPIR = 1 - FNIR(N, R, T)). The
    threshold is the laxest that is admitted (convention `leq`).

    Args:
        searches: Mated and non-mated ones of one gallery.
        fpir: Admitted false positive identification rate, a fraction.
        max_rank: R.

    Returns:
        The rate and the threshold.

    Raises:
        ValueError: If `fpir` is below 1 / U for U non-mated searches, or above 1, or no search is mated.
    """
    mated = searches.rank > 0
    non_mated = int((~mated).sum())
    if not mated.any():
        raise ValueError("no search is mated: no probe's identity is in the gallery")
    if non_mated == 0 or not 1 / non_mated * (1 - _ROUNDING) <= fpir <= 1:
        floor = 1 / non_mated if non_mated else math.inf
        raise ValueError(f"fpir must be within 1 / non-mated searches = {floor:.3g} and 1, got {fpir:g}")
    rate, highest = _weighted_tpir(searches, np.ones(len(mated)), fpir, max_rank)
    scores = np.concatenate([searches.mate[mated], searches.other[~mated]])
    above = scores[scores > highest]
    if highest == -math.inf:
        return rate, float(scores.min())
    return rate, between(highest, float(above.min())) if len(above) else math.nextafter(highest, math.inf)


def closed_set_summary(
    searches: Searches,
    subject: np.ndarray,
    *,
    ranks: Sequence[int] = (1, 5, 10),
    resamples: int = 500,
    seed: int = 0,
) -> dict[str, Any]:
    """Rank-k of the mated searches, with bootstrap intervals over people.

    Args:
        searches: Of one gallery.
        subject: (Q,) identity of each probe.
        ranks: Which k.
        resamples: Bootstrap samples.
        seed: Seed of the bootstrap.

    Returns:
        `searches`, `mated`, and `rank`: by k as text, `rate` and its 95 % interval `ci`.
    """
    mated = searches.rank > 0
    curve = cmc(searches.rank, max(ranks))
    entries = {}
    for k in ranks:
        hit = (searches.rank[mated] <= k).astype(float)
        interval = subject_bootstrap(partial(_mean, hit), subject[mated], resamples=resamples, seed=seed)
        entries[str(k)] = {"rate": float(curve[k - 1]), "ci": list(interval)}
    return {"searches": len(mated), "mated": int(mated.sum()), "rank": entries}


def open_set_summary(
    galleries: Sequence[Searches],
    subject: np.ndarray,
    *,
    fpirs: Mapping[str, float] = FPIRS,
    resamples: int = 500,
    seed: int = 0,
) -> dict[str, Any]:
    """TPIR at FPIRs (rank 1), averaged over galleries that enroll different people, as IJB's protocol does.

    Args:
        galleries: The same Q probes searched in each gallery; every gallery needs mated searches.
        subject: (Q,) identity of each probe; people are what the bootstrap draws, in all galleries alike.
        fpirs: Wanted rates by label.
        resamples: Bootstrap samples.
        seed: Seed of the bootstrap.

    Returns:
        By label of `fpirs`: `tpir`, `thresholds` (one a gallery) and `ci`; or "not measurable".
    """
    entries: dict[str, Any] = dict.fromkeys(fpirs, NOT_MEASURABLE)
    fewest = min(int((searches.rank == 0).sum()) for searches in galleries)
    for label, fpir in fpirs.items():
        if fpir * fewest < 1 - _ROUNDING:
            continue
        points = [tpir_at_fpir(searches, fpir) for searches in galleries]

        def average(times: np.ndarray, fpir: float = fpir) -> float:
            return float(np.mean([_weighted_tpir(searches, times, fpir, 1)[0] for searches in galleries]))

        interval = subject_bootstrap(average, subject, resamples=resamples, seed=seed)
        entries[label] = {
            "tpir": float(np.mean([rate for rate, _ in points])),
            "thresholds": [threshold for _, threshold in points],
            "ci": list(interval),
        }
    return entries


def _weighted_tpir(searches: Searches, times: np.ndarray, fpir: float, max_rank: int) -> tuple[float, float]:
    """TPIR where search i counts `times[i]`-fold, and the highest non-mated score that is rejected."""
    mated = searches.rank > 0
    order = np.argsort(-searches.other[~mated], kind="stable")
    falling, count = searches.other[~mated][order], times[~mated][order]
    if count.sum() == 0:
        return math.nan, math.nan
    last = np.append(falling[1:] < falling[:-1], True)  # those who tie are reported together
    reported, distinct = np.cumsum(count)[last], falling[last]
    admitted = int((reported <= fpir * count.sum() * (1 + _ROUNDING)).sum())
    highest = float(distinct[admitted]) if admitted < len(distinct) else -math.inf
    hit = (searches.rank[mated] <= max_rank) & (searches.mate[mated] > highest)
    return _mean(hit.astype(float), times[mated]), highest


def _mean(values: np.ndarray, times: np.ndarray) -> float:
    total = times.sum()
    return float((values * times).sum() / total) if total else math.nan
