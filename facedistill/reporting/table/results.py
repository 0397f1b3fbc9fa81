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
    "ijbb_n0d0f0": "IJB-B, N0D0F0",
    "ijbb_n1d1f1": "IJB-B, N1D1F1",
    "ijbc_n0d0f0": "IJB-C, N0D0F0",
    "ijbc_n1d1f1": "IJB-C, N1D1F1",
    "tinyface": "TinyFace",
    "rfw": "RFW",
    "generated": "Generated pairs",
}


_FLIPS = {
    "sum": "with the mirror image, embeddings added",
    "unit_sum": "with the mirror image, unit embeddings added",
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
    both = tuple(_protocols(results, network).get(protocol) or {} for network in NETWORKS)
    templates = any("identification" in metrics for metrics in both)  # IJB has no accuracy, TinyFace no pairs
    rows = [
        _row(label, both, key)
        for key, label in (("accuracy", "accuracy"), ("auc", "AUC"), ("eer", "EER"))
        if not templates or any(key in metrics for metrics in both)
    ]
    for far in dict.fromkeys(far for metrics in both for far in metrics.get("tar") or {}):
        leq, nearest = (
            [_tar(metrics, far, convention) for metrics in both] for convention in ("tar", "tar_nearest")
        )
        rows.append(Row(f"TAR at FAR {far}", *leq))
        if any(there.value != cell.value != NOT_MEASURED for there, cell in zip(leq, nearest, strict=True)):
            rows.append(Row(f"TAR at FAR {far}, nearest", *nearest))
    rows += [*_identification_rows(both), *_group_rows(both)]
    return Block(protocol, title_of(protocol), _size(both[0] or both[1]), tuple(rows))


def _row(label: str, both: Iterable[Mapping[str, Any]], key: str) -> Row:
    return Row(label, *(Cell(percent(m.get(key)), percent_interval(m.get(f"{key}_ci"))) for m in both))


def _identification_rows(both: tuple[Mapping[str, Any], ...]) -> list[Row]:
    parts = [metrics.get("identification") or {} for metrics in both]
    rows = []
    for part, key, title in (("rank", "rate", "rank-{}"), ("tpir", "tpir", "TPIR at FPIR {}")):
        entries = [identification.get(part) or {} for identification in parts]
        for label in dict.fromkeys(label for entry in entries for label in entry):
            rows.append(Row(title.format(label), *(_rate(entry.get(label), key) for entry in entries)))
    return rows


def _group_rows(both: tuple[Mapping[str, Any], ...]) -> list[Row]:
    parts = [metrics.get("groups") or {} for metrics in both]
    by_group = [part.get("by_group") or {} for part in parts]
    rows = [
        _row(f"accuracy, {name}", [groups.get(name) or {} for groups in by_group], "accuracy")
        for name in dict.fromkeys(name for groups in by_group for name in groups)
    ]
    if rows:
        rows.append(_row("gap between groups", parts, "accuracy_gap"))
        rows.append(_row("standard deviation over groups", parts, "accuracy_std"))
    return rows


def _tar(metrics: Mapping[str, Any], far: str, convention: str) -> Cell:
    return _rate((metrics.get(convention) or {}).get(far), "tar")


def _rate(entry: Any, key: str) -> Cell:
    if isinstance(entry, str):
        return Cell(entry)
    if not isinstance(entry, Mapping):
        return Cell(NOT_MEASURED)
    return Cell(percent(entry.get(key)), percent_interval(entry.get("ci")))


def _size(metrics: Mapping[str, Any]) -> str:
    pairs = [metrics.get(key) for key in ("pairs", "genuine", "impostor")]
    searches = [(metrics.get("identification") or {}).get(key) for key in ("searches", "gallery")]
    told = []
    if all(map(is_number, pairs)):
        told.append("{} pairs: {} genuine, {} impostor".format(*map(whole, pairs)))
    if all(map(is_number, searches)):
        told.append("{} searches of {} templates".format(*map(whole, searches)))
    told = told or ["number of pairs not recorded"]
    if metrics.get("flip") in _FLIPS:
        told.append(_FLIPS[metrics["flip"]])
    return "; ".join(told)
