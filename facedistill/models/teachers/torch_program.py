"""A TorchScript or `torch.export` file as a teacher: a program, run only where the user says that it is trusted."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facedistill.errors import AssetError, ConfigError
from facedistill.models.teachers.file_network import FileNetwork
from facedistill.models.weights import read_weights


class TorchProgram(FileNetwork):
    """Runs the file's program, batches at once where it takes them and else one by one.

    Such a file is code. TorchScript runs torch's operators only, but some of them read and write files; loading a
    `torch.export` file may evaluate expressions and unpickle objects, which can run anything. Neither is a way to
    take weights from strangers, so `trusted` must be said. The file lies in the buffer `program`, uint8 (B,).

    Attributes:
        embedding_dim: D.
    """

    def __init__(self, embedding_dim: int, trusted: bool = False) -> None:
        """Declares the network; `make_room` and the weights of `convert` complete it.

        Args:
            embedding_dim: D, held against the first batch.
            trusted: That the file may run code in this process.

        Raises:
            ConfigError: If it is not trusted.
        """
        super().__init__()
        if trusted is not True:
            raise ConfigError(
                "teacher.network.trusted: a TorchScript or torch.export file is a program, which can read and write "
                "your files; set teacher.network.trusted=true where you trust its maker, or give weights or ONNX"
            )
        self.embedding_dim = embedding_dim
        self.register_buffer("program", torch.empty(0, dtype=torch.uint8))
        self.place = nn.Parameter(torch.empty(0))  # has the device that parents look for
        self._run: Callable[[Tensor], Tensor] | None = None
        self._on: torch.device | None = None

    def make_room(self, weights: Path) -> None:
        """Gives the buffer the size of the program in a safetensors file."""
        state = read_weights(weights)[0]
        if "program" in state:
            self.program = torch.empty_like(state["program"])

    @torch.compiler.disable
    def forward(self, images: Tensor) -> Tensor:
        """Embeds (N, 3, size_px, size_px) faces as (N, D) embeddings."""
        if self._run is None or self._on != images.device:
            self._run, self._on = self._open(images), images.device
        found = self._run(images)
        if found.shape[1:] != (self.embedding_dim,):
            raise ConfigError(
                f"teacher.embedding_dim: {self.embedding_dim}, but the program's embeddings have shape "
                f"{tuple(found.shape[1:])}"
            )
        return found

    def _open(self, images: Tensor) -> Callable[[Tensor], Tensor]:
        content = io.BytesIO(self.program.cpu().numpy().tobytes())
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
            said = " ".join(str(error).split())[:160]
            raise ConfigError(
                f"teacher.file: the program cannot be run on a face of {tuple(images.shape[1:])} "
                f"({type(error).__name__}: {said}); mend teacher.input_spec.size_px or export it anew"
            ) from error
        return (
            program
            if _takes_two(program, images)
            else lambda batch: torch.cat([program(i[None]) for i in batch])
        )

    def __getstate__(self) -> dict[str, Any]:
        """A copy opens the program again."""
        return {**self.__dict__, "_run": None, "_on": None}


def _takes_two(program: Callable[[Tensor], Tensor], images: Tensor) -> bool:
    pair = images[:1].expand(2, -1, -1, -1).contiguous()
    try:
        return len(program(pair)) == 2
    except Exception:  # exported for a batch of one
        return False


def convert(members: Mapping[str, Path]) -> dict[str, Tensor]:
    """Takes the file as it is; nothing of it is run here.

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


def width_of(path: Path, size_px: int = 112) -> int:
    """Runs a trusted program on one gray face and gives the width of its embeddings.

    Raises:
        ConfigError: If it cannot be run so, or gives no embeddings (N, D).
    """
    network = TorchProgram(0, trusted=True)
    network.program = convert({path.name: path})["program"]
    face = torch.zeros(1, 3, size_px, size_px)
    with torch.no_grad():
        found = network._open(face)(face)
    if not isinstance(found, Tensor) or found.ndim != 2:
        raise ConfigError(f"{path.name} gives no embeddings (N, D); it cannot be a teacher")
    return found.shape[1]


def kind_of(file: Path | io.BytesIO) -> str | None:
    """Which of "TorchScript" and "torch.export" it is, or None; by the names in the archive, without reading a member."""
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
