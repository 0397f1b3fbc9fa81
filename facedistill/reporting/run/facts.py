"""The facts of a run as label and text: headline, use of time, export parity, provenance."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from facedistill.reporting.run.files import RunFiles

NOT_RECORDED = "not recorded"
_EXPORT_LABELS = {"onnx_min_cosine": "Lowest cosine, ONNX against PyTorch"}


@dataclass(frozen=True)
class Fact:
    """A labelled value, and a remark in small print."""

    label: str
    value: str
    remark: str = ""


@dataclass(frozen=True)
class Share:
    """A part of the training time: `percent` for people, `fraction` for the width of its bar."""

    name: str
    percent: str
    fraction: float


def network_name(config: Mapping[str, Any], group: str) -> str:
    """A short name of the backbone ("TinyFaR-C") or of the teacher's network, from its configuration."""
    node = config.get(group) or {}
    target = node.get("_target_") or (node.get("network") or {}).get("_target_")
    if not target:
        return str(node.get("asset") or group)
    name = str(target).rsplit(".", 1)[-1]
    return f"{name}-{str(node['variant']).upper()}" if node.get("variant") else name


def headline(files: RunFiles) -> list[Fact]:
    """The figures to see first."""
    record = files.record
    student, teacher = (files.results.get(network) or {} for network in ("student", "teacher"))
    budget = files.config.get("images")
    return [
        _accuracy("LFW accuracy", "lfw", student, teacher),
        _accuracy("Generated pairs", "generated", student, teacher),
        Fact(
            "Parameters",
            short(student.get("params")),
            times_fewer(student.get("params"), teacher.get("params")),
        ),
        Fact(
            "MACs per face", short(student.get("macs")), times_fewer(student.get("macs"), teacher.get("macs"))
        ),
        Fact(
            "Images seen",
            whole(record.get("images_seen")),
            f"of {whole(budget)} asked for" if is_number(budget) else "",
        ),
        Fact("Wall time", duration(record.get("wall_s")), "training, with validation"),
        Fact("Images per second", rate(record.get("images_per_s")), "over the whole training"),
        Fact("Peak memory", _memory(record.get("peak_memory_mib")), "of the training process"),
    ]


def time_shares(record: Mapping[str, Any]) -> list[Share]:
    """Where the training time went; empty where run.json does not say."""
    shares = record.get("time_share") or {}
    if not shares or not all(map(is_number, shares.values())):
        return []
    return [Share(name, percent(value), max(float(value), 0.0)) for name, value in shares.items()]


def export_facts(record: Mapping[str, Any]) -> list[Fact]:
    """How near the exported student is to the trained one."""
    parity = record.get("export") or {}
    return [Fact(_EXPORT_LABELS.get(key, key), _parity(value)) for key, value in parity.items()]


def provenance(files: RunFiles) -> list[Fact]:
    """Where the run came from, for somebody who wants to repeat it."""
    record = files.record
    run_id = str(record.get("id") or files.folder.name)
    config_hash = re.search(r"-([0-9a-f]{8})$", run_id)
    return [
        Fact("Run", run_id),
        Fact("Configuration hash", config_hash.group(1) if config_hash else NOT_RECORDED),
        Fact("Status", str(record.get("status") or NOT_RECORDED)),
        Fact("Seed", _or_not_recorded(record.get("seed"))),
        Fact("Code (git)", _or_not_recorded(record.get("git"))),
        Fact("Versions", _pairs(record.get("versions"))),
        Fact("Machine", _pairs(record.get("machine"))),
    ]


def shell_path(folder: Path, name: str) -> str:
    """The path of a file of the run, below the working folder where possible, quoted for a shell."""
    folder = folder.resolve()
    below = (
        folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else Path("runs") / folder.name
    )
    return shlex.quote((below / name).as_posix())


def _accuracy(label: str, protocol: str, student: Mapping[str, Any], teacher: Mapping[str, Any]) -> Fact:
    own, others = ((network.get("protocols") or {}).get(protocol) or {} for network in (student, teacher))
    interval = percent_interval(own.get("accuracy_ci"))
    theirs = f"teacher {percent(others['accuracy'])}" if is_number(others.get("accuracy")) else ""
    remark = " · ".join(part for part in (f"95 % interval {interval}" if interval else "", theirs) if part)
    return Fact(label, percent(own.get("accuracy")), remark)


def _memory(mib: Any) -> str:
    return f"{whole(mib)} MiB" if is_number(mib) else NOT_MEASURED


def _parity(value: Any) -> str:
    return f"{value:.7f}" if is_number(value) else str(value)


def _or_not_recorded(value: Any) -> str:
    return NOT_RECORDED if value in (None, "") else str(value)


def _pairs(mapping: Any) -> str:
    if not isinstance(mapping, Mapping):
        return _or_not_recorded(mapping)
    told = [f"{key} {value}" for key, value in mapping.items() if value not in (None, "")]
    return ", ".join(told) or NOT_RECORDED
