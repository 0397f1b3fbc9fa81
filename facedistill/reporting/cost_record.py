"""`cost.json` of a run folder: what its student costs, each time with the machine that it was measured on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias

from facedistill.errors import DataError
from facedistill.reporting.numbers import is_number
from facedistill.reporting.record import read_object
from facedistill.system.files import write_atomically

FILE = "cost.json"
Condition: TypeAlias = tuple[str, str, int]
"""Format, processor and threads."""
_TEXTS = ("format", "runtime", "cpu", "weights")


@dataclass(frozen=True)
class CostRow:
    """One file of a network, in its runtime, on one machine.

    Attributes:
        format: "pytorch" or a name of `facedistill.export.formats.FORMATS`.
        runtime: Name and version.
        params: Parameters of the network.
        macs: Multiply-accumulates per face.
        size_mb: Of the file, in units of 10^6 bytes.
        one_ms: Median latency of one face.
        one_p95_ms: 95th percentile of the same.
        images_per_s: With `batch_size` faces at a time.
        batch_size: Faces at a time.
        peak_one_mib: Most memory that the process held after opening the file and embedding single faces, beyond what it
            held after importing the runtime.
        peak_batch_mib: The same after embedding batches.
        threads: Of the runtime.
        cpu: Name of the processor.
        share: Fraction of its threads' time that the process got, see `facedistill.models.cost.Latency`.
        weights: Fingerprint of the student's weights, `NetworkResults.weights`; "" of random weights.
    """

    format: str
    runtime: str
    params: int
    macs: int
    size_mb: float
    one_ms: float
    one_p95_ms: float
    images_per_s: float
    batch_size: int
    peak_one_mib: float
    peak_batch_mib: float
    threads: int
    cpu: str
    share: float
    weights: str

    @property
    def condition(self) -> Condition:
        """Rows with the same format, processor and threads can be compared."""
        return (self.format, self.cpu, self.threads)

    @property
    def measured_on(self) -> str:
        """The condition in words."""
        return f"{self.format}, {self.cpu}, {self.threads} {'thread' if self.threads == 1 else 'threads'}"


def is_accurate(row: CostRow) -> bool:
    """Whether the accuracy of the student is this file's: not if it rounds to 8 bits."""
    return not row.format.endswith("int8")


def common_condition(rows: Iterable[CostRow]) -> Condition | None:
    """The condition that most rows share, rows in 8 bits apart; ONNX of equally frequent ones. None without rows."""
    count = Counter(row.condition for row in rows if is_accurate(row))
    return max(count, key=lambda one: (count[one], one[0] == "onnx", one), default=None)


def row_of(rows: Sequence[CostRow], condition: Condition | None) -> CostRow | None:
    """The row of a condition, or another one if there is none; None without rows."""
    fitting = sorted(filter(is_accurate, rows), key=lambda row: row.condition != condition)
    return fitting[0] if fitting else None


def read_costs(path: Path) -> list[CostRow]:
    """The rows of a file; none if it does not exist.

    Raises:
        DataError: If it is damaged.
    """
    content = read_object(path).get("costs", [])
    if not isinstance(content, list):
        raise DataError(f"{path}: costs is no list; delete the file and run facedistill cost again")
    return [_row(entry, path) for entry in content]


def save_costs(path: Path, rows: Sequence[CostRow]) -> None:
    """Adds rows to a file. Rows of the same condition and batch size, and rows of other weights, are replaced.

    Raises:
        DataError: If the file is damaged.
        UserError: If it cannot be written.
    """
    new = {(*row.condition, row.batch_size) for row in rows}
    weights = {row.weights for row in rows}
    kept = [
        row
        for row in read_costs(path)
        if row.weights in weights and (*row.condition, row.batch_size) not in new
    ]
    write_atomically(path, json.dumps({"costs": [asdict(row) for row in (*kept, *rows)]}, indent=2) + "\n")


def _row(entry: Any, path: Path) -> CostRow:
    names = [item.name for item in fields(CostRow)]
    values = {name: entry[name] for name in names if name in entry} if isinstance(entry, dict) else {}
    wrong = [
        name
        for name in names
        if not (isinstance(values.get(name), str) if name in _TEXTS else is_number(values.get(name)))
    ]
    if wrong:
        raise DataError(
            f"{path}: a cost lacks {wrong[0]} or has another kind; delete the file and run facedistill cost again"
        )
    return CostRow(**values)
