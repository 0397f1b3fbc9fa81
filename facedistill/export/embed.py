"""Embeddings of image files by an exported student."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from facedistill.errors import AssetError, DataError, reason
from facedistill.evaluation.thresholds import parse_thresholds
from facedistill.export.onnx import INPUT
from facedistill.export.parity import open_session
from facedistill.export.pixels import as_input, as_pixels
from facedistill.export.student import load_student, parse_description
from facedistill.images import decode_face, to_float
from facedistill.models.weights import read_weights

_SAME_DIRECTION = (
    1e-6  # rounding of a unit embedding's values; the evaluation's protocols have the same limit
)


class Embedder:
    """An exported student, .safetensors or .onnx of any `--pixels`, that embeds image files.

    Attributes:
        embedding_dim: D.
        size_px: Side of the faces it takes.
        thresholds: Decision thresholds in the file.
        run: Name of the run that trained it; "" if the file does not tell.
    """

    def __init__(self, path: Path) -> None:
        """Opens the file.

        Raises:
            AssetError: If it is missing, damaged, of another kind, not exported by facedistill, or embeds unlike images
                alike, as a collapsed student does.
        """
        self._path, self._backbone, self._session = path, None, None
        if path.suffix == ".safetensors":
            metadata = read_weights(path)[1]
            self._backbone = load_student(path).to(memory_format=torch.channels_last)
        elif path.suffix == ".onnx":
            self._session = open_session(path)
            metadata = self._session.get_modelmeta().custom_metadata_map
        else:
            raise AssetError(
                f"{path} is no student; give a .safetensors or .onnx file that facedistill exported"
            )
        self._pixels = as_pixels(metadata.get("pixels"))
        description = parse_description(metadata, path)
        self.embedding_dim = int(description["embedding_dim"])
        self.size_px = int(description["input_spec"]["size_px"])
        self.thresholds = tuple(parse_thresholds(metadata, path))
        self.run = str(description.get("metadata", {}).get("run", ""))
        noise, ramp = self.embed_images(_unlike_images(self.size_px))
        if (noise - ramp).abs().max() < _SAME_DIRECTION:
            raise AssetError(
                f"{path} embeds noise and a ramp alike; the network has collapsed and tells no two faces apart, take an "
                "earlier checkpoint"
            )

    def embed(self, files: Sequence[Path], batch_size: int = 64) -> Tensor:
        """Embeds aligned faces.

        Args:
            files: N image files, jpg or png, each a square aligned face.
            batch_size: How many are held in memory at once.

        Returns:
            (N, D) float32 unit embeddings, in the order of `files`.

        Raises:
            DataError: If a file is missing, damaged, no image, or not square.
        """
        parts = [torch.empty(0, self.embedding_dim)]
        for start in range(0, len(files), batch_size):
            portion = files[start : start + batch_size]
            faces = [face_tensor(read_face(Path(file)), self.size_px, str(file)) for file in portion]
            parts.append(self.embed_images(torch.stack(faces)))
        return torch.cat(parts)

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        """Embeds (N, 3, size_px, size_px) RGB faces in [-1, 1] as (N, D) unit embeddings.

        Raises:
            AssetError: If they are not finite, or one is zero.
        """
        if self._backbone is not None:
            embeddings = self._backbone(images)
        else:
            assert self._session is not None
            embeddings = torch.from_numpy(
                self._session.run(None, {INPUT: as_input(images, self._pixels).numpy()})[0]
            )
        if not torch.isfinite(embeddings).all():
            raise AssetError(
                f"{self._path} gives embeddings that are not numbers; its weights are damaged, export it again"
            )
        if not embeddings.any(dim=1).all():
            raise AssetError(
                f"{self._path} gives embeddings that are zero; the network has collapsed, take an earlier checkpoint"
            )
        return F.normalize(embeddings)


def _unlike_images(size_px: int) -> Tensor:
    """(2, 3, size_px, size_px): noise, and a ramp from black to white."""
    noise = torch.rand(3, size_px, size_px, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return torch.stack([noise, torch.linspace(-1, 1, size_px).expand_as(noise)])


def read_face(file: Path) -> Image.Image:
    """Decodes one aligned face, a JPEG, PNG, WebP or BMP image, as `decode_face` does: EXIF turns nothing.

    Raises:
        DataError: If the file is missing, damaged or no image.
    """
    try:
        data = file.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{file} does not exist; give the path of a jpg or png image") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read ({reason(error)}); give a jpg or png file") from error
    return Image.fromarray(decode_face(data, str(file), size_px=None))


def face_tensor(face: Image.Image, size_px: int, where: str) -> Tensor:
    """An RGB face as (3, size_px, size_px) in [-1, 1]; a square one of another size is resized.

    Raises:
        DataError: If it is not square.
    """
    if face.width != face.height:
        raise DataError(
            f"{where} is {face.width}x{face.height} px and not a square aligned face; "
            "align it first with `facedistill data align`"
        )
    if face.size != (size_px, size_px):
        face = face.resize((size_px, size_px), Image.Resampling.BICUBIC)
    return to_float(torch.from_numpy(np.array(face))).permute(2, 0, 1).contiguous()
