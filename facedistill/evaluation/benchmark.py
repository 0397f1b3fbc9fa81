"""Evaluates a network on protocols: embeddings, scores, figures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor, nn

from facedistill.distributed.collectives import gather_constant, rank
from facedistill.errors import UserError
from facedistill.evaluation.embedder import embed
from facedistill.evaluation.protocols.base import Flip, PairScores, PairsProtocol, Protocol
from facedistill.evaluation.worst import write_worst_errors
from facedistill.models.fingerprint import network_fingerprint
from facedistill.system.files import write_npz

Role: TypeAlias = Literal["student", "teacher"]

_CACHE_VERSION = 1


def run_protocols(
    model: nn.Module,
    protocols: Sequence[Protocol],
    *,
    role: Role,
    scores_dir: Path | None = None,
    worst_dir: Path | None = None,
    cache: Path | None = None,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
    flip: Flip = "none",
    resamples: int = 500,
    shared: bool = False,
    quiet: bool = False,
) -> dict[str, dict[str, Any]]:
    """Evaluates one network on several protocols.

    Args:
        model: A student or a `FrozenTeacher`.
        protocols: See `open_protocols`.
        role: Part of the file names.
        scores_dir: Where `<protocol>.<role>.npz` with `score` (P,) float32, `same` (P,) bool and `fold` (P,)
            int64 is written; nowhere if None.
        worst_dir: Where a picture of the worst errors of each pairs protocol is written, see
            `write_worst_errors`; nowhere if None. It shows the benchmark's faces, so use a run folder.
        cache: Folder that caches scores of pairs by network and protocol, so that a frozen teacher runs once;
            no caching if None.
        batch_size: Faces per forward pass.
        device: Where the network runs.
        flip: See `embed`; a protocol that prescribes a flip (IJB) overrides it.
        resamples: Bootstrap samples of the intervals of TPIR and of gaps between groups.
        shared: Every process of the group calls this; each embeds its share, rank 0 writes the files.
        quiet: Shows no progress.

    Returns:
        Figures by protocol, IJB's by protocol and mode; see `verification_summary` and `closed_set_summary`.

    Raises:
        DataError: If an image cannot be read, or the embeddings are not finite or all alike.
    """
    figures = {}
    writes = not shared or rank() == 0
    for protocol in protocols:
        used_flip = protocol.flip or flip
        run = partial(
            embed, model, protocol, batch_size=batch_size, device=device, flip=used_flip, shared=shared,
            quiet=quiet,
        )  # fmt: skip
        if isinstance(protocol, PairsProtocol):
            cached = None if cache is None else cache / _cache_name(model, protocol, used_flip)
            score = _cached_scores(cached, protocol, run, torch.device(device) if shared else None)
            measured = {protocol.name: protocol.figures(score, resamples=resamples)}
        else:
            measured = protocol.measure(run(), resamples=resamples)
        for name, entry in measured.items():
            figures[name] = {**entry.figures, "flip": used_flip}
            if entry.scores is None or not writes:
                continue
            if scores_dir is not None:
                save_scores(scores_dir / f"{name}.{role}.npz", entry.scores)
            if worst_dir is not None and isinstance(protocol, PairsProtocol):
                path = worst_dir / f"{name}.{role}.jpg"
                write_worst_errors(path, protocol, entry.scores.score, entry.figures["threshold"])
    return figures


def score_pairs(
    model: nn.Module,
    protocol: PairsProtocol,
    *,
    cache: Path | None = None,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
    flip: Flip = "none",
) -> Tensor:
    """(P,) scores of one network on one protocol, from the cache where they are; arguments as of `run_protocols`."""
    cached = None if cache is None else cache / _cache_name(model, protocol, flip)
    run = partial(embed, model, protocol, batch_size=batch_size, device=device, flip=flip)
    return _cached_scores(cached, protocol, run, None)


def save_scores(path: Path, scores: PairScores) -> None:
    """Writes `score`, `same`, `fold` as a compressed npz."""
    write_npz(
        path,
        score=scores.score.float().numpy(),
        same=scores.same.bool().numpy(),
        fold=scores.fold.to(torch.int64).numpy(),
    )


def _cached_scores(
    path: Path | None, protocol: PairsProtocol, run: Callable[[], Tensor], group: torch.device | None
) -> Tensor:
    """The cached scores, or new ones.

    With a process group (on device `group`), the cache is used only if every process has the scores, because
    embedding is a collective operation.
    """
    score = None if path is None else _load_scores(path, len(protocol.same))
    if group is not None and not gather_constant(torch.tensor([score is not None], device=group)).all():
        score = None
    if score is None:
        score = protocol.score(run())
        if path is not None and (group is None or rank() == 0):
            with suppress(UserError):  # a cache folder may be read-only
                save_scores(path, PairScores(score, protocol.same, protocol.fold))
    return score


def _cache_name(model: nn.Module, protocol: PairsProtocol, flip: Flip) -> str:
    parts = f"{_CACHE_VERSION}/{network_fingerprint(model)}/{protocol.fingerprint}/{flip}"
    return f"scores-{protocol.name}-{hashlib.sha256(parts.encode()).hexdigest()[:16]}.npz"


def _load_scores(path: Path, num_pairs: int) -> Tensor | None:
    """The cached scores; None if there are none or the file is damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            score = torch.from_numpy(arrays["score"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    return score if score.shape == (num_pairs,) else None
