"""A picture of the worst errors of a pairs protocol. It shows the benchmark's faces, so keep it in the run folder."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from facedistill.evaluation.protocols.base import PairsProtocol
from facedistill.images import SIZE_PX
from facedistill.system.files import write_atomically

_MOST = 12  # errors of each kind
_COLUMNS = 4
_GAP_PX = 8
_TEXT_PX = 16
_MARGIN_PX = 12


def worst_errors(score: Tensor, same: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """The most confident errors.

    Args:
        score: (P,) scores.
        same: (P,) true for genuine pairs.
        threshold: A pair is accepted when its score is >= this.

    Returns:
        Indices of pairs: false accepts in descending order of score, false rejects in ascending order.
    """
    accepted = score.double() >= threshold
    accepts, rejects = (~same & accepted).nonzero().flatten(), (same & ~accepted).nonzero().flatten()
    accepts = accepts[torch.argsort(score[accepts], descending=True, stable=True)]
    return accepts[:_MOST], rejects[torch.argsort(score[rejects], stable=True)][:_MOST]


def write_worst_errors(path: Path, protocol: PairsProtocol, score: Tensor, threshold: float) -> None:
    """Writes a JPEG of the most confident false accepts and false rejects, each pair with its score.

    Args:
        path: Path of the picture, in the run folder.
        protocol: Provides the faces.
        score: (P,) scores.
        threshold: A pair is accepted when its score is >= this.

    Raises:
        DataError: If a face cannot be read.
        UserError: If the file cannot be written.
    """
    accepts, rejects = worst_errors(score, protocol.same, threshold)
    kinds = [
        ("False accepts: two people, scores above", accepts),
        ("False rejects: one person, below", rejects),
    ]
    pair_width, pair_height = 2 * SIZE_PX + _GAP_PX // 2, SIZE_PX + _TEXT_PX
    rows = [-(-len(pairs) // _COLUMNS) for _, pairs in kinds]
    width = 2 * _MARGIN_PX + _COLUMNS * (pair_width + _GAP_PX)
    height = 2 * _MARGIN_PX + sum(_TEXT_PX * 2 + n * (pair_height + _GAP_PX) for n in rows)
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    top = _MARGIN_PX
    for (title, pairs), n in zip(kinds, rows, strict=True):
        draw.text((_MARGIN_PX, top), f"{title} {threshold:.3f}{'' if n else ': none'}", fill="black")
        top += 2 * _TEXT_PX
        for position, pair in enumerate(pairs.tolist()):
            left = _MARGIN_PX + position % _COLUMNS * (pair_width + _GAP_PX)
            upper = top + position // _COLUMNS * (pair_height + _GAP_PX)
            faces = _faces(protocol, [int(protocol.left[pair]), int(protocol.right[pair])])
            for shift, face in zip((0, SIZE_PX + _GAP_PX // 2), faces, strict=True):
                sheet.paste(Image.fromarray(face.permute(1, 2, 0).numpy()), (left + shift, upper))
            text = f"pair {pair + 1}: {float(score[pair]):.3f}"
            draw.text((left, upper + SIZE_PX + 2), text, fill="black")
        top += n * (pair_height + _GAP_PX)
    write_atomically(path, lambda unfinished: sheet.save(unfinished, format="JPEG", quality=90))


def _faces(protocol: PairsProtocol, indices: list[int]) -> Tensor:
    return torch.cat(list(protocol.images(len(indices), indices)))
