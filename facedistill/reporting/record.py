"""The two JSON files of a run folder: `run.json`, how the run was made, and `results.json`, what was measured.

`runs` and `sweeps` write them and `reporting` reads them. They are defined here because reporting is the lowest layer
that needs them, and the layers above may import it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self

from facedistill.errors import DataError
from facedistill.evaluation.protocols.titles import protocol_title
from facedistill.system.files import write_atomically

VERSION = 2
"""1 (files without a version): as 2, but results.json names neither titles nor the student's sha256."""
NETWORKS = ("student", "teacher")
_FIX = "restore it, or delete it and run the command that writes it again"
_KINDS: dict[type, str] = {dict: "an object", str: "a text"}


def read_object(path: Path) -> dict[str, Any]:
    """Reads a JSON object; empty if there is no such file.

    Raises:
        DataError: If it is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON ({error}); {_FIX}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a {type(content).__name__} instead of an object; {_FIX}")
    return content


def _checked(held: Any, kind: type, where: str) -> Any:
    """A list or object without its nulls, after a check that its other values are of a kind."""
    items = held.items() if isinstance(held, dict) else enumerate(held)
    found = {key: value for key, value in items if value is not None}
    for key, value in found.items():
        if not isinstance(value, kind):
            raise DataError(f"{where}.{key} is a {type(value).__name__} instead of {_KINDS[kind]}; {_FIX}")
    return found if isinstance(held, dict) else list(found.values())


@dataclass
class _JsonObject:
    """A dataclass read from a JSON object. Unknown keys are kept in `other`; null counts as missing."""

    other: dict[str, Any] = field(default_factory=dict, kw_only=True)
    _inside: ClassVar[Mapping[str, type]] = {}
    """Kind of the values in a list or object."""

    @classmethod
    def from_json(cls, content: Any, where: str) -> Self:
        """Checks lists and objects, and what `_inside` names in them, for their kind; other values are taken as they are.

        Raises:
            DataError: If a value is of the wrong kind, or a newer version has written it.
        """
        if not isinstance(content, Mapping):
            raise DataError(f"{where} is a {type(content).__name__} instead of an object; {_FIX}")
        known = {item.name: item.default_factory for item in fields(cls) if item.name != "other"}
        values = {name: value for name, value in content.items() if name in known and value is not None}
        for name, value in values.items():
            kind = known[name]
            if isinstance(kind, type) and issubclass(kind, _JsonObject):
                values[name] = kind.from_json(value, f"{where}: {name}")
            elif isinstance(kind, type) and not isinstance(value, kind):
                raise DataError(
                    f"{where}: {name} is a {type(value).__name__} instead of a {kind.__name__}; {_FIX}"
                )
        for name in cls._inside.keys() & values.keys():
            values[name] = _checked(values[name], cls._inside[name], f"{where}: {name}")
        if isinstance(version := values.pop("version", 1), int) and version > VERSION:
            raise DataError(
                f"{where} has version {version}; this facedistill reads up to {VERSION}, update it"
            )
        return cls(**values, other={name: value for name, value in content.items() if name not in known})

    def to_json(self) -> dict[str, Any]:
        """Only what is known: neither None nor empty."""
        content = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "other"}
        plain = {
            name: value.to_json() if isinstance(value, _JsonObject) else value
            for name, value in content.items()
            if value is not None and value != {}
        }
        return {**plain, **self.other}

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a file; everything has its default if there is none.

        Raises:
            DataError: If it is damaged.
        """
        return cls.from_json(read_object(path), str(path))

    def save(self, path: Path) -> None:
        """Replaces the file.

        Raises:
            UserError: If it cannot be written.
        """
        write_atomically(path, json.dumps(self.to_json(), indent=2) + "\n")


@dataclass
class RunRecord(_JsonObject):
    """Contents of `run.json`; None or empty where the run has not come that far.

    Attributes:
        status: running, interrupted, failed, pruned, trained or finished.
        reason: Why the run failed or was pruned.
        command: The command that started it.
        git: Revision of the code.
        versions: Of the packages, by name.
        machine: `system`, `cpu`, `cores`, `threads`, `gpu`.
        licences: `asset`, `licence`, `note` and `origin` of each asset that the student learned from.
        stored_faces: `set`, `images` and `fingerprint` of the faces on disk, or rendered to disk, that it learned from.
        files: sha256 of weights and fingerprint of faces, by name; part of the run id.
        started_by: The start by SLURM or torchrun that began or continued the training.
        wandb_id: Id of the wandb run that an interrupted run continues.
        unfinished: `images_seen` and `images` of a student that was exported before the end.
        export: Parity of the exported files, `onnx_min_cosine`; or `no_onnx`, why there is no ONNX file.
        teacher_centers: What served as the teacher's class centers.
        time_share: Fractions of the training time by network.
    """

    _inside: ClassVar = {"licences": dict}
    version: int = VERSION
    id: str | None = None
    name: str | None = None
    seed: int | None = None
    status: str | None = None
    reason: str | None = None
    command: str | None = None
    git: str | None = None
    versions: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    licences: list[dict[str, Any]] = field(default_factory=list)
    stored_faces: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    started_by: str | None = None
    wandb_id: str | None = None
    images_seen: int | None = None
    unfinished: dict[str, int] = field(default_factory=dict)
    wall_s: float | None = None
    images_per_s: float | None = None
    peak_memory_mib: float | None = None
    time_share: dict[str, float] = field(default_factory=dict)
    export: dict[str, Any] = field(default_factory=dict)
    teacher_centers: str | None = None


@dataclass
class NetworkResults(_JsonObject):
    """What was measured of one network.

    Attributes:
        params: Number of parameters.
        macs: Multiply-accumulates per face.
        quantization: "int8" if the figures are those of a student in 8 bits.
        weights: Hash of the weights that the figures belong to; metadata of their file does not count.
        sha256: Of the file `student.safetensors`; older files name it instead of `weights`.
        protocols: Figures by protocol, fractions; see `facedistill.reporting.figures`.
        robustness: Accuracy under corruptions, see `facedistill.evaluation.robustness.robustness_figures`.
        yaw: Accuracy by yaw, see `facedistill.evaluation.yaw.yaw_figures`.
    """

    _inside: ClassVar = {"protocols": dict}
    params: int | None = None
    macs: float | None = None
    quantization: str | None = None
    weights: str | None = None
    sha256: str | None = None
    protocols: dict[str, dict[str, Any]] = field(default_factory=dict)
    robustness: dict[str, Any] = field(default_factory=dict)
    yaw: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, content: Any, where: str) -> Self:
        """As the base class; a protocol without figures was not measured."""
        found = super().from_json(content, where)
        found.protocols = {name: figures for name, figures in found.protocols.items() if figures}
        return found


@dataclass
class Results(_JsonObject):
    """Contents of `results.json`.

    Attributes:
        images_seen: Of the student.
        unfinished: As in run.json, if the student has not reached the end of its budget.
        absent: Why a protocol was not evaluated, by name.
        titles: What people call a protocol, by name.
    """

    _inside: ClassVar = {"absent": str, "titles": str}
    version: int = VERSION
    images_seen: int | None = None
    unfinished: dict[str, int] = field(default_factory=dict)
    student: NetworkResults = field(default_factory=NetworkResults)
    teacher: NetworkResults = field(default_factory=NetworkResults)
    absent: dict[str, str] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)

    def network(self, role: str) -> NetworkResults:
        """The part of "student" or "teacher"."""
        return self.student if role == "student" else self.teacher

    def figures(self, role: str, protocol: str) -> dict[str, Any]:
        """Figures of one network on one protocol; empty if it was not measured."""
        return self.network(role).protocols.get(protocol, {})

    def title(self, protocol: str) -> str:
        """The title of a protocol; its name if it has none."""
        return self.titles.get(protocol) or protocol_title(protocol)
