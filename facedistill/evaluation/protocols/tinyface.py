"""TinyFace identification: native low-resolution probes in a gallery with 153,428 distractors.

    tinyface/Testing_Set/gallery_match_img_ID_pairs.mat   gallery_set (names), gallery_ids
    tinyface/Testing_Set/probe_img_ID_pairs.mat           probe_set (names), probe_ids
    tinyface/<faces>/Gallery_Match, Probe, Gallery_Distractor

<faces> holds the 112x112 faces: `aligned_pad_0.1_pad_high` as AdaFace's tool writes it, `aligned`, or
`Testing_Set` itself if its images have that size. The published images (about 20x16 pixels) do not, and are not
enlarged.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from facedistill.errors import DataError
from facedistill.evaluation.protocols.archives import FolderArchive, read_bytes, without_suffix
from facedistill.evaluation.protocols.base import FolderLayout, Protocol, ProtocolResult, checked_embeddings
from facedistill.evaluation.protocols.images import EncodedImages
from facedistill.metrics.identification import closed_set_summary, search

RANKS = (1, 5, 10, 20)
_FACES = ("aligned_pad_0.1_pad_high", "aligned", "Testing_Set")
_NO_IDENTITY = -1
_HEADER_BYTES = 128
_COMPRESSED = 15  # type of an element of a MATLAB file
_MAX_BYTES = 2**28


@dataclass(frozen=True, eq=False)
class IdentificationProtocol(Protocol):
    """Closed-set identification: probes searched in one gallery that contains all their identities.

    Attributes:
        name: Its name in tables.
        image_set: M faces: the probes, then the gallery.
        probe: (Q,) identity of each probe.
        gallery: (M - Q,) identity of each gallery face, -1 for distractors.
    """

    probe: Tensor
    gallery: Tensor

    def measure(self, embeddings: Tensor, *, resamples: int) -> dict[str, ProtocolResult]:
        """Rank-k from (M, D) embeddings; an identity is found by the best of its gallery faces."""
        unit = F.normalize(checked_embeddings(self.name, embeddings), dim=1)
        probes, gallery = unit[: len(self.probe)], unit[len(self.probe) :]
        searches = search(probes, gallery, self.probe, self.gallery)
        summary = closed_set_summary(searches, self.probe.numpy(), ranks=RANKS)
        return {self.name: ProtocolResult({"identification": {**summary, "gallery": len(self.gallery)}})}


def open_tinyface(folder: Path, name: str) -> IdentificationProtocol:
    """Reads TinyFace's id files and finds its faces.

    Raises:
        DataError: If a file is missing or malformed, or faces are missing; with counts.
    """
    lists = folder / "Testing_Set"
    probe_names, probe = _names_and_ids(lists / "probe_img_ID_pairs.mat", "probe")
    gallery_names, gallery = _names_and_ids(lists / "gallery_match_img_ID_pairs.mat", "gallery")
    faces = next((folder / entry for entry in _FACES if (folder / entry / "Probe").is_dir()), None)
    if faces is None:
        raise DataError(
            f"{folder}: has no folder with the faces; put Probe, Gallery_Match and Gallery_Distractor of aligned "
            f"112x112 faces into {folder / 'aligned'}"
        )
    archive = FolderArchive(faces)
    found = archive.names()
    distractors = [image for image in found if image.startswith("Gallery_Distractor/")]
    if not distractors:
        raise DataError(
            f"{faces}: Gallery_Distractor holds no image; rank-k without distractors is another benchmark"
        )
    wanted = [f"Probe/{item}" for item in probe_names] + [f"Gallery_Match/{item}" for item in gallery_names]
    missing = sorted(set(wanted) - set(found))
    if missing:
        raise DataError(
            f"{name}: {len(missing)} of {len(wanted)} images are missing from {faces}, the first is {missing[0]}; "
            "align all of the published images"
        )
    unmated = ~np.isin(probe, gallery)
    if unmated.any():
        raise DataError(
            f"{lists}: {int(unmated.sum())} of {len(probe)} probes have no mate in the gallery, the first is "
            f"{probe_names[int(unmated.argmax())]}; take both .mat files from one package"
        )
    return IdentificationProtocol(
        name=name,
        image_set=EncodedImages(archive, wanted + distractors),
        probe=torch.from_numpy(probe),
        gallery=torch.cat([torch.from_numpy(gallery), torch.full((len(distractors),), _NO_IDENTITY)]),
    )


def read_mat(path: Path) -> dict[str, Any]:
    """The variables of a MATLAB file up to version 7.

    Returns:
        Arrays without their axes of length one; the elements of a cell array of text are `str`.

    Raises:
        DataError: If the file cannot be read, or its variables take more than 256 MiB.
    """
    from scipy.io import loadmat

    data = read_bytes(path)
    try:
        _check_decompressed_size(data)
        return loadmat(BytesIO(data), squeeze_me=True)
    except Exception as error:  # scipy and zlib raise many classes for damage
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise DataError(
            f"{path}: is not a readable MATLAB file ({reason}); save it with version 7 or download it again"
        ) from error


def _check_decompressed_size(data: bytes) -> None:
    """Raises ValueError where the compressed elements hold more than `_MAX_BYTES`; scipy has no limit."""
    order = "<" if data[126:128] == b"IM" else ">"
    position, left = _HEADER_BYTES, _MAX_BYTES
    while position + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, position)
        if kind == _COMPRESSED:
            element = data[position + 8 : position + 8 + size]
            left -= len(zlib.decompressobj().decompress(element, left + 1))
            if left < 0:
                raise ValueError(f"more than {_MAX_BYTES / 2**20:g} MiB when decompressed")
        position += 8 + size


def _names_and_ids(path: Path, kind: str) -> tuple[list[str], np.ndarray]:
    variables = read_mat(path)
    names = np.atleast_1d(variables.get(f"{kind}_set", 0)).ravel().tolist()
    ids = np.atleast_1d(variables.get(f"{kind}_ids", [])).ravel()
    if not all(isinstance(item, str) for item in names):
        raise DataError(
            f"{path}: {kind}_set must be a cell array of file names; take it from the package again"
        )
    if ids.dtype.kind not in "uif" or ids.size != len(names) or not names or (ids < 0).any():
        found = ids.size if ids.dtype.kind in "uif" else 0
        raise DataError(
            f"{path}: holds {len(names)} names and {found} {kind}_ids >= 0; take it from the package again"
        )
    return [without_suffix(item) for item in names], ids.astype(np.int64)


class TinyFaceLayout(FolderLayout):
    """TinyFace's package with aligned faces."""

    name = "tinyface"
    contents = "with Testing_Set and the aligned 112x112 faces in aligned"
    open = staticmethod(open_tinyface)
