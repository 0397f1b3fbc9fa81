"""Photographs with faces that an invented detector finds, and a small student that embeds them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from facedistill.export import save_student
from facedistill.models.backbones import MobileFaceNet
from facedistill.models.detectors.scrfd import Faces
from facedistill.models.detectors.similarity import ARCFACE_TEMPLATE
from facedistill.models.weights import read_weights, write_weights

TILE_PX = 224


class Tiles:
    """Sees a face in every tile of 224 px that is not black; boxes get smaller from left to right."""

    def find(self, image: Image.Image) -> Faces:
        """As a detector does."""
        pixels = np.asarray(image)
        lefts = [x for x in range(0, image.width - TILE_PX + 1, TILE_PX) if pixels[:, x : x + TILE_PX].any()]
        boxes = np.array([[x, 0.0, x + TILE_PX - x / 8, TILE_PX - x / 8] for x in lefts]).reshape(-1, 4)
        marks = np.array([2 * ARCFACE_TEMPLATE + 0.5 + [x, 0] for x in lefts]).reshape(-1, 5, 2)
        return Faces(boxes, np.ones(len(lefts)), marks)


def photograph(*seeds: int) -> Image.Image:
    """A photograph of one face for each seed, equal for equal seeds; seed 0 is a black tile."""
    tiles = []
    for seed in seeds:
        coarse = np.random.default_rng(seed).integers(40, 216, (7, 7, 3), dtype=np.uint8) * (seed > 0)
        tiles.append(np.asarray(Image.fromarray(coarse).resize((TILE_PX, TILE_PX), Image.Resampling.BICUBIC)))
    return Image.fromarray(np.concatenate(tiles, axis=1))


def small_student(path: Path, thresholds: str | None = None) -> Path:
    """Writes a student of 32 dimensions, the same at every call, with thresholds as JSON."""
    torch.manual_seed(0)
    save_student(MobileFaceNet(embedding_dim=32).eval(), path, {"run": "demo-1a2b3c4d"})
    if thresholds is not None:
        state, metadata = read_weights(path)
        write_weights(path, state, metadata | {"facedistill.thresholds": thresholds})
    return path
