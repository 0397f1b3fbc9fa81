"""Directions of w that turn a face: landmarks of rendered faces, regressed on their styles.

The target is the angle of the nose against the eyes. Ridge regression finds β with angle ≈ βᵀ(w - mean). The step that
changes the prediction by one degree and else moves as styles do is d = Σβ / (βᵀΣβ) with Σ = Cov(w), the regression of w on
the predicted angle. β itself leaves the distribution of styles, and faces break before they turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from facedistill.errors import AssetError, ConfigError
from facedistill.images import to_uint8
from facedistill.models.detectors.scrfd import Scrfd
from facedistill.models.fingerprint import tensors_fingerprint
from facedistill.models.generators.frozen import FrozenGenerator
from facedistill.models.latents import draw_latents
from facedistill.system.files import write_atomically
from facedistill.system.progress import ProgressBar

ANGLES = ("yaw", "pitch")
_BATCH, _DETECTION_PX, _FOLDS = 4, 320, 5


@dataclass(frozen=True)
class Directions:
    """What turns the faces of one generator, in w per degree.

    Attributes:
        yaw: (L,) step to the image's right.
        pitch: (L,) step downwards.
        r2: Five-fold R² of yaw and pitch.
        renders: Faces that the steps were estimated on.
        detected: Share of the rendered faces that the detector found.
    """

    yaw: Tensor
    pitch: Tensor
    r2: tuple[float, float]
    renders: int
    detected: float


def landmark_angles(landmarks: np.ndarray) -> np.ndarray:
    """Yaw and pitch (n, 2) in degrees of five landmarks (n, 5, 2), independent of roll and scale.

    Yaw is atan(2 · offset / eye distance), the nose's offset from the middle of the eyes along their line, positive to the
    image's right. Pitch is the same of the nose's offset across that line, from the middle between eyes and mouth.

    >>> landmark_angles(np.array([[[0, 0], [2, 0], [2, 1], [0, 2], [2, 2]]]))
    array([[45.,  0.]])
    """
    points = landmarks.astype(np.float64)
    axis = points[:, 1] - points[:, 0]
    distance = np.linalg.norm(axis, axis=1, keepdims=True)
    along, across = axis / distance, np.stack([-axis[:, 1], axis[:, 0]], 1) / distance
    eyes, nose, mouth = points[:, :2].mean(1), points[:, 2], points[:, 3:].mean(1)
    offsets = [((nose - eyes) * along).sum(1), ((nose - (eyes + mouth) / 2) * across).sum(1)]
    return np.degrees(np.arctan(2 * np.stack(offsets, 1) / distance))


@torch.no_grad()
def detect_angles(generator: FrozenGenerator, detector: Scrfd, w: Tensor, title: str = "") -> np.ndarray:
    """Yaw and pitch (n, 2) of native renders of styles (n, L); NaN where the detector finds no face."""
    found = np.full((len(w), 2), np.nan)
    with ProgressBar(title, len(w), quiet=not title) as progress:
        for start in range(0, len(w), _BATCH):
            native = to_uint8(generator.native(w[start : start + _BATCH])).permute(0, 2, 3, 1).cpu().numpy()
            for number, pixels in enumerate(native, start):
                faces = detector.detect(Image.fromarray(pixels), _DETECTION_PX)
                if len(faces):
                    found[number] = landmark_angles(faces.landmarks[:1])[0]
                progress.advance()
    return found


def estimate_directions(
    generator: FrozenGenerator, detector: Scrfd, *, renders: int = 1500, ridge: float = 30.0, seed: int = 0
) -> Directions:
    """Estimates the steps on faces of z ~ N(0, I).

    Args:
        generator: Frozen generator.
        detector: Finds landmarks in native renders.
        renders: Faces to render.
        ridge: Weight of |β|² in the sum of squared errors.
        seed: Of the latents.

    Raises:
        ConfigError: If fewer than 20 faces are found.
    """
    device = generator.cholesky_w.device
    z = draw_latents(seed, "directions", torch.arange(renders), generator.latent_dim).to(device)
    w = generator.map(z)
    angles = detect_angles(generator, detector, w, "landmarks of rendered faces, once")
    seen = ~np.isnan(angles[:, 0])
    if seen.sum() < 4 * _FOLDS:
        raise ConfigError(
            f"--renders {renders}: the detector finds {int(seen.sum())} faces, and {4 * _FOLDS} are needed; render more, or "
            "look at them with `facedistill generator preview`"
        )
    styles, targets = w.cpu().double()[torch.from_numpy(seen)], torch.from_numpy(angles[seen])
    cholesky = generator.cholesky_w.cpu().double()
    steps, scores = [], []
    for target in targets.unbind(1):
        steps.append(step_per_degree(ridge_weights(styles, target, ridge), cholesky).float())
        scores.append(cross_validated_r2(styles, target, ridge))
    return Directions(steps[0], steps[1], (scores[0], scores[1]), renders, float(seen.mean()))


def ridge_weights(styles: Tensor, target: Tensor, ridge: float) -> Tensor:
    """β (L,) of the least squared error plus `ridge` |β|², for centered styles (n, L) and target (n,)."""
    x, y = styles - styles.mean(0), target - target.mean()
    return torch.linalg.solve(x.T @ x + ridge * torch.eye(x.shape[1], dtype=x.dtype), x.T @ y)


def step_per_degree(weights: Tensor, cholesky: Tensor) -> Tensor:
    """d = Σβ / (βᵀΣβ) (L,) of β (L,) and the lower triangular (L, L) factor of Σ."""
    scaled = cholesky @ (cholesky.T @ weights)
    return scaled / (weights @ scaled)


def cross_validated_r2(styles: Tensor, target: Tensor, ridge: float) -> float:
    """R² of predictions for each of five parts by the weights of the other four."""
    part = torch.arange(len(target)) % _FOLDS
    predicted = torch.empty_like(target)
    for fold in range(_FOLDS):
        rest, held = part != fold, part == fold
        weights = ridge_weights(styles[rest], target[rest], ridge)
        predicted[held] = target[rest].mean() + (styles[held] - styles[rest].mean(0)) @ weights
    return float(1 - (target - predicted).square().sum() / (target - target.mean()).square().sum())


def write_directions(path: Path, directions: Directions, generator: FrozenGenerator) -> Path:
    """Writes them next to the generator's weights, bound to its distribution of styles."""
    about = {
        "generator": _latent_space(generator), "renders": str(directions.renders), "detected": f"{directions.detected:.4f}",
        "r2": " ".join(f"{value:.4f}" for value in directions.r2),
    }  # fmt: skip
    tensors = {"yaw": directions.yaw.contiguous(), "pitch": directions.pitch.contiguous()}
    return write_atomically(path, lambda file: save_file(tensors, file, about))


def read_directions(path: Path, generator: FrozenGenerator) -> Directions:
    """Reads what `write_directions` wrote for this generator.

    Raises:
        AssetError: If it cannot be read, or belongs to another generator.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about, tensors = file.metadata() or {}, {name: file.get_tensor(name) for name in ANGLES}
        first, second = (float(value) for value in about["r2"].split())
        found = Directions(
            **tensors, r2=(first, second), renders=int(about["renders"]), detected=float(about["detected"])
        )
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise AssetError(
            f"{path}: cannot be read as directions ({error}); delete it and estimate them again"
        ) from None
    if about.get("generator") != _latent_space(generator):
        raise AssetError(f"{path}: belongs to another generator; delete it and estimate the directions again")
    return found


def measured_yaw(
    generator: FrozenGenerator,
    detector: Scrfd,
    step: Tensor,
    degrees: Sequence[float],
    *,
    faces: int = 64,
    seed: int = 1,
) -> list[tuple[float, float]]:
    """For each angle that is added: the mean change of the measured yaw, and the share of faces that are found."""
    z = draw_latents(seed, "directions", torch.arange(faces), generator.latent_dim).to(generator.cholesky_w)
    w = generator.map(z)
    before = detect_angles(generator, detector, w)[:, 0]
    found = []
    for angle in degrees:
        after = detect_angles(generator, detector, w + angle * step.to(w))[:, 0]
        found.append((float(np.nanmean(after - before)), float((~np.isnan(after)).mean())))
    return found


def _latent_space(generator: FrozenGenerator) -> str:
    return tensors_fingerprint({"mean_w": generator.mean_w, "cholesky_w": generator.cholesky_w})
