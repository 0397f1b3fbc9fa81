"""Resampling in latent space against its definition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from facedistill.errors import ConfigError
from facedistill.models.generators import resample


class Plain:
    """A generator whose mapping is z -> 3 z."""

    def __init__(self) -> None:
        self.cholesky_w = torch.tensor([[2.0, 0.0], [1.0, 0.5]])

    def map(self, z: Tensor) -> Tensor:
        return 3 * z


z = torch.tensor([[1.0, -1.0], [0.5, 2.0], [0.0, 1.0]])
w = 3 * z
noise = torch.tensor([[1.0, 2.0], [-1.0, 1.0], [0.3, 0.4]])
coefficient = torch.tensor([0.0, 0.5, 1.0])


def test_each_spread_is_its_formula_row_by_row() -> None:
    plain, rho = Plain(), 0.8
    for spread in ("covariance", "isotropic", "latent"):
        got = resample(plain, w, z, coefficient, noise, spread=spread, rho=rho)
        for i in range(3):
            c, n = float(coefficient[i]) * rho, noise[i]
            step = torch.tensor([2 * n[0], n[0] + 0.5 * n[1]])  # L n by hand
            wanted = {"covariance": w[i] + c * step, "isotropic": w[i] + c * n, "latent": 3 * (z[i] + c * n)}[
                spread
            ]
            torch.testing.assert_close(got[i], wanted)


def test_zero_agreement_leaves_the_face() -> None:
    for spread in ("covariance", "isotropic", "latent"):
        torch.testing.assert_close(resample(Plain(), w, z, torch.zeros(3), noise, spread=spread), w)


def test_covariance_spread_has_the_generators_covariance() -> None:
    many = torch.randn(50_000, 2, generator=torch.Generator().manual_seed(0))
    step = resample(Plain(), torch.zeros(50_000, 2), many, torch.ones(50_000), many)
    torch.testing.assert_close(step.T.cov(), torch.tensor([[4.0, 2.0], [2.0, 1.25]]), atol=0.1, rtol=0)


def test_wrong_options_are_named() -> None:
    with pytest.raises(ConfigError) as caught:
        resample(Plain(), w, z, coefficient, noise, spread="wide")  # type: ignore[arg-type]
    assert str(caught.value) == "data.spread: unknown value 'wide'; try one of covariance, latent, isotropic"
    with pytest.raises(ConfigError) as caught:
        resample(Plain(), w, z, coefficient, noise, rho=-1)
    assert str(caught.value) == "data.rho: needs a number >= 0, got -1"
