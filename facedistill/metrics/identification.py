"""Identification metrics: rank-k, CMC and TPIR at a FPIR.

A probe is searched in a gallery of enrolled templates. A search is *mated* when its identity is enrolled. The rank
of a mated search is 1 + the number of templates of other identities that score at least as high as its best mate:
ties count against it. An enrolled template is *reported* when its score is >= the threshold. Rates are fractions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from facedistill.metrics.confidence import rate_interval, subject_bootstrap
from facedistill.metrics.operating import NOT_MEASURABLE, ROUNDING, above, between

FPIRS = {"1e-1": 1e-1, "1e-2": 1e-2, "1e-3": 1e-3}
_ELEMENTS = 2**24  # scores in memory at a time


class Searches(NamedTuple):
    """Results of Q searches of one gallery.

    Attributes:
        rank: (Q,) int64 rank of the best mate, 0 where the identity is not enrolled.
        mate: (Q,) float64 score of the best mate, -inf where there is none.
        other: (Q,) float64 highest score of another identity, -inf where the gallery has no other.
    """

    rank: np.ndarray
    mate: np.ndarray
    other: np.ndarray


def searches_of(scores: Tensor, probe: Tensor, gallery: Tensor) -> Searches:
    """Ranks and best scores from a score matrix.

    Args:
        scores: (Q, G) of each probe with each gallery template.
        probe: (Q,) identity of each probe.
        gallery: (G,) identity of each gallery template; an identity may have several.

    >>> scores = torch.tensor([[0.9, 0.2], [0.4, 0.3]])
    >>> searches_of(scores, torch.tensor([0, 1]), torch.tensor([0, 1])).rank.tolist()
    [1, 2]
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
    """Searches every probe, in batches that bound the memory.

    Args:
        probes: (Q, D) unit templates.
        gallery: (G, D) unit templates, G >= 1.
        probe_id: (Q,) identity of each probe.
        gallery_id: (G,) identity of each gallery template.

    >>> search(torch.eye(3), torch.eye(3), torch.arange(3), torch.arange(3)).rank.tolist()
    [1, 1, 1]
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

    >>> cmc(np.array([1, 2, 1, 5, 0]), 3).tolist()
    [0.5, 0.75, 0.75]
    """
    mated = rank[rank > 0]
    if len(mated) == 0:
        raise ValueError("no search is mated: no probe's identity is in the gallery")
    counts = np.bincount(np.minimum(mated, max_rank + 1), minlength=max_rank + 2)
    return np.cumsum(counts[1 : max_rank + 1]) / len(mated)


def tpir_at_fpir(searches: Searches, fpir: float) -> tuple[float, float]:
    """True positive identification rate where at most `fpir` of the non-mated searches report an identity.

    A mated search succeeds when its mate is the first and has a score >= the threshold; a non-mated
    one is a false positive when any score is >= the threshold (NIST FRVT 1:N: TPIR = 1 - FNIR(N, 1, T)). The
    threshold is the lowest that `fpir` allows (convention `leq`).

    Args:
        searches: Mated and non-mated searches of one gallery.
        fpir: False positive identification rate, a fraction.

    Returns:
        The rate and the threshold.

    Raises:
        ValueError: If `fpir` is below 1 / U for U non-mated searches, or above 1, or no search is mated.

    >>> searches = Searches(np.array([1, 1, 0]), np.array([0.9, 0.5, -np.inf]), np.array([0.1, 0.2, 0.3]))
    >>> tpir_at_fpir(searches, 1.0)
    (1.0, 0.3)
    """
    mated = searches.rank > 0
    non_mated = int((~mated).sum())
    if not mated.any():
        raise ValueError("no search is mated: no probe's identity is in the gallery")
    if non_mated == 0 or not 1 / non_mated * (1 - ROUNDING) <= fpir <= 1:
        floor = 1 / non_mated if non_mated else math.inf
        raise ValueError(f"fpir must be within 1 / non-mated searches = {floor:.3g} and 1, got {fpir:g}")
    rate, highest = _weighted_tpir(searches, np.ones(len(mated)), fpir)
    scores = np.concatenate([searches.mate[mated], searches.other[~mated]])
    higher = scores[scores > highest]
    if highest == -math.inf:
        return rate, float(scores.min())
    return rate, between(highest, float(higher.min())) if len(higher) else above(highest)


def insightface_tpir(
    probes: Tensor, gallery: Tensor, probe_id: Tensor, gallery_id: Tensor, fpirs: Mapping[str, float] = FPIRS
) -> dict[str, Any]:
    """TPIR by the rule of insightface's `ijb_1n.py`, to compare with figures that it printed.

    It searches one gallery that holds every probe's identity once, pools the scores of all probes with all other
    identities, and takes the ceil(Q * fpir)-th highest of them as the threshold. A probe counts when its mate scores
    above it, whatever its rank. IJB's protocol (`open_set_summary`) searches galleries that lack half of the identities
    and counts false positives per search, not per score; it allows one more of them, because here the threshold is
    itself the score of a false positive that is not let in.

    Args:
        probes: (Q, D) unit templates.
        gallery: (G, D) unit templates.
        probe_id: (Q,) identity of each probe; each is in the gallery.
        gallery_id: (G,) identity of each gallery template.
        fpirs: False positives per probe, by label.

    Returns:
        By label of `fpirs`: `tpir` and `threshold`; "not measurable" where fewer scores exist.

    >>> gallery = torch.eye(3)
    >>> insightface_tpir(gallery, gallery, torch.arange(3), torch.arange(3), {"1": 1.0})
    {'1': {'tpir': 1.0, 'threshold': 0.0}}
    """
    most = math.ceil(len(probes) * max(fpirs.values()))
    rows = max(1, _ELEMENTS // len(gallery))
    mates, highest = [], torch.empty(0)
    for some, ids in zip(probes.split(rows), probe_id.split(rows), strict=True):
        scores, is_mate = some @ gallery.T, ids[:, None] == gallery_id[None, :]
        low = torch.full_like(scores, -torch.inf)
        mates.append(torch.where(is_mate, scores, low).amax(dim=1))
        others = torch.cat([highest.to(scores), scores[~is_mate]])
        highest = others.topk(min(most, len(others))).values
    mate = torch.cat(mates)
    entries: dict[str, Any] = dict.fromkeys(fpirs, NOT_MEASURABLE)
    for label, fpir in fpirs.items():
        number = math.ceil(len(probes) * fpir)
        if number <= len(highest):
            threshold = highest[number - 1]
            entries[label] = {
                "tpir": (mate > threshold).double().mean().item(),
                "threshold": threshold.item(),
            }
    return entries


def closed_set_summary(
    searches: Searches, subject: np.ndarray, *, ranks: Sequence[int] = (1, 5, 10)
) -> dict[str, Any]:
    """Rank-k of the mated searches, with intervals over identities.

    Args:
        searches: Of one gallery.
        subject: (Q,) identity of each probe.
        ranks: Which k.

    Returns:
        `searches`, `mated`, and `rank`: by k as text, `rate` and its 95 % interval `ci`.

    >>> searches = Searches(np.array([1, 2]), np.array([0.9, 0.5]), np.array([0.1, 0.7]))
    >>> summary = closed_set_summary(searches, np.array([0, 1]), ranks=(1, 2))
    >>> summary["rank"]["1"]["rate"], summary["rank"]["2"]["rate"]
    (0.5, 1.0)
    """
    mated = searches.rank > 0
    curve = cmc(searches.rank, max(ranks))
    entries = {}
    for k in ranks:
        hit = (searches.rank[mated] <= k).astype(float)
        entries[str(k)] = {"rate": float(curve[k - 1]), "ci": list(rate_interval(hit, subject[mated]))}
    return {"searches": len(mated), "mated": int(mated.sum()), "rank": entries}


def open_set_summary(
    galleries: Sequence[Searches],
    subject: np.ndarray,
    *,
    fpirs: Mapping[str, float] = FPIRS,
    resamples: int = 500,
) -> dict[str, Any]:
    """TPIR at FPIRs (rank 1), averaged over galleries of different identities, as in IJB's protocol.

    Args:
        galleries: The same Q probes searched in each gallery; every gallery needs mated searches.
        subject: (Q,) identity of each probe; the bootstrap draws identities, the same ones for all galleries.
        fpirs: False positive identification rates by label.
        resamples: Bootstrap samples.

    Returns:
        By label of `fpirs`: `tpir`, `thresholds` (one per gallery) and `ci`; or "not measurable".

    >>> searches = Searches(np.array([1, 0]), np.array([0.9, -np.inf]), np.array([0.1, 0.3]))
    >>> summary = open_set_summary([searches], np.arange(2), fpirs={"1": 1.0, "1e-1": 0.1}, resamples=10)
    >>> summary["1"]["tpir"], summary["1e-1"]
    (1.0, 'not measurable')
    """
    entries: dict[str, Any] = dict.fromkeys(fpirs, NOT_MEASURABLE)
    fewest = min(int((searches.rank == 0).sum()) for searches in galleries)
    for label, fpir in fpirs.items():
        if fpir * fewest < 1 - ROUNDING:
            continue
        points = [tpir_at_fpir(searches, fpir) for searches in galleries]

        def average(times: np.ndarray, fpir: float = fpir) -> float:
            return float(np.mean([_weighted_tpir(searches, times, fpir)[0] for searches in galleries]))

        interval = subject_bootstrap(average, subject, resamples=resamples)
        entries[label] = {
            "tpir": float(np.mean([rate for rate, _ in points])),
            "thresholds": [threshold for _, threshold in points],
            "ci": list(interval),
        }
    return entries


def _weighted_tpir(searches: Searches, times: np.ndarray, fpir: float) -> tuple[float, float]:
    """TPIR where search i counts `times[i]` times, and the highest non-mated score that is rejected."""
    mated = searches.rank > 0
    order = np.argsort(-searches.other[~mated], kind="stable")
    descending, count = searches.other[~mated][order], times[~mated][order]
    if count.sum() == 0:
        return math.nan, math.nan
    last = np.append(descending[1:] < descending[:-1], True)  # ties are reported together
    reported, distinct = np.cumsum(count)[last], descending[last]
    allowed = int((reported <= fpir * count.sum() * (1 + ROUNDING)).sum())
    highest = float(distinct[allowed]) if allowed < len(distinct) else -math.inf
    hit = (searches.rank[mated] == 1) & (searches.mate[mated] > highest)
    return _mean(hit.astype(float), times[mated]), highest


def _mean(values: np.ndarray, times: np.ndarray) -> float:
    total = times.sum()
    return float((values * times).sum() / total) if total else math.nan
