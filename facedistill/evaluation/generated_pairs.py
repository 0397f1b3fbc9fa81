"""Verification on generated pairs: made once from the generator and the teacher, then a benchmark as any.

Where no photograph may be shown or had, it tells whether a student separates people as its teacher does. The
teacher picks the genuine pairs, so it scores near 1 itself; the figures are no substitute for LFW's.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import InitVar, asdict, dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facedistill.errors import ConfigError, DataError, UserError, os_errors_as
from facedistill.evaluation.protocols.base import PairsProtocol
from facedistill.evaluation.protocols.images import ArrayImages
from facedistill.models.fingerprint import network_fingerprint
from facedistill.models.latents import draw_latents
from facedistill.models.synthetic_identities import embed_bytes, render_accepted, to_bytes
from facedistill.models.weights import read_weights, write_weights
from facedistill.system.progress import ProgressBar
from facedistill.types import Generator

Purpose: TypeAlias = Literal["generated", "validation"]

NUM_FOLDS = 10
STREAMS: dict[Purpose, str] = {"generated": "generated_pairs", "validation": "validation_pairs"}
"""For the table, and for watching a run: streams of latents that have nothing in common, whatever the seeds."""
_VERSION = 1
_MAX_TRIES = 8
_SHRINK = 0.75  # the spread of a redrawn variation, relative to the one before
_BATCH = 16


@dataclass(frozen=True)
class GeneratedPairs:
    """What the pairs are made of.

    Attributes:
        identities: K, a multiple of 10 and >= 20; K genuine pairs, and as many impostor pairs per turn.
        seed: Seed of the held-out latents, whose streams training never draws from.
        spread: c of a variation's style w' = w + c·L·n, with L Lᵀ = Cov(w) and n ~ N(0, I).
        min_teacher_cosine: A genuine pair below is redrawn with a smaller spread.
        impostors_per_identity: Turns; 1 keeps both kinds of pairs equal in number, as accuracy wants it.
        purpose: Whose part of the configuration it is, for messages.

    Raises:
        ConfigError: If a value is outside its range.
    """

    identities: int = 300
    seed: int = 20261122
    spread: float = 0.35
    min_teacher_cosine: float = 0.4
    impostors_per_identity: int = 1
    purpose: InitVar[Purpose] = "generated"

    def __post_init__(self, purpose: Purpose) -> None:
        key = f"evaluation.{STREAMS[purpose]}"
        if self.identities < 2 * NUM_FOLDS or self.identities % NUM_FOLDS:
            raise ConfigError(f"{key}.identities: must be a multiple of 10 from 20, got {self.identities}")
        if self.spread <= 0:
            raise ConfigError(f"{key}.spread: must be above 0, got {self.spread}")
        if not -1 <= self.min_teacher_cosine < 1:
            raise ConfigError(
                f"{key}.min_teacher_cosine: must be within [-1, 1), got {self.min_teacher_cosine}"
            )
        if not 1 <= self.impostors_per_identity < self.identities // NUM_FOLDS:
            most = self.identities // NUM_FOLDS - 1
            raise ConfigError(
                f"{key}.impostors_per_identity: must be within 1 and {most} (identities per fold - 1), "
                f"got {self.impostors_per_identity}"
            )


def generated_protocol(
    generator: Generator,
    teacher: nn.Module,
    cache: Path,
    settings: GeneratedPairs,
    *,
    purpose: Purpose = "generated",
) -> PairsProtocol:
    """The protocol `generated` or `validation`: opens what `make_generated_pairs` makes."""
    return load_generated_pairs(
        make_generated_pairs(generator, teacher, cache, settings, purpose=purpose), purpose
    )


def make_generated_pairs(
    generator: Generator,
    teacher: nn.Module,
    cache: Path,
    settings: GeneratedPairs,
    *,
    purpose: Purpose = "generated",
    quiet: bool = False,
) -> Path:
    """Renders a base face and a variation of each identity, once per generator, teacher and settings.

    The file holds `base` and `variation`, uint8 (K, 3, 112, 112), `teacher_cosine` (K,) between them and
    `spread` (K,) as used. Identity i depends on the seed and on i only, but for the rounding of batches.

    Args:
        generator: A frozen face generator, also an `nn.Module`.
        teacher: A frozen teacher on the same device.
        cache: Folder of the file, whose name carries a hash of all that decides its content.
        settings: What to make.
        purpose: Decides the protocol's name and the stream of latents.
        quiet: Draws no progress bar.

    Returns:
        The file's path, whether it was there or not.

    Raises:
        ConfigError: If no variation of some identity reaches the teacher cosine.
        UserError: If the file cannot be written.
    """
    assert isinstance(generator, nn.Module)
    parts = {
        "version": _VERSION,
        "generator": network_fingerprint(generator),
        "teacher": network_fingerprint(teacher),
        **asdict(settings),
    }
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    path = cache / f"{STREAMS[purpose].replace('_', '-')}-{key[:16]}.safetensors"
    if not path.is_file():
        demand_writable(cache)  # before the minutes that rendering takes
        drawn = []
        title = f"making {purpose} pairs, once"
        with ProgressBar(title, settings.identities, "identities", quiet=quiet) as progress:
            for indices in torch.arange(settings.identities).split(_BATCH):
                drawn.append(_draw(generator, teacher, indices, settings, STREAMS[purpose]))
                progress.advance(len(indices))
        arrays = {name: torch.cat([part[name] for part in drawn]) for name in drawn[0]}
        write_weights(path, arrays, {"settings": json.dumps(asdict(settings), sort_keys=True)})
    return path


def demand_writable(cache: Path) -> None:
    """Makes the cache folder.

    Raises:
        UserError: If no file can be written to it.
    """
    fix = "set FACEDISTILL_CACHE to a folder that you may write to"
    with os_errors_as(UserError, f"{cache}: cannot be written", fix):
        cache.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=cache).close()


def load_generated_pairs(path: Path, name: Purpose = "generated") -> PairsProtocol:
    """Opens a file of `make_generated_pairs`.

    Genuine pairs are base and variation of one identity; an impostor pair is the base of one and the
    variation of the t-th next identity in the same fold, t = 1, …, impostors_per_identity. Folds share no
    identity.

    Raises:
        DataError: If the file is damaged.
    """
    try:
        arrays, metadata = read_weights(path)
        base, variation = arrays["base"], arrays["variation"]
        turns = int(json.loads(metadata["settings"])["impostors_per_identity"])
        faces = ArrayImages(torch.cat([base, variation]))
    except (UserError, KeyError, ValueError) as error:
        raise DataError(
            f"{path}: is not a complete file of generated pairs; delete it, and it is made again"
        ) from error
    k = len(base)
    identity = torch.arange(k)
    per_fold = k // NUM_FOLDS
    fold = identity // per_fold
    others = [
        fold * per_fold + (identity - fold * per_fold + turn) % per_fold for turn in range(1, turns + 1)
    ]
    return PairsProtocol(
        name=name,
        image_set=faces,
        left=identity.repeat(1 + turns),
        right=torch.cat([identity, *others]) + k,
        same=torch.arange(k * (1 + turns)) < k,
        fold=fold.repeat(1 + turns),
    )


@torch.no_grad()
def _draw(
    generator: Generator, teacher: nn.Module, indices: Tensor, settings: GeneratedPairs, stream: str
) -> dict[str, Tensor]:
    """Base faces and accepted variations of a few identities."""
    factor = generator.cholesky_w
    w = generator.map(
        draw_latents(settings.seed, f"{stream}/base", indices, generator.latent_dim).to(factor.device)
    )
    base = to_bytes(generator.render(w))

    def styles(attempt: int, rows: Tensor, spread: Tensor) -> Tensor:
        noise = draw_latents(settings.seed, f"{stream}/variation/{attempt}", indices[rows], len(factor))
        return w[rows.to(w.device)] + spread[:, None].to(factor) * noise.to(factor) @ factor.T

    varied, refused = render_accepted(
        generator,
        teacher,
        styles,
        F.normalize(embed_bytes(teacher, base, factor.device), dim=1),
        torch.full((len(indices),), settings.spread, dtype=torch.float64),
        min_cosine=torch.full((len(indices),), settings.min_teacher_cosine),
        max_tries=_MAX_TRIES,
        shrink=_SHRINK,
    )
    if len(refused):
        raise ConfigError(
            f"evaluation.{stream}.min_teacher_cosine: {settings.min_teacher_cosine} is not reached by "
            f"identity {int(indices[refused[0]])} in {_MAX_TRIES} tries down to spread "
            f"{float(varied.spread[refused[0]]):.3f}; lower one of the two"
        )
    return {
        "base": base,
        "variation": varied.faces,
        "teacher_cosine": varied.teacher_cosine,
        "spread": varied.spread,
    }
