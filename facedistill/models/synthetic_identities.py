"""Labeled faces of people who do not exist: an identity is a latent, its images are variations of it.

Everything is a function of (seed, identity k, image j), but for the rounding of batches. The streams are named
`synthetic_identities/…`, so no face of the held-out pairs (`generated_pairs/…`) can come back here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facedistill.errors import ConfigError
from facedistill.images import SIZE_PX, to_float, to_uint8
from facedistill.models.latents import draw_latents
from facedistill.types import Generator

_MAX_LATENTS = 64  # candidates for one identity before the settings are refused
_BATCH = 16
_PER_IDENTITY = 1 << 40  # numbers that one identity owns in a stream


@dataclass(frozen=True)
class SyntheticIdentities:
    """What the identities and their images are.

    Attributes:
        identities: K >= 2.
        seed: Of every latent and every variation.
        spread: c of a variation's style w' = w + c·L·n, with L Lᵀ = Cov(w) and n ~ N(0, I); units of the
            covariance, > 0.
        min_teacher_cosine: A variation whose teacher cosine to its identity's base face is below is drawn again
            with a smaller spread, in [-1, 1).
        max_identity_cosine: A latent whose base face is nearer than this to an earlier identity's is replaced,
            in (-1, 1].
        max_tries: Draws of one variation, >= 1.
        shrink: Spread of a redrawn variation over the one before, in (0, 1).

    Raises:
        ConfigError: If a value is outside its range.
    """

    identities: int = 500
    seed: int = 1
    spread: float = 0.35
    min_teacher_cosine: float = 0.5
    max_identity_cosine: float = 0.4
    max_tries: int = 8
    shrink: float = 0.75

    def __post_init__(self) -> None:
        for name in ("identities", "seed", "max_tries"):
            value = getattr(self, name)
            least = {"identities": 2, "seed": 0, "max_tries": 1}[name]
            if not isinstance(value, int) or value < least:
                raise ConfigError(f"synthetic.{name}: must be a whole number from {least}, got {value}")
        for name, fits, demand in (
            ("spread", lambda x: x > 0, "above 0"),
            ("min_teacher_cosine", lambda x: -1 <= x < 1, "within [-1, 1)"),
            ("max_identity_cosine", lambda x: -1 < x <= 1, "within (-1, 1]"),
            ("shrink", lambda x: 0 < x < 1, "within (0, 1)"),
        ):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not fits(value):
                raise ConfigError(f"synthetic.{name}: must be {demand}, got {value}")


@dataclass(frozen=True)
class ChosenIdentities:
    """K latents whose base faces the teacher tells apart.

    Attributes:
        candidates: (K,) which candidate latent of each identity was taken; 0 where the first was.
        embeddings: (K, D) unit teacher embeddings of the base faces.
    """

    candidates: Tensor
    embeddings: Tensor

    @property
    def replaced(self) -> int:
        """Identities whose first latent was too near to an earlier identity."""
        return int((self.candidates > 0).sum())


@dataclass(frozen=True)
class IdentityImages:
    """Rendered images, all on the CPU but `styles`.

    Attributes:
        faces: (N, 3, 112, 112) uint8 RGB.
        teacher_cosine: (N,) to the base face of the identity; 1 for image 0.
        spread: (N,) as used; 0 for image 0.
        styles: (N, L) that the faces were rendered from, on the generator's device.
        embeddings: (N, D) raw teacher embeddings of exactly these faces.
    """

    faces: Tensor
    teacher_cosine: Tensor
    spread: Tensor
    styles: Tensor
    embeddings: Tensor


@torch.no_grad()
def choose_identities(
    generator: Generator,
    teacher: nn.Module,
    settings: SyntheticIdentities,
    advance: Callable[[int], object] | None = None,
) -> ChosenIdentities:
    """Takes for identity 0, 1, … the first candidate latent that is apart from all earlier identities.

    The first k identities are the same whatever K.

    Args:
        generator: A frozen face generator.
        teacher: A frozen teacher on the same device.
        settings: What to make.
        advance: Called with the number of identities just settled.

    Raises:
        ConfigError: If 64 latents in turn are too near, which says that K is too large for the bound.
    """
    known: Tensor | None = None
    candidates = torch.zeros(settings.identities, dtype=torch.int64)
    for block in torch.arange(settings.identities).split(_BATCH):
        first = _base_embeddings(generator, teacher, settings, block, candidates[block])
        for k, embedding in zip(block.tolist(), first, strict=True):
            known = torch.empty(settings.identities, len(embedding)) if known is None else known
            while k and float((known[:k] @ embedding).max()) > settings.max_identity_cosine:
                candidates[k] += 1
                if candidates[k] == _MAX_LATENTS:
                    raise ConfigError(
                        f"synthetic.max_identity_cosine: {settings.max_identity_cosine} is too low for "
                        f"identity {k} of {settings.identities} in {_MAX_LATENTS} latents; raise it or lower "
                        "synthetic.identities"
                    )
                index = torch.tensor([k])
                embedding = _base_embeddings(generator, teacher, settings, index, candidates[index])[0]
            known[k] = embedding
        if advance is not None:
            advance(len(block))
    assert known is not None
    return ChosenIdentities(candidates, known)


@torch.no_grad()
def render_identity_images(
    generator: Generator,
    teacher: nn.Module,
    chosen: ChosenIdentities,
    identity_indices: Tensor,
    image_indices: Tensor,
    settings: SyntheticIdentities,
) -> IdentityImages:
    """Renders image j of identity k for N pairs (k, j); image 0 is the base face itself.

    Args:
        generator: A frozen face generator.
        teacher: A frozen teacher on the same device.
        chosen: Of `choose_identities` with the same settings.
        identity_indices: (N,) k in [0, K).
        image_indices: (N,) j >= 0, below 2^40.
        settings: What to make.

    Raises:
        ConfigError: If no variation reaches the teacher cosine.
    """
    factor = generator.cholesky_w
    k, j = identity_indices.cpu(), image_indices.cpu()
    base = generator.map(_base_latents(generator, settings, k, chosen.candidates[k]).to(factor.device))

    def styles(attempt: int, rows: Tensor, spread: Tensor) -> Tensor:
        stream = f"synthetic_identities/variation/{attempt}"
        number = k[rows] * _PER_IDENTITY + j[rows]
        noise = draw_latents(settings.seed, stream, number, len(factor)).to(factor)
        return base[rows.to(base.device)] + spread[:, None].to(factor) * (noise @ factor.T)

    images, refused = render_accepted(
        generator,
        teacher,
        styles,
        chosen.embeddings[k],
        torch.where(j == 0, 0.0, float(settings.spread)),
        min_cosine=torch.where(j == 0, -torch.inf, settings.min_teacher_cosine),
        max_tries=settings.max_tries,
        shrink=settings.shrink,
    )
    if len(refused):
        first = int(refused[0])
        raise ConfigError(
            f"synthetic.min_teacher_cosine: {settings.min_teacher_cosine} is not reached by image {int(j[first])} of "
            f"identity {int(k[first])} in {settings.max_tries} tries down to spread {float(images.spread[first]):.3f}; "
            "lower one of the two"
        )
    return images


@torch.no_grad()
def render_accepted(
    generator: Generator,
    teacher: nn.Module,
    styles: Callable[[int, Tensor, Tensor], Tensor],
    expected: Tensor,
    spread: Tensor,
    *,
    min_cosine: Tensor,
    max_tries: int,
    shrink: float,
) -> tuple[IdentityImages, Tensor]:
    """Renders N variations, and draws those again that the teacher does not accept, with a smaller spread.

    Args:
        generator: A frozen face generator.
        teacher: A frozen teacher on the same device.
        styles: Gives styles (n, L) for (attempt, rows (n,), their spread (n,)).
        expected: (N, D) unit embedding that each variation must be similar to, on the CPU.
        spread: (N,) of the first attempt.
        min_cosine: (N,) teacher cosine from which a variation is accepted.
        max_tries: Most attempts.
        shrink: Spread of an attempt over that of the one before.

    Returns:
        The images, and the rows (n,) that no attempt got accepted, whose images are undefined.
    """
    device = generator.cholesky_w.device
    spread, pending = spread.clone(), torch.arange(len(expected))
    cosine, embeddings = torch.empty(len(expected)), torch.empty_like(expected)
    faces = used = torch.empty(0)
    for attempt in range(max_tries):
        if attempt:
            spread[pending] *= shrink
        tried = styles(attempt, pending, spread[pending])
        drawn = to_bytes(generator.render(tried))
        raw = embed_bytes(teacher, drawn, device)
        reached = (F.normalize(raw, dim=1) * expected[pending]).sum(dim=1)
        good = reached >= min_cosine[pending]
        if attempt == 0:
            faces, used = torch.empty_like(drawn), tried.clone()
        done = pending[good]
        faces[done], embeddings[done], cosine[done] = drawn[good], raw[good], reached[good]
        used[done.to(used.device)] = tried[good.to(tried.device)]
        pending = pending[~good]
        if len(pending) == 0:
            break
    return IdentityImages(faces, cosine, spread.float(), used, embeddings), pending


def to_bytes(faces: Tensor) -> Tensor:
    """Faces in [-1, 1] as uint8 (N, 3, 112, 112) on the CPU."""
    assert faces.shape[1:] == (3, SIZE_PX, SIZE_PX)
    return to_uint8(faces).cpu()


def _base_latents(
    generator: Generator, settings: SyntheticIdentities, identities: Tensor, candidates: Tensor
) -> Tensor:
    number = identities * _PER_IDENTITY + candidates
    return draw_latents(settings.seed, "synthetic_identities/base", number, generator.latent_dim)


def _base_embeddings(
    generator: Generator,
    teacher: nn.Module,
    settings: SyntheticIdentities,
    identities: Tensor,
    candidates: Tensor,
) -> Tensor:
    """(N, D) unit embeddings of base faces, on the CPU."""
    device = generator.cholesky_w.device
    z = _base_latents(generator, settings, identities, candidates).to(device)
    return F.normalize(embed_bytes(teacher, to_bytes(generator.render(generator.map(z))), device), dim=1)


def embed_bytes(teacher: nn.Module, faces: Tensor, device: torch.device) -> Tensor:
    """(N, D) raw embeddings on the CPU, from the bytes that will be stored."""
    return teacher(to_float(faces.to(device))).float().cpu()
