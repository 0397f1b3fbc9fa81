"""What a comparison of two photographs finds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from facedistill.api.photographs import Face
from facedistill.evaluation.thresholds import Threshold
from facedistill.reporting.face_sheet import write_picture

_SIDE_PX, _EDGE_PX, _LINE_PX = 224, 12, 22


@dataclass(frozen=True)
class Match:
    """Two faces compared.

    Attributes:
        score: Cosine of the two embeddings, [-1, 1].
        threshold: What the score is compared with; None if the model has no threshold and none was given.
        same: Whether the score is at least the threshold; None without one.
        boxes: Left, top, right, bottom of each face in its upright photograph; None for a given crop.
        found: How many faces each photograph shows.
        fitted: Where the threshold comes from; None if it was given.
        crops: The two aligned faces.
    """

    score: float
    threshold: float | None
    same: bool | None
    boxes: tuple[tuple[float, float, float, float] | None, tuple[float, float, float, float] | None]
    found: tuple[int, int] = (1, 1)
    fitted: Threshold | None = None
    crops: tuple[Image.Image, Image.Image] = field(repr=False, compare=False, kw_only=True)

    def __str__(self) -> str:
        """Score, threshold and decision in one line."""
        if self.threshold is None:
            return f"score {self.score:.4f}, no threshold"
        decision = "same person" if self.same else "different people"
        return f"score {self.score:.4f}, threshold {self.threshold:.4f}: {decision}"

    def save_picture(self, path: str | Path) -> Path:
        """Writes a .png or .jpg of both crops with the score below them.

        Raises:
            DataError: If `path` has another ending.
            UserError: If it cannot be written.
        """
        canvas = Image.new("RGB", (2 * _SIDE_PX + 3 * _EDGE_PX, _SIDE_PX + 2 * _EDGE_PX + _LINE_PX), "white")
        for number, crop in enumerate(self.crops):
            side = crop.resize((_SIDE_PX, _SIDE_PX), Image.Resampling.BICUBIC)
            canvas.paste(side, (_EDGE_PX + number * (_SIDE_PX + _EDGE_PX), _EDGE_PX))
        color = {True: "darkgreen", False: "darkred", None: "black"}[self.same]
        place = (canvas.width // 2, _SIDE_PX + 2 * _EDGE_PX + _LINE_PX // 3)
        ImageDraw.Draw(canvas).text(
            place, str(self), fill=color, anchor="mm", font=ImageFont.load_default(size=16)
        )
        return write_picture(Path(path), canvas)


def crop_of(face: Face | Image.Image) -> Image.Image:
    """The aligned image of a face that was found, or that was given."""
    return face.crop if isinstance(face, Face) else face
