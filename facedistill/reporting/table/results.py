"""The results of one run: student next to teacher, protocol by protocol, as rows and as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from facedistill.evaluation.protocols.titles import in_order
from facedistill.reporting.figures import Estimate, estimates, label_of, part
from facedistill.reporting.numbers import NOT_MEASURED, is_number, percent, percent_interval, whole
from facedistill.reporting.record import NETWORKS, Results

_PAIR_FIGURES = ("accuracy", "auc", "eer")
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
    """One protocol: its name and title, its size in words, its figures."""

    protocol: str
    title: str
    pairs: str
    rows: tuple[Row, ...]


def measured_protocols(results: Results) -> list[str]:
    """Protocols that either network was measured on, in customary order."""
    return in_order(name for network in NETWORKS for name in results.network(network).protocols)


def results_table(results: Results) -> list[Block]:
    """The numbers of results.json, one block for each protocol; a figure that one network lacks is "not measured"."""
    return [_block(results, protocol) for protocol in measured_protocols(results)]


def as_text(blocks: Iterable[Block]) -> str:
    """The table for a terminal, with a blank line between protocols; a network without any figure has no column."""
    blocks = list(blocks)
    rows = [row for block in blocks for row in block.rows]
    if not rows:
        return ""
    shown = [
        one for one in NETWORKS if any(getattr(row, one).value != NOT_MEASURED for row in rows)
    ] or NETWORKS
    columns = [["", *(row.label for row in rows)]]
    columns += [[one, *(str(getattr(row, one)) for row in rows)] for one in shown]
    widths = [max(map(len, column)) for column in columns]
    head, *lines = (
        "  " + "  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in zip(*columns, strict=True)
    )
    parts = []
    for block in blocks:
        own, lines = lines[: len(block.rows)], lines[len(block.rows) :]
        parts.append("\n".join([f"{block.title} ({block.pairs})", head, *own]))
    return "\n\n".join(parts)


def _block(results: Results, protocol: str) -> Block:
    figures = [results.figures(network, protocol) for network in NETWORKS]
    both = [estimates(one) for one in figures]
    labels = {name: estimate.label for one in both for name, estimate in one.items()}
    names = [name for name in labels if name not in _PAIR_FIGURES and not name.startswith("tar_nearest@")]
    # IJB has no accuracy, TinyFace no pairs; elsewhere a missing figure is shown as missing.
    templates = any("identification" in one for one in figures)
    names = [name for name in _PAIR_FIGURES if not templates or name in labels] + names
    rows = []
    for name in names:
        row = Row(labels.get(name, label_of(name)), *(_cell(one.get(name)) for one in both))
        rows.append(row)
        if (nearest := name.replace("tar@", "tar_nearest@")) != name and nearest in labels:
            other = Row(labels[nearest], *(_cell(one.get(nearest)) for one in both))
            pairs = ((row.student, other.student), (row.teacher, other.teacher))
            if any(leq.value != cell.value != NOT_MEASURED for leq, cell in pairs):
                rows.append(other)
    return Block(protocol, results.title(protocol), _size(figures[0] or figures[1]), tuple(rows))


def _cell(estimate: Estimate | None) -> Cell:
    if estimate is None:
        return Cell(NOT_MEASURED)
    return Cell(estimate.reason or percent(estimate.value), percent_interval(estimate.interval))


def _size(figures: Mapping[str, Any]) -> str:
    pairs = [figures.get(key) for key in ("pairs", "genuine", "impostor")]
    searches = [part(figures, "identification", key) for key in ("searches", "gallery")]
    texts = []
    if all(map(is_number, pairs)):
        texts.append("{} pairs: {} genuine, {} impostor".format(*map(whole, pairs)))
    if all(map(is_number, searches)):
        texts.append("{} searches of {} templates".format(*map(whole, searches)))
    texts = texts or ["number of pairs not recorded"]
    if figures.get("flip") in _FLIPS:
        texts.append(_FLIPS[figures["flip"]])
    return "; ".join(texts)
