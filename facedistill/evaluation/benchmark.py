"""Runs a network through protocols: embeddings, scores, figures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor, nn

from facedistill.distributed.collectives import gather_constant, rank
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
    """Figures of one network on several protocols.

    Args:
        model: A student or a `FrozenTeacher`.
        protocols: What to run; see `open_protocols`.
        role: Goes into the files' names.
        scores_dir: Where `<protocol>.<role>.npz` with `score` (P,) float32, `same` (P,) bool and `fold` (P,)
            int64 is written; nowhere if None.
        worst_dir: Where pictures of each pairs protocol's worst errors are written, see `write_worst_errors`;
            nowhere if None. They show the benchmark's faces: for a run folder only.
        cache: Folder in which scores of pairs are kept by what network and protocol are, so that a frozen
            teacher is not run twice; no caching if None.
        batch_size: Faces per forward pass.
        device: Where the network runs.
        flip: See `embed`; a protocol that prescribes its own (IJB) keeps to that.
        resamples: Bootstrap samples of the intervals.
        shared: Every process of the group calls this; each embeds its share, the first one writes the files.
        quiet: Draws no progress bar.

    Returns:
        Figures by protocol, IJB's by protocol and mode; see `verification_summary` and `closed_set_summary`.

    Raises:
        DataError: If an image cannot be read, or the network's embeddings are not finite.
    """
    figures = {}
    leads = not shared or rank() == 0
    for protocol in protocols:
        fitting = protocol.flip or flip
        run = partial(
            embed, model, protocol, batch_size=batch_size, device=device, flip=fitting, shared=shared,
            quiet=quiet,
        )  # fmt: skip
        if isinstance(protocol, PairsProtocol):
            cached = None if cache is None else cache / _cache_name(model, protocol, fitting)
            score = _cached_scores(cached, protocol, run, torch.device(device) if shared else None)
            measured = {protocol.name: protocol.figures(score, resamples=resamples)}
        else:
            measured = protocol.measure(run(), resamples=resamples)
        for name, entry in measured.items():
            figures[name] = {**entry.figures, "flip": fitting}
            if entry.scores is None or not leads:
                continue
            if scores_dir is not None:
                save_scores(scores_dir / f"{name}.{role}.npz", entry.scores)
            if worst_dir is not None and isinstance(protocol, PairsProtocol):
                path = worst_dir / f"{name}.{role}.jpg"
                write_worst_errors(path, protocol, entry.scores.score, entry.figures["threshold"])
    return figures


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
    """The cached scores, or new ones; with a process group (on device `group`) only where every process has
    them, so that none waits for another."""
    score = None if path is None else _load_scores(path, len(protocol.same))
    if group is not None and not gather_constant(torch.tensor([score is not None], device=group)).all():
        score = None
    if score is None:
        score = protocol.score(run())
        if path is not None and (group is None or rank() == 0):
            save_scores(path, PairScores(score, protocol.same, protocol.fold))
    return score


def _cache_name(model: nn.Module, protocol: PairsProtocol, flip: Flip) -> str:
    parts = f"{_CACHE_VERSION}/{network_fingerprint(model)}/{protocol.fingerprint}/{flip}"
    return f"scores-{protocol.name}-{hashlib.sha256(parts.encode()).hexdigest()[:16]}.npz"


def _load_scores(path: Path, num_pairs: int) -> Tensor | None:
    """The cached scores, or None where there are none or the file is damaged: then they are made anew."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            score = torch.from_numpy(arrays["score"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    return score if score.shape == (num_pairs,) else None
