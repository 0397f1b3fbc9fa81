"""Rendered faces next to their resampled variations, as cards for the page and as one picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from facedistill.reporting.figures import part
from facedistill.reporting.numbers import cosine
from facedistill.reporting.pages import jpeg_uri
from facedistill.reporting.run.files import Faces
from facedistill.reporting.run.reduced import least_to_most
from facedistill.reporting.style import Drawing, Theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SHOWN = 16
_COLUMNS = 4
_JPEG_QUALITY = 92


@dataclass(frozen=True)
class FaceCard:
    """One face and its variation as data URIs, with the numbers shown under them."""

    base: str
    variation: str
    base_cosine: str
    variation_cosine: str
    teacher_cosine: str
    coefficient: str


def shown(faces: Faces) -> np.ndarray:
    """Indices of the faces that the report shows, least agreement first."""
    return least_to_most(faces.base_cosine, _SHOWN)


def face_cards(faces: Faces) -> list[FaceCard]:
    """Cards of the shown faces, least agreement first."""
    return [
        FaceCard(
            base=_uri(faces.base[k]),
            variation=_uri(faces.variation[k]),
            base_cosine=cosine(float(faces.base_cosine[k])),
            variation_cosine=cosine(float(faces.variation_cosine[k])),
            teacher_cosine=cosine(float(faces.teacher_cosine[k])),
            coefficient=cosine(float(faces.base_cosine[k] + 1) / 2),
        )
        for k in shown(faces)
    ]


def faces_drawing(faces: Faces) -> Drawing:
    """The same cards as one picture, for figures/faces.png."""
    chosen = shown(faces)
    rows = -(-len(chosen) // _COLUMNS)
    least, most = (cosine(float(faces.base_cosine[k])) for k in (chosen[0], chosen[-1]))
    alt = (
        f"{len(chosen)} rendered faces, each next to its resampled variation; cosines of student and teacher "
        f"from {least} to {most}."
    )
    size_in = (_COLUMNS * 2.3, rows * 1.5 + 0.1)
    return Drawing("faces", "Faces", alt, partial(_draw, faces=faces, chosen=chosen), size_in)


def resampling_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """`resampling`, `spread` and `rho` of the configuration; None if missing."""
    return {name: part(config, "data", "source", name) for name in ("resampling", "spread", "rho")}


def _uri(image: np.ndarray) -> str:
    return jpeg_uri(Image.fromarray(image.transpose(1, 2, 0)), quality=_JPEG_QUALITY, subsampling=0)


def _draw(axes: Axes, theme: Theme, faces: Faces, chosen: np.ndarray) -> None:
    height, width = faces.base.shape[2:]
    cell_w, cell_h = 2.25 * width, 1.42 * height
    for place, k in enumerate(chosen):
        left, top = place % _COLUMNS * cell_w, place // _COLUMNS * cell_h
        both = ((faces.base, faces.base_cosine, 0.0), (faces.variation, faces.variation_cosine, 1.03 * width))
        for images, cosines, shift in both:
            x = left + shift
            axes.imshow(images[k].transpose(1, 2, 0), extent=(x, x + width, top + height, top))
            axes.text(x + width / 2, top + 1.04 * height, cosine(float(cosines[k])), ha="center", va="top",
                      color=theme.ink, fontsize=9, fontweight="bold")  # fmt: skip
        coefficient, alike = float(faces.base_cosine[k] + 1) / 2, float(faces.teacher_cosine[k])
        note = f"c {cosine(coefficient)}   teacher {cosine(alike)}"
        axes.text(left + 1.015 * width, top + 1.19 * height, note, ha="center", va="top",
                  color=theme.faint, fontsize=8)  # fmt: skip
    axes.set_xlim(-2, (min(len(chosen), _COLUMNS) - 1) * cell_w + 2.05 * width)
    axes.set_ylim(-(-len(chosen) // _COLUMNS) * cell_h, -2)
    axes.set_aspect("equal")
    axes.axis("off")
