"""Margins of the softmax heads: cosines to margined cosines.

`target` are the (N,) cosines of images with the center of their own identity. Every function computes in float32 or
better. c = cos θ_y throughout.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from facedistill.losses.precision import at_least_float32

Gradient = Literal["exact", "reference"]
BeyondPi = Literal["linear", "easy", "wrap"]


def target_cosines(cosines: Tensor, labels: Tensor) -> Tensor:
    """(N,) the cosine in the column that `labels` (N,) names, of cosines (N, K)."""
    return at_least_float32(cosines).gather(1, labels.unsqueeze(1)).squeeze(1)


def replace_target(cosines: Tensor, labels: Tensor, target: Tensor) -> Tensor:
    """(N, K) cosines with `target` (N,) in the column of each image's identity."""
    return at_least_float32(cosines).scatter(1, labels.unsqueeze(1), target.unsqueeze(1))


def sine(cosine: Tensor) -> Tensor:
    """sqrt(1 - c²) in [0, 1] of a cosine of any shape; its slope -c / sin θ is 0 where sin² θ < 1e-6 (float64: 1e-14).

    There the true slope grows without bound while float32 no longer resolves the angle.
    """
    squared = (1 - cosine) * (1 + cosine)
    sloped = squared.clamp(min=1e-14 if cosine.dtype == torch.float64 else 1e-6).sqrt()
    return sloped + (squared.detach().clamp(min=0).sqrt() - sloped.detach())


def arcface_target(
    target: Tensor,
    margin_rad: float | Tensor,
    *,
    gradient: Gradient = "exact",
    beyond_pi: BeyondPi = "linear",
) -> Tensor:
    """cos(θ + m) of ArcFace (after Deng et al., CVPR 2019).

    >>> arcface_target(torch.tensor([0.6]), margin_rad=0.5)
    tensor([0.1430])

    Args:
        target: (N,) cosines in [-1, 1].
        margin_rad: m in [0, π), one for all or (N,).
        gradient: "exact" has the derivative sin(θ + m) / sin θ. "reference" has 1: insightface's arcface_torch edits
            the cosines under no_grad, so that autograd takes the margined cosine for the plain one.
        beyond_pi: The value where θ + m > π, where cos would rise again: "linear" c - m sin m (insightface's and
            TFace's non-easy margin); "wrap" cos(θ + m) all the same (arcface_torch). "easy" has the margin only where
            c > 0, and c elsewhere (`easy_margin=True`).

    Returns:
        (N,) margined cosines.
    """
    target = at_least_float32(target)
    margin = margin_rad if isinstance(margin_rad, Tensor) else target.new_full((), margin_rad)
    margin = margin.to(target)
    margined = target * margin.cos() - sine(target) * margin.sin()
    if beyond_pi == "linear":
        margined = torch.where(target > -margin.cos(), margined, target - margin * margin.sin())
    elif beyond_pi == "easy":
        margined = torch.where(target > 0, margined, target)
    return margined if gradient == "exact" else target + (margined - target).detach()


def adaface_target(
    target: Tensor,
    norms: Tensor,
    *,
    mean: Tensor,
    std: Tensor,
    margin: float = 0.4,
    concentration: float = 0.333,
) -> Tensor:
    """cos(θ - m ẑ) - (m + m ẑ) of AdaFace (after Kim et al., CVPR 2022; released head.py).

    ẑ = clip(h (‖f‖ - mean) / (std + 1e-3), -1, 1), without gradient, is a stand-in for image quality: ẑ = -1 is ArcFace,
    ẑ = 0 CosFace, ẑ = 1 a negative angular margin. θ - m ẑ is clipped to [1e-3, π - 1e-3]. The released code clips
    every cosine to ±(1 - 1e-3) as well; here the slope at ±1 is bounded instead (`sine`).

    >>> adaface_target(torch.tensor([0.6]), torch.tensor([20.0]), mean=torch.tensor(20.0), std=torch.tensor(5.0))
    tensor([0.2000])

    Args:
        target: (N,) cosines in [-1, 1].
        norms: (N,) norms of the embeddings, clipped to [1e-3, 100] as released.
        mean: () running mean of the norms.
        std: () running standard deviation of the norms.
        margin: m, used as an angle in radians and as a cosine.
        concentration: h > 0; at 0.333 about 68 % of images have |ẑ| < 0.333.
    """
    target = at_least_float32(target)
    quality = (at_least_float32(norms).detach().clamp(1e-3, 100) - mean) / (std + 1e-3)
    quality = (concentration * quality).clamp(-1, 1).to(target.dtype)
    turn = -margin * quality
    turned = target * turn.cos() - sine(target) * turn.sin()
    angle = target.detach().clamp(-1, 1).acos() + turn
    turned = torch.where(angle < 1e-3, math.cos(1e-3), turned)
    turned = torch.where(angle > math.pi - 1e-3, -math.cos(1e-3), turned)
    return turned - (margin + margin * quality)


def magface_margin(
    norms: Tensor,
    *,
    norm_range: tuple[float, float] = (10, 110),
    margin_range_rad: tuple[float, float] = (0.45, 0.8),
) -> Tensor:
    """(N,) margins in radians, linear in the norm clipped to `norm_range`: m(a) of MagFace (Meng et al., CVPR 2021).

    The gradient reaches the norms, as in the released code.

    >>> magface_margin(torch.tensor([5.0, 60.0]))
    tensor([0.4500, 0.6250])
    """
    (low, high), (least, most) = norm_range, margin_range_rad
    return least + (most - least) / (high - low) * (at_least_float32(norms).clamp(low, high) - low)


def magface_regularizer(norms: Tensor, *, norm_range: tuple[float, float] = (10, 110)) -> Tensor:
    """(N,) g(a) = a / u_a² + 1 / a of the norm a clipped to [l_a, u_a]: smallest at a = u_a (MagFace).

    >>> magface_regularizer(torch.tensor([10.0, 110.0]))
    tensor([0.1008, 0.0182])
    """
    clipped = at_least_float32(norms).clamp(*norm_range)
    return clipped / norm_range[1] ** 2 + 1 / clipped


def curricularface_others(cosines: Tensor, target: Tensor, *, margin_rad: float, ease: Tensor) -> Tensor:
    """Hard columns weigh more as training proceeds: CurricularFace (after Huang et al., CVPR 2020).

    c_j becomes c_j (t + c_j) where c_j > cos(θ_y + m), a comparison without gradient; t has none either. The image's
    target column is changed like any other; `replace_target` comes after.

    >>> cosines = torch.tensor([[0.9, 0.8, 0.1]])
    >>> curricularface_others(cosines, torch.tensor([0.9]), margin_rad=0.5, ease=torch.tensor(0.3))
    tensor([[1.0800, 0.8800, 0.1000]])

    Args:
        cosines: (N, K) cosines, or any part of the columns.
        target: (N,) target cosines without margin.
        margin_rad: m.
        ease: () t, the running mean of the own cosines.
    """
    cosines = at_least_float32(cosines)
    edge = arcface_target(target.detach(), margin_rad, beyond_pi="wrap").unsqueeze(1)
    return torch.where(cosines > edge, cosines * (ease.to(cosines.dtype) + cosines), cosines)


def arcface(
    cosines: Tensor, labels: Tensor, margin_rad: float | Tensor = 0.5, *, beyond_pi: BeyondPi = "linear"
) -> Tensor:
    """`arcface_target` in the column of each image's identity: (N, K) and labels (N,) to (N, K).

    >>> arcface(torch.tensor([[0.6, 0.1]]), torch.tensor([0]))
    tensor([[0.1430, 0.1000]])
    """
    target = target_cosines(cosines, labels)
    return replace_target(cosines, labels, arcface_target(target, margin_rad, beyond_pi=beyond_pi))


def cosface(cosines: Tensor, labels: Tensor, margin_cos: float | Tensor = 0.35) -> Tensor:
    """c - m in the column of each image's identity: CosFace (after Wang et al., CVPR 2018).

    >>> cosface(torch.tensor([[0.6, 0.1]]), torch.tensor([0]))
    tensor([[0.2500, 0.1000]])
    """
    return replace_target(cosines, labels, target_cosines(cosines, labels) - margin_cos)


def uniface(logits: Tensor, columns: Tensor, bias: Tensor, *, impostor_weight: float = 1.0) -> Tensor:
    """Unified cross entropy of UniFace (Zhou et al., ICCV 2023; released head.py): one threshold for all identities.

    L_i = log(1 + exp(b - z_y)) + λ · sum over j != y of log(1 + exp(z_j - b)), with z_y = s (cos θ_y - m) and
    z_j = s cos θ_j: b / s is the cosine that divides genuine from impostor. The released code clips the exponents to
    ±s, which has no gradient beyond them; softplus needs no clipping.

    >>> uniface(torch.tensor([[2.0, -2.0]]), torch.tensor([0]), bias=torch.tensor(0.0))
    tensor([0.2539])

    Args:
        logits: (N, K) scaled cosines with the margin in the target column, or any part of the columns.
        columns: (N,) the own identity's column, -1 where it is not among these.
        bias: () b.
        impostor_weight: λ.

    Returns:
        (N,) losses; those of parts of the columns add up to the loss of all columns.
    """
    logits = at_least_float32(logits)
    here, columns = columns >= 0, columns.clamp(min=0)
    impostor = F.softplus(logits - bias)
    genuine = F.softplus(bias - target_cosines(logits, columns))
    unlike = impostor.sum(1) - torch.where(here, target_cosines(impostor, columns), 0)
    return torch.where(here, genuine, 0) + impostor_weight * unlike
