"""The table of numbers: student beside teacher, protocol by protocol, as rows and as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from facedistill.reporting.numbers import NOT_MEASURED, is_number, percent, percent_interval, whole

NETWORKS = ("student", "teacher")
_TITLES = {
    "lfw": "LFW",
    "cfp_fp": "CFP-FP",
    "cfp_ff": "CFP-FF",
    "agedb_30": "AgeDB-30",
    "calfw": "CALFW",
    "cplfw": "CPLFW",
    "generated": "Generated pairs",
}


@dataclass(frozen=True)
class Cell:
    """One value and its 95 % interval, the latter empty where there is none."""

    value: str
    interval: str = ""

    def __str__(self) -> str:
        return f"{self.value} {self.interval}".rstrip()


@dataclass(frozen=True)
class Row:
    """One figure of both networks."""

    label: str
    student: Cell
    teacher: Cell


@dataclass(frozen=True)
class Block:
    """One protocol: its name, how many pairs it has, its figures."""

    protocol: str
    title: str
    pairs: str
    rows: tuple[Row, ...]


def title_of(protocol: str) -> str:
    """The name people know a protocol by; its key where it has no other."""
    return _TITLES.get(protocol, protocol)


def in_order(protocols: Iterable[str]) -> list[str]:
    """Well-known protocols first, in their customary order, then the others by name."""
    known = list(_TITLES)
    return sorted(set(protocols), key=lambda name: (known.index(name) if name in known else len(known), name))


def measured_protocols(results: Mapping[str, Any]) -> list[str]:
    """Protocols that either network was measured on."""
    return in_order(name for network in NETWORKS for name in _protocols(results, network))


def results_table(results: Mapping[str, Any]) -> list[Block]:
    """The numbers of results.json, one block for each protocol.

    Args:
        results: Contents of results.json; rates are fractions.

    Returns:
        Blocks in customary order; a figure that one network lacks reads "not measured".
    """
    return [_block(results, protocol) for protocol in measured_protocols(results)]


def as_text(blocks: Iterable[Block]) -> str:
    """The table for a terminal: columns aligned, one blank line between protocols."""
    blocks = list(blocks)
    rows = [row for block in blocks for row in block.rows]
    if not rows:
        return ""
    label = max(len(row.label) for row in rows)
    student = max(len("student"), *(len(str(row.student)) for row in rows))
    parts = []
    for block in blocks:
        lines = [f"{block.title} ({block.pairs})", f"  {'':{label}}  {'student':{student}}  teacher"]
        lines += [f"  {row.label:{label}}  {row.student!s:{student}}  {row.teacher}" for row in block.rows]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _protocols(results: Mapping[str, Any], network: str) -> Mapping[str, Any]:
    return (results.get(network) or {}).get("protocols") or {}


def _block(results: Mapping[str, Any], protocol: str) -> Block:
    student, teacher = (_protocols(results, network).get(protocol) or {} for network in NETWORKS)
    rows = [
        Row(
            label,
            *(Cell(percent(m.get(key)), percent_interval(m.get(f"{key}_ci"))) for m in (student, teacher)),
        )
        for key, label in (("accuracy", "accuracy"), ("auc", "AUC"), ("eer", "EER"))
    ]
    fars = dict.fromkeys([*(student.get("tar") or {}), *(teacher.get("tar") or {})])
    rows += [Row(f"TAR at FAR {far}", _tar(student, far), _tar(teacher, far)) for far in fars]
    return Block(protocol, title_of(protocol), _pairs(student or teacher), tuple(rows))


def _tar(metrics: Mapping[str, Any], far: str) -> Cell:
    entry = (metrics.get("tar") or {}).get(far)
    if isinstance(entry, str):
        return Cell(entry)
    if not isinstance(entry, Mapping):
        return Cell(NOT_MEASURED)
    return Cell(percent(entry.get("tar")), percent_interval(entry.get("ci")))


def _pairs(metrics: Mapping[str, Any]) -> str:
    numbers = [metrics.get(key) for key in ("pairs", "genuine", "impostor")]
    if not all(map(is_number, numbers)):
        return "number of pairs not recorded"
    return "{} pairs: {} genuine, {} impostor".format(*map(whole, numbers))
