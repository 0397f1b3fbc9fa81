"""Synthetic images, not of people, in the layouts of real benchmarks."""

import io
import pickle
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

NAMES = [f"Person_{letter}" for letter in "ABCDEFGH"]
FOLDS = 2
PER_KIND = 4


def draw(identity: int, shot: int, size: int = 112) -> bytes:
    """A smooth pattern that depends on the identity, with a little noise that depends on the shot."""
    rows, columns = np.mgrid[0:size, 0:size] / size
    colors = np.random.default_rng(identity).random((3, 3))
    waves = np.stack([np.sin(6 * a * rows + 5 * b * columns + 6 * c) for a, b, c in colors], axis=-1)
    noise = np.random.default_rng(1000 * identity + shot).normal(0, 0.05, waves.shape)
    pixels = np.clip((waves + noise + 1) * 127.5, 0, 255).astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def write_lfw(folder: Path) -> Path:
    """A miniature LFW: 8 people with 2 images, 2 folds of 4 + 4 pairs; returns the images' folder."""
    images = folder / "lfw112"
    for identity, name in enumerate(NAMES):
        for shot in (1, 2):
            path = images / name / f"{name}_{shot:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(draw(identity, shot))
    (folder / "lfw_pairs.txt").write_text(lfw_list())
    return images


def lfw_list() -> str:
    """The list that belongs to `write_lfw`."""
    lines = [f"{FOLDS}\t{PER_KIND}"]
    for fold in range(FOLDS):
        people = NAMES[4 * fold : 4 * fold + 4]
        lines += [f"{name}\t1\t2" for name in people]
        lines += [
            f"{name}\t1\t{other}\t2" for name, other in zip(people, people[1:] + people[:1], strict=True)
        ]
    return "\n".join(lines) + "\n"


def write_tar(folder: Path, path: Path, mode: str = "w") -> Path:
    """Packs a folder as `tar cf path folder` does."""
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        tar.add(folder, arcname=folder.name)
    return path


def write_bin(path: Path, images: Sequence[bytes], same: Sequence[bool], protocol: int = 2) -> Path:
    """As insightface's packers do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps((list(images), list(same)), protocol=protocol))
    return path


class Averages(nn.Module):
    """A network with predictable output: mean colors of a 4x4 grid times a weight."""

    embedding_dim = 48

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(48))
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        assert images.abs().max() <= 1
        return nn.functional.adaptive_avg_pool2d(images, 4).flatten(1) * self.weight
