"""The facts of a run as label and text: headline, use of time, export parity, provenance."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facedistill.reporting.figures import Estimate, estimates, part
from facedistill.reporting.numbers import (
    NOT_MEASURED,
    duration,
    is_number,
    percent,
    percent_interval,
    rate,
    short,
    times_fewer,
    whole,
)
from facedistill.reporting.record import NETWORKS, Results, RunRecord
from facedistill.reporting.run.files import RunFiles

NOT_RECORDED = "not recorded"
_EXPORT_LABELS = {"onnx_min_cosine": "Lowest cosine, ONNX against PyTorch", "no_onnx": "No ONNX file"}


@dataclass(frozen=True)
class Fact:
    """A labeled value, and a remark in small print."""

    label: str
    value: str
    remark: str = ""


@dataclass(frozen=True)
class Share:
    """A part of the training time: `percent` for people, `fraction` for the width of its bar."""

    name: str
    percent: str
    fraction: float


def teacher_names(config: Mapping[str, Any]) -> str:
    """Short names of the networks of all teachers, the first in front."""
    others = [network_name(node, "teacher") for node in _other_teachers(config)]
    return " + ".join([network_name(config, "teacher"), *others])


def teacher_assets(config: Mapping[str, Any]) -> str:
    """Names of all teachers' weights, the first in front; empty where none is named."""
    found = [part(node, "teacher", "asset") for node in (config, *_other_teachers(config))]
    return " + ".join(str(name) for name in found if name)


def _other_teachers(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    others = part(config, "teacher", "others")
    return [{"teacher": node} for _, node in sorted(others.items())] if isinstance(others, Mapping) else []


def network_name(config: Mapping[str, Any], group: str) -> str:
    """A short name of the backbone ("TinyFaR-C") or of the teacher's network, from its configuration."""
    target = part(config, group, "_target_") or part(config, group, "network", "_target_")
    if not target:
        return str(part(config, group, "asset") or group)
    if str(target).endswith(".OwnBackbone"):  # a module of a program
        return str(part(config, group, "name") or target)
    name, variant = str(target).rsplit(".", 1)[-1], part(config, group, "variant")
    return f"{name}-{str(variant).upper()}" if variant else name


def headline(files: RunFiles) -> list[Fact]:
    """The figures to see first."""
    record, student, teacher = files.record, files.results.student, files.results.teacher
    budget = files.config.get("images")
    return [
        _accuracy("LFW accuracy", "lfw", files.results),
        _accuracy("Generated pairs", "generated", files.results),
        Fact("Parameters", short(student.params), times_fewer(student.params, teacher.params)),
        Fact("MACs per face", short(student.macs), times_fewer(student.macs, teacher.macs)),
        Fact("Images seen", whole(record.images_seen), f"of {whole(budget)}" if is_number(budget) else ""),
        Fact("Wall time", duration(record.wall_s), "training, with validation"),
        Fact("Images per second", rate(record.images_per_s), "over the whole training"),
        Fact(
            "Peak memory",
            f"{whole(record.peak_memory_mib)} MiB" if is_number(record.peak_memory_mib) else NOT_MEASURED,
            "of the training process",
        ),
    ]


def time_shares(record: RunRecord) -> list[Share]:
    """Where the training time went; empty if run.json does not say."""
    shares = record.time_share
    if not all(map(is_number, shares.values())):
        return []
    return [Share(name, percent(value), max(float(value), 0.0)) for name, value in shares.items()]


def export_facts(record: RunRecord) -> list[Fact]:
    """How closely the exported student agrees with the trained one."""
    return [
        Fact(_EXPORT_LABELS.get(key, key), f"{value:.7f}" if is_number(value) else str(value))
        for key, value in record.export.items()
    ]


def provenance(files: RunFiles) -> list[Fact]:
    """What is needed to repeat the run."""
    record = files.record
    run_id = str(record.id or files.folder.name)
    config_hash = re.search(r"-([0-9a-f]{8})$", run_id)
    return [
        Fact("Run", run_id),
        Fact("Configuration hash", config_hash.group(1) if config_hash else NOT_RECORDED),
        Fact("Status", str(record.status or NOT_RECORDED)),
        Fact("Seed", _or_not_recorded(record.seed)),
        Fact("Code (git)", _or_not_recorded(record.git)),
        Fact("Versions", _pairs(record.versions)),
        Fact("Machine", _pairs(record.machine)),
    ]


def shell_path(folder: Path, name: str) -> str:
    """The path of a file of the run, below the working folder where possible, quoted for a shell."""
    folder = folder.resolve()
    below = (
        folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else Path("runs") / folder.name
    )
    return shlex.quote((below / name).as_posix())


def _accuracy(label: str, protocol: str, results: Results) -> Fact:
    student, teacher = (
        estimates(results.figures(role, protocol)).get("accuracy", Estimate("accuracy")) for role in NETWORKS
    )
    remarks = [
        f"95 % interval {percent_interval(student.interval)}" if student.interval else "",
        f"teacher {percent(teacher.value)}" if teacher.value is not None else "",
    ]
    return Fact(label, percent(student.value), " · ".join(filter(None, remarks)))


def _or_not_recorded(value: Any) -> str:
    return NOT_RECORDED if value in (None, "") else str(value)


def _pairs(mapping: Mapping[str, Any]) -> str:
    pairs = [f"{key} {value}" for key, value in mapping.items() if value not in (None, "")]
    return ", ".join(pairs) or NOT_RECORDED
