"""The table of methods side by side: rows from records, never a number without a run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from facedistill.errors import ConfigError
from facedistill.evaluation.protocols.titles import protocol_title
from facedistill.metrics.confidence import mean_interval
from facedistill.reporting.figures import Estimate, estimates, label_of, part
from facedistill.reporting.numbers import NOT_MEASURED, is_number
from facedistill.reporting.record import Results
from facedistill.reporting.table.own_files import MARK, footnote, own_files
from facedistill.reporting.table.published import Published, Source, read_published

_ROBUSTNESS = "robustness"  # metrics robustness/<corruption>: accuracy under a corruption, see `facedistill.evaluation.robustness`
_AGREES = 0.003  # published and measured, as fractions, or within the measured interval


@dataclass(frozen=True)
class TableCell:
    """One figure of one row.

    Attributes:
        value: Mean over the seeds, a fraction or a cosine; None with a `reason`.
        interval: 95 %: Student's t over the seeds, or the protocol's own interval where there is one seed.
        seeds: How many runs it rests on.
        published: What a paper says, if it does.
        reason: "not measured" or "not measurable", where there is no value.
        by_seed: The value of each seed.
    """

    value: float | None
    interval: tuple[float, float] | None
    seeds: int
    published: Published | None
    reason: str = NOT_MEASURED
    by_seed: Mapping[int, float] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """ "reproduced", "off by +0.41", or why nothing is compared; empty where nothing is published."""
        if self.published is None:
            return ""
        if self.value is None:
            return self.reason
        if self.published.source.differs:
            return "not compared"
        difference = self.value - self.published.value
        low, high = self.interval or (self.value, self.value)
        agrees = abs(difference) <= _AGREES or low <= self.published.value <= high
        return "reproduced" if agrees else f"off by {100 * difference:+.2f}"


@dataclass(frozen=True)
class Line:
    """One row: its name, its label, a figure per metric, the ids of the runs behind it, and what `own_files` says of them."""

    name: str
    label: str
    figures: tuple[TableCell, ...]
    runs: tuple[str, ...]
    files: str = ""

    @property
    def marked(self) -> str:
        """The label, with a mark if there is a footnote on the row."""
        return f"{self.label} {MARK}" if self.files else self.label


@dataclass(frozen=True)
class Comparison:
    """A table.

    Attributes:
        title: From rows.yaml.
        note: From rows.yaml.
        metrics: The columns, `<protocol>/<figure>`.
        lines: The rows.
        images: Budget of every run.
        seeds: All seeds that any row was run with.
        machines: All machines that any run was made on.
        sources: Where the published figures stand; their numbers count from 1.
        as_found: Whether a TAR of one seed has the interval at the threshold as found, as older records have.
        reference: Name of the row that the others are compared with, seed by seed; None for no such comparison.
    """

    title: str
    note: str
    metrics: tuple[str, ...]
    lines: tuple[Line, ...]
    images: int
    seeds: tuple[int, ...]
    machines: tuple[str, ...]
    sources: tuple[Source, ...]
    as_found: bool = False
    reference: str | None = None

    @property
    def hash(self) -> str:
        """Eight digits that change with any run behind the table; empty where there is none."""
        runs = sorted(run for line in self.lines for run in line.runs)
        return hashlib.sha256("\n".join(runs).encode()).hexdigest()[:8] if runs else ""

    @property
    def footnote(self) -> str:
        """The sentence on the marked rows; empty where none is marked."""
        return footnote([(line.label, line.files) for line in self.lines if line.files])


def compare(folder: Path, records: Sequence[Mapping[str, Any]], images: int | None = None) -> Comparison:
    """Gathers the records of one image budget under the rows of `folder`/rows.yaml.

    Args:
        folder: `experiments/<table>`.
        records: Contents of its records, from whatever machine.
        images: Image budget; that of rows.yaml where None.

    Raises:
        ConfigError: If a metric is not of the form `<protocol>/<figure>`, or published.yaml is refused.
    """
    content = yaml.safe_load((folder / "rows.yaml").read_text())
    wanted = images or content["images"]
    published = read_published(folder / "published.yaml", content["rows"], content["metrics"])
    for metric in content["metrics"]:
        if metric.count("/") != 1:
            raise ConfigError(f"{folder / 'rows.yaml'}: metrics: {metric!r} is not <protocol>/<figure>")
    lines = []
    used = []
    for name, row in content["rows"].items():
        own = [r for r in records if r["row"] == name and r["config"]["images"] == wanted]
        used += own
        figures = tuple(_cell(own, m, published.get(name, {}).get(m)) for m in content["metrics"])
        label = row.get("label", name) + _stored_faces(own)
        lines.append(Line(name, label, figures, tuple(r["id"] for r in own), own_files(own)))
    return Comparison(
        title=content["title"],
        note=content.get("note", ""),
        metrics=tuple(content["metrics"]),
        lines=tuple(lines),
        images=wanted,
        seeds=tuple(sorted({record["seed"] for record in used})),
        machines=tuple(sorted({_machine(record) for record in used})),
        sources=_in_order(published),
        as_found=any(_as_found(line, used, content["metrics"]) for line in lines),
        reference=content.get("reference"),
    )


def column_title(metric: str) -> str:
    """`lfw/accuracy` as "LFW accuracy", `lfw/tar@1e-3` as "LFW TAR at FAR 1e-3", `robustness/jpeg` as "Jpeg accuracy"."""
    protocol, figure = metric.split("/")
    if protocol == _ROBUSTNESS:
        return f"{figure.replace('_', ' ').capitalize()} accuracy"
    return f"{protocol_title(protocol)} {label_of(figure)}"


def is_rate(metric: str) -> bool:
    """Whether a metric is a fraction that people read in percent."""
    return not metric.startswith("validation/")


def _cell(records: Sequence[Mapping[str, Any]], metric: str, published: Published | None) -> TableCell:
    found = [_value(record, metric) for record in records]
    values = [value for value, _ in found if is_number(value)]
    seeds = [record["seed"] for record, (value, _) in zip(records, found, strict=True) if is_number(value)]
    if not values:
        reasons = [value for value, _ in found if isinstance(value, str)]
        return TableCell(None, None, 0, published, reasons[0] if reasons else NOT_MEASURED)
    if len(values) == 1:
        interval = next(interval for value, interval in found if is_number(value))
    else:
        low, high = mean_interval(torch.tensor(values))
        interval = (max(0.0, low), min(1.0, high)) if is_rate(metric) else (low, high)
    by_seed = dict(zip(seeds, values, strict=True))
    return TableCell(sum(values) / len(values), interval, len(values), published, by_seed=by_seed)


def _value(record: Mapping[str, Any], metric: str) -> tuple[Any, tuple[float, float] | None]:
    protocol, figure = metric.split("/")
    if protocol == "validation":
        return record.get("validation", {}).get(figure), None
    results = Results.from_json(record["results"], f"record {record['id']}")
    if protocol == _ROBUSTNESS:
        figures, figure = part(results.student.robustness, "conditions", figure) or {}, "accuracy"
    else:
        figures = results.figures("student", protocol)
    one = estimates(figures).get(figure, Estimate(figure))
    return one.reason or one.value, one.interval


def _stored_faces(records: Sequence[Mapping[str, Any]]) -> str:
    """Says in a row's label which images of the user's its runs learned from."""
    own = [r for r in records if r.get("stored_faces") and not part(r["config"], "data", "synthetic")]
    names = sorted({str(r["stored_faces"].get("set")) for r in own})
    return f" (images of {', '.join(names)})" if names else ""


def _as_found(line: Line, records: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> bool:
    protocols = {
        metric.split("/")[0]
        for metric, cell in zip(metrics, line.figures, strict=True)
        if cell.seeds == 1 and cell.interval and "/tar" in metric
    }
    own = (Results.from_json(r["results"], f"record {r['id']}") for r in records if r["id"] in line.runs)
    return any("intervals" not in results.figures("student", one) for results in own for one in protocols)


def _in_order(published: Mapping[str, Mapping[str, Published]]) -> tuple[Source, ...]:
    sources = {figure.number: figure.source for row in published.values() for figure in row.values()}
    return tuple(sources[number] for number in sorted(sources))


def _machine(record: Mapping[str, Any]) -> str:
    machine = record.get("machine", {})
    return (
        machine.get("gpu")
        or f"{machine.get('cores')} {machine.get('cpu')} cores, {machine.get('threads')} threads a run"
    )
