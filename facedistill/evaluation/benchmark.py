"""Runs a network through protocols: embeddings, scores, figures."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor, nn

from facedistill.evaluation.embedder import Flip, embed
from facedistill.evaluation.fingerprint import network_fingerprint
from facedistill.evaluation.protocol import PairsProtocol
from facedistill.metrics.verification import verification_summary
from facedistill.models.weights import write_whole

Role: TypeAlias = Literal["student", "teacher"]

_CACHE_VERSION = 1


def run_protocols(
    model: nn.Module,
    protocols: Sequence[PairsProtocol],
    *,
    role: Role,
    scores_dir: Path | None = None,
    cache: Path | None = None,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
    flip: Flip = "none",
    resamples: int = 500,
    quiet: bool = False,
) -> dict[str, dict[str, Any]]:
    """Verification figures of one network on several protocols.

    Args:
        model: A student or a `FrozenTeacher`.
        protocols: What to run; see `find_protocol`.
        role: Goes into the score files' names.
        scores_dir: Where `<protocol>.<role>.npz` with `score` (P,) float32, `same` (P,) bool and `fold` (P,)
            int64 is written; nowhere if None.
        cache: Folder in which scores are kept by what network and protocol are, so that a frozen teacher is
            not run twice; no caching if None.
        batch_size: Faces per forward pass.
        device: Where the network runs.
        flip: See `embed`.
        resamples: Bootstrap samples of the intervals.
        quiet: Draws no progress bar.

    Returns:
        Per protocol name what `verification_summary` returns.

    Raises:
        DataError: If an image cannot be read, or the network's embeddings are not finite.
    """
    figures = {}
    for protocol in protocols:
        cached = None if cache is None else cache / _cache_name(model, protocol, flip)
        score = None if cached is None else _load_scores(cached, len(protocol.same))
        if score is None:
            embeddings = embed(model, protocol, batch_size=batch_size, device=device, flip=flip, quiet=quiet)
            score = protocol.score(embeddings)
            if cached is not None:
                save_scores(cached, score, protocol)
        if scores_dir is not None:
            save_scores(scores_dir / f"{protocol.name}.{role}.npz", score, protocol)
        figures[protocol.name] = verification_summary(
            score, protocol.same, protocol.fold, resamples=resamples
        )
    return figures


def save_scores(path: Path, score: Tensor, protocol: PairsProtocol) -> None:
    """Writes `score`, `same`, `fold` as a compressed npz, whole or not at all."""
    arrays = {
        "score": score.float().numpy(),
        "same": protocol.same.bool().numpy(),
        "fold": protocol.fold.to(torch.int64).numpy(),
    }

    def write(partial: Path) -> None:
        with partial.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    write_whole(path, write)


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
