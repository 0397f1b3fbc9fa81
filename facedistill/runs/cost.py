"""Measures networks, student files and runs: size, latency and memory in every runtime."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

from facedistill.config import compose, signature
from facedistill.errors import ConfigError, UserError
from facedistill.export.cost import PYTORCH, FileCost, is_installed, measure_file
from facedistill.export.formats import FORMATS, Export
from facedistill.export.onnx import TracingError
from facedistill.export.student import load_student, parse_description, save_student
from facedistill.models.backbones import Backbone
from facedistill.models.cost import size_of
from facedistill.models.fingerprint import state_fingerprint
from facedistill.models.rebuild import rebuild
from facedistill.reporting.cost_record import FILE, CostRow, read_costs, save_costs
from facedistill.runs.export_file import random_images
from facedistill.runs.folder import RunFolder
from facedistill.runs.sources import build_backbone
from facedistill.system.files import refuse_links
from facedistill.system.machine import cpu_name
from facedistill.system.messages import print_message
from facedistill.system.paths import config_dir
from facedistill.system.trust import admitted

FORMAT_NAMES = (PYTORCH, *FORMATS)
_ALWAYS = (
    PYTORCH,
    "onnx",
    "openvino",
)  # written where the target has no such file and the runtime is installed


@dataclass(frozen=True)
class Target:
    """What is measured.

    Attributes:
        name: In the table.
        backbone: The network; of an exported file with random weights.
        files: Its files by format; others are written for the measurement.
        folder: The run that keeps the result.
        weights: See `CostRow`.
    """

    name: str
    backbone: Backbone
    files: Mapping[str, Path] = field(default_factory=dict)
    folder: Path | None = None
    weights: str = ""

    @property
    def is_one_file(self) -> bool:
        """Whether only its file is measured."""
        return bool(self.files) and PYTORCH not in self.files


@dataclass(frozen=True)
class Conditions:
    """How it is measured.

    Attributes:
        threads: Of the runtime.
        batch_size: Faces in the larger batch.
        seconds: See `facedistill.models.cost.latency_of`.
    """

    threads: int = 1
    batch_size: int = 64
    seconds: float = 1.0


def backbone_names() -> list[str]:
    """Names of all networks of `conf/backbone`, in alphabetical order."""
    return sorted(path.stem for path in (config_dir() / "backbone").glob("*.yaml"))


def random_backbone(name: str, overrides: Sequence[str] = ()) -> Backbone:
    """A network of `conf/backbone` with random weights.

    Args:
        name: Of its yaml.
        overrides: Hydra's, of keys below `backbone`.

    Raises:
        ConfigError: If an override names nothing that this network has.
    """
    node = compose("train", [f"backbone={name}", *overrides]).backbone
    for key in ("asset", "pretrained"):
        if key in node:
            node[key] = None if key == "asset" else False
    if wrong := signature.problems("backbone", node):
        raise ConfigError("; ".join(wrong))
    backbone = build_backbone(node)
    assert isinstance(backbone, Backbone)
    return backbone


def find_targets(words: Sequence[str], overrides: Sequence[str] = ()) -> list[Target]:
    """The targets that words name.

    Args:
        words: Names of `conf/backbone`, run folders, folders of runs, and files of students.
        overrides: Of keys below `backbone`, for the names.

    Raises:
        UserError: If a word names none of these, a file is damaged, or a run folder holds a symbolic link.
    """
    return [target for word in words for target in _targets(word, overrides)]


def measure(
    target: Target, conditions: Conditions, formats: Sequence[str] = (), again: bool = False
) -> Iterator[CostRow]:
    """Measures a target, each file in a process of its own; a run's `cost.json` keeps the rows.

    Args:
        target: Of `find_targets`.
        conditions: Threads, batch size, time.
        formats: Names of `FORMAT_NAMES`; empty for the files there are, PyTorch, ONNX, and OpenVINO if it is installed.
        again: Measure what `cost.json` has under the same conditions, too.

    A network of the user's that torch cannot trace is measured in PyTorch only, with a message, unless `formats` names others.

    Raises:
        UserError: If a format cannot be written or measured.
    """
    size, cpu = size_of(target.backbone), cpu_name()
    kept = read_costs(target.folder / FILE) if target.folder else []
    with tempfile.TemporaryDirectory() as folder:
        for name in _formats(target, formats):
            try:
                path = target.files.get(name) or _write(target.backbone, name, Path(folder))
            except TracingError as error:
                if formats:
                    raise
                print_message(f"{target.name}: measured in PyTorch only; {error}")
                return
            size_mb = sum(part.stat().st_size for part in (path, *path.glob("*")) if part.is_file()) / 1e6
            key = (name, cpu, conditions.threads, conditions.batch_size, target.weights, size_mb)
            known = [row for row in kept if key == (*row.condition, row.batch_size, row.weights, row.size_mb)]
            if known and not again:
                yield known[0]
                continue
            cost = _in_own_process(name, path, target.backbone.input_spec.size_px, conditions)
            row = CostRow(
                format=name,
                runtime=cost.runtime,
                params=size.params,
                macs=size.macs,
                size_mb=size_mb,
                one_ms=cost.latency.one_ms,
                one_p95_ms=cost.latency.one_p95_ms,
                images_per_s=1000 * conditions.batch_size / cost.latency.batch_ms,
                batch_size=conditions.batch_size,
                peak_one_mib=cost.peak_one_mib,
                peak_batch_mib=cost.peak_batch_mib,
                threads=conditions.threads,
                cpu=cpu,
                share=cost.latency.share,
                weights=target.weights,
            )
            if target.folder:
                save_costs(target.folder / FILE, [row])
            yield row


def _targets(word: str, overrides: Sequence[str]) -> Iterator[Target]:
    path = Path(word)
    if word in backbone_names():
        yield Target(word, random_backbone(word, overrides))
    elif path.is_dir() and not word.rstrip("/").endswith(FORMATS["openvino"].suffix):
        runs = (
            [path]
            if RunFolder(path).student.exists()
            else [run for run in sorted(path.iterdir()) if RunFolder(run).student.exists()]
        )
        if not runs:
            raise UserError(f"cost {word}: no student.safetensors in it or in a run folder in it")
        for run in runs:
            refuse_links(run)
            found = {name: run / f"student{kind.suffix}" for name, kind in FORMATS.items()}
            files = {name: file for name, file in found.items() if file.exists()}
            yield _student(run.name, RunFolder(run).student, files, run)
    elif path.suffix == ".safetensors":
        yield _student(word, path, {}, None)
    elif path.exists() and (name := _format_of(path)):
        description = parse_description(FORMATS[name].open(path).notes, path)
        yield Target(word, rebuild(description["backbone"], word, {}), {name: path})
    else:
        raise ConfigError(
            f"cost {word}: neither a run folder, a student's file, nor a network; the networks are "
            f"{', '.join(backbone_names())}"
        )


def _student(name: str, path: Path, files: Mapping[str, Path], folder: Path | None) -> Target:
    backbone = load_student(path)
    return Target(name, backbone, {PYTORCH: path, **files}, folder, state_fingerprint(backbone))


def _format_of(path: Path) -> str | None:
    fitting = [name for name, kind in FORMATS.items() if path.name.endswith(kind.suffix)]
    return max(fitting, key=lambda name: len(FORMATS[name].suffix), default=None)


def _formats(target: Target, wanted: Sequence[str]) -> list[str]:
    if wanted:
        return list(wanted)
    always = () if target.is_one_file else _ALWAYS
    return [name for name in FORMAT_NAMES if name in target.files or (name in always and is_installed(name))]


def _write(backbone: Backbone, name: str, folder: Path) -> Path:
    """A file of the network for the measurement."""
    if name == PYTORCH:
        path = folder / "student.safetensors"
        save_student(backbone, path, {})
        return path
    if not FORMATS[name].is_exact:  # which layers are in 8 bits depends on trained weights
        raise UserError(
            f"--formats {name}: there is no such file to measure; write it with facedistill export RUN --format {name}"
        )
    path = folder / f"student{FORMATS[name].suffix}"
    FORMATS[name].write(Export(backbone, {}, "float", random_images(8, backbone.input_spec.size_px)), path)
    return path


def _in_own_process(name: str, path: Path, size_px: int, conditions: Conditions) -> FileCost:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(
                measure_file,
                name,
                path,
                size_px=size_px,
                threads=conditions.threads,
                batch_size=conditions.batch_size,
                seconds=conditions.seconds,
                trusted=admitted(),
            ).result()
        except BrokenProcessPool as error:
            raise UserError(
                f"cost: the process that measured {name} was killed, probably for memory; lower --batch"
            ) from error
