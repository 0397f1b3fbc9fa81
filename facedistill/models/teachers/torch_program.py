"""A TorchScript or `torch.export` file as a teacher: a program, run only if the user trusts it."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facedistill.errors import AssetError, ConfigError
from facedistill.images import SIZE_PX
from facedistill.models.teachers.file_network import FileProgram


class TorchProgram(FileProgram):
    """Runs the file's program, on batches if it accepts them, else image by image.

    Such a file is code. TorchScript runs torch's operators only, but some of them read and write files; loading a
    `torch.export` file may evaluate expressions and unpickle objects, which can run anything. Neither is safe for
    weights from unknown sources, so `trusted` is required. The file is in the buffer `program`.

    Attributes:
        embedding_dim: D.
    """

    def __init__(self, embedding_dim: int, trusted: bool = False) -> None:
        """Declares the network; `allocate` and the weights of `convert` complete it.

        Args:
            embedding_dim: D, checked at the first batch.
            trusted: That the file may run code in this process.

        Raises:
            ConfigError: If it is not trusted.
        """
        super().__init__(embedding_dim, "program")
        if trusted is not True:
            raise ConfigError(
                "teacher.network.trusted: a TorchScript or torch.export file is a program, which can read and write "
                "your files; set teacher.network.trusted=true if you trust its author, or give weights or ONNX"
            )
        self._device: torch.device | None = None

    @torch.compiler.disable
    def forward(self, images: Tensor) -> Tensor:
        """Embeds (N, 3, size_px, size_px) faces as (N, D) embeddings."""
        if self._opened is None or self._device != images.device:
            self._opened, self._device = self._open(images), images.device
        return self._checked(self._opened(images))

    def _open(self, images: Tensor) -> Callable[[Tensor], Tensor]:
        content = io.BytesIO(self.get_buffer("program").cpu().numpy().tobytes())
        try:
            if kind_of(content) == "TorchScript":
                with warnings.catch_warnings(
                    action="ignore", category=FutureWarning
                ):  # that TorchScript is old
                    program: Any = torch.jit.load(content, map_location=images.device).eval()
            else:
                program = torch.export.load(content).module().to(images.device)
            program(images[:1])
        except Exception as error:  # whatever a program raises
            raise ConfigError(
                f"teacher.file: the program cannot be run on a face of {tuple(images.shape[1:])} "
                f"({type(error).__name__}: {' '.join(str(error).split()):.160}); fix teacher.input_spec.size_px or export it again"
            ) from error
        if _accepts_batches(program, images):
            return program
        return lambda batch: torch.cat([program(image[None]) for image in batch])


def _accepts_batches(program: Callable[[Tensor], Tensor], images: Tensor) -> bool:
    pair = images[:1].expand(2, -1, -1, -1).contiguous()
    try:
        return len(program(pair)) == 2
    except Exception:  # exported for a batch of one
        return False


def convert(members: Mapping[str, Path]) -> dict[str, Tensor]:
    """Copies the file without running it.

    Args:
        members: One `.pt` or `.pt2` and its path.

    Returns:
        `program`, uint8 (B,), and the empty `place`.

    Raises:
        AssetError: If it is neither TorchScript nor a `torch.export` file.
    """
    ((name, path),) = members.items()
    content = path.read_bytes()
    if kind_of(io.BytesIO(content)) is None:
        raise AssetError(
            f"{name} is neither TorchScript nor a torch.export file; save it with torch.jit.save or torch.export.save"
        )
    return {"program": torch.frombuffer(bytearray(content), dtype=torch.uint8), "place": torch.empty(0)}


def width_of(path: Path) -> int:
    """Runs a trusted program on one gray face and returns the width of its embeddings.

    Raises:
        ConfigError: If it cannot be run, or does not return embeddings (N, D).
    """
    network = TorchProgram(0, trusted=True)
    network.program = convert({path.name: path})["program"]
    face = torch.zeros(1, 3, SIZE_PX, SIZE_PX)
    with torch.no_grad():
        embeddings = network._open(face)(face)
    if not isinstance(embeddings, Tensor) or embeddings.ndim != 2:
        raise ConfigError(f"{path.name} gives no embeddings (N, D); it cannot be a teacher")
    return embeddings.shape[1]


def kind_of(file: Path | io.BytesIO) -> str | None:
    """ "TorchScript", "torch.export" or None, by the names in the archive; no member is read."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = [name.partition("/")[2] for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError):
        return None
    finally:
        if isinstance(file, io.BytesIO):
            file.seek(0)
    if "constants.pkl" in names and any(name.startswith("code/") for name in names):
        return "TorchScript"
    exported = any(
        name.startswith("models/") or name.endswith("serialized_exported_program.json") for name in names
    )
    return "torch.export" if exported else None
