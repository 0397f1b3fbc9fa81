"""The faces of a protocol: distinct images in a fixed order, in an archive or in memory."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import torch
from torch import Tensor

from facedistill.evaluation.protocols.archives import Archive
from facedistill.images import SIZE_PX, decode_face, to_float, to_uint8

_DECODERS = 4


class ImageSet(Protocol):
    """M distinct faces in a fixed order."""

    def __len__(self) -> int:
        """M."""
        ...

    def batches(self, batch_size: int, indices: Sequence[int] | None = None) -> Iterator[Tensor]:
        """Each face once, in order: uint8 (n, 3, 112, 112) RGB with n <= `batch_size`.

        Args:
            batch_size: Faces per batch.
            indices: Only these, in this order; all if None.
        """
        ...


class DecodedImages(ABC):
    """Images in files, decoded by a few threads while the network runs on the batch before.

    Args:
        names: (M,) distinct names.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)

    def __len__(self) -> int:
        return len(self.names)

    def batches(self, batch_size: int, indices: Sequence[int] | None = None) -> Iterator[Tensor]:
        """Each face once; see `ImageSet.batches`.

        Raises:
            DataError: If an image cannot be read.
        """
        indices = range(len(self)) if indices is None else indices
        with ThreadPoolExecutor(_DECODERS) as pool:
            waiting: deque[list[Future[Tensor]]] = deque()
            for start in range(0, len(indices), batch_size):
                waiting.append([pool.submit(self._decode, i) for i in indices[start : start + batch_size]])
                if len(waiting) > 1:
                    yield torch.stack([face.result() for face in waiting.popleft()])
            while waiting:
                yield torch.stack([face.result() for face in waiting.popleft()])

    @abstractmethod
    def _decode(self, index: int) -> Tensor: ...


class EncodedImages(DecodedImages):
    """Distinct 112x112 images of an archive.

    Args:
        archive: Contains the names.
        names: (M,) distinct names.
    """

    def __init__(self, archive: Archive, names: Sequence[str]) -> None:
        super().__init__(names)
        self.archive = archive

    def fingerprint(self) -> str:
        """sha256 of the encoded bytes, in order."""
        digest = hashlib.sha256()
        for name in self.names:
            data = self.archive.read(name)
            digest.update(len(data).to_bytes(8, "little") + data)
        return digest.hexdigest()

    def _decode(self, index: int) -> Tensor:
        name = self.names[index]
        return decode_tensor(self.archive.read(name), f"{self.archive.where}: image {name}")


class ArrayImages:
    """Faces in memory.

    Args:
        faces: uint8 (M, 3, 112, 112) RGB.
    """

    def __init__(self, faces: Tensor) -> None:
        if faces.dtype != torch.uint8 or faces.shape[1:] != (3, SIZE_PX, SIZE_PX):
            raise ValueError(f"faces must be uint8 (M, 3, 112, 112), got {faces.dtype} {tuple(faces.shape)}")
        self.faces = faces

    def __len__(self) -> int:
        return len(self.faces)

    def batches(self, batch_size: int, indices: Sequence[int] | None = None) -> Iterator[Tensor]:
        """Each face once; see `ImageSet.batches`."""
        faces = (
            self.faces if indices is None else self.faces[torch.as_tensor(list(indices), dtype=torch.long)]
        )
        yield from faces.split(batch_size)

    def fingerprint(self) -> str:
        """sha256 of the pixels."""
        return hashlib.sha256(self.faces.contiguous().numpy().tobytes()).hexdigest()


class ChangedImages:
    """Faces in memory, each changed when it is read.

    Args:
        images: The faces as they are.
        change: (n, 3, 112, 112) faces in [-1, 1] and their (n,) positions -> changed faces in [-1, 1].
        name: Names the change, with all that decides what it does.
    """

    def __init__(self, images: ArrayImages, change: Callable[[Tensor, Tensor], Tensor], name: str) -> None:
        self.images, self.change, self.name = images, change, name

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, batch_size: int, indices: Sequence[int] | None = None) -> Iterator[Tensor]:
        """Each face once; see `ImageSet.batches`."""
        positions = torch.arange(len(self)) if indices is None else torch.as_tensor(list(indices))
        for part, faces in zip(
            positions.split(batch_size), self.images.batches(batch_size, indices), strict=True
        ):
            yield to_uint8(self.change(to_float(faces), part))

    def fingerprint(self) -> str:
        """sha256 of the pixels as they are, and of the change's name."""
        return hashlib.sha256(f"{self.images.fingerprint()}/{self.name}".encode()).hexdigest()


def decode_tensor(data: bytes, where: str) -> Tensor:
    """Decodes one image to uint8 (3, 112, 112) RGB.

    Args:
        data: The encoded image.
        where: Its name in messages.

    Raises:
        DataError: If it is empty, broken or not 112x112.
    """
    return torch.from_numpy(decode_face(data, where)).permute(2, 0, 1).contiguous()
