"""Dynamic resampling in a generator's latent space (SynthDistill, section 3; methods.md section 1.2)."""

from __future__ import annotations

from typing import Literal, Protocol, get_args

from torch import Tensor

from facedistill.errors import ConfigError

Spread = Literal["covariance", "latent", "isotropic"]


class Latents(Protocol):
    """The part of a generator that resampling uses."""

    cholesky_w: Tensor

    def map(self, z: Tensor) -> Tensor:
        """(N, L) z to (N, L) w."""
        ...


def resample(
    generator: Latents,
    w: Tensor,
    z: Tensor,
    coefficient: Tensor,
    noise: Tensor,
    spread: Spread = "covariance",
    rho: float = 1.0,
) -> Tensor:
    """Perturbs styles by a step that grows with the agreement of student and teacher.

    SynthDistill's code: w' = w + c·rho·n, n ~ N(0, I), c = (cos(student, teacher) + 1) / 2. MobileStyleGAN's
    w has a standard deviation of 0.42 per dimension, most of it along few directions; there the published step
    at rho = 1 destroys the face. So the step can be scaled to the generator:

    - "covariance": w' = w + c·rho·(Lc n), Lc Lcᵀ = Cov(w)
    - "latent": w' = map(z + c·rho·n)
    - "isotropic": w' = w + c·rho·n, the released code's

    Args:
        generator: Whose latent space it is.
        w: (N, L) styles of the base faces.
        z: (N, L) latents of the base faces, w = map(z).
        coefficient: (N,) c in [0, 1]; zero leaves the face unchanged.
        noise: (N, L) standard normal n.
        spread: Units of the step.
        rho: Resampling coefficient >= 0.

    Returns:
        (N, L) styles w' of the variations.

    Raises:
        ConfigError: If `spread` is unknown or `rho` is negative.
    """
    if spread not in get_args(Spread):
        raise ConfigError(f"data.spread: unknown value {spread!r}; try one of {', '.join(get_args(Spread))}")
    if rho < 0:
        raise ConfigError(f"data.rho: needs a number >= 0, got {rho}")
    step = coefficient[:, None].to(w) * rho
    if spread == "latent":
        return generator.map(z + step * noise)
    return w + step * (noise @ generator.cholesky_w.T if spread == "covariance" else noise)
