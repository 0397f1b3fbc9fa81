"""How the rows of a table differ from one of them, over the seeds that both were run with."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from facedistill.metrics.confidence import mean_interval
from facedistill.reporting.numbers import NOT_MEASURED
from facedistill.reporting.table.comparison import Comparison, TableCell, column_title, is_rate


@dataclass(frozen=True)
class Difference:
    """A row minus the reference row in one metric.

    Attributes:
        value: Mean of the differences of equal seeds.
        interval: 95 %, Student's t over these differences; None for one seed.
        seeds: How many seeds both rows have.
    """

    value: float
    interval: tuple[float, float] | None
    seeds: int


def difference(cell: TableCell, reference: TableCell) -> Difference | None:
    """The paired difference of two cells; None without a common seed."""
    pairs = [
        cell.by_seed[seed] - reference.by_seed[seed] for seed in cell.by_seed if seed in reference.by_seed
    ]
    if not pairs:
        return None
    interval = mean_interval(torch.tensor(pairs, dtype=torch.float64)) if len(pairs) > 1 else None
    return Difference(sum(pairs) / len(pairs), interval, len(pairs))


def differences_markdown(comparison: Comparison) -> str:
    """The second table of a comparison with a reference row; empty without one."""
    reference = next((line for line in comparison.lines if line.name == comparison.reference), None)
    others = [line for line in comparison.lines if line is not reference and line.runs]
    if reference is None or not reference.runs or not others:
        return ""
    titles = ["", *map(column_title, comparison.metrics), "common seeds"]
    rows = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for line in others:
        found = [difference(*pair) for pair in zip(line.figures, reference.figures, strict=True)]
        texts = [_text(one, is_rate(m)) for one, m in zip(found, comparison.metrics, strict=True)]
        seeds = max((one.seeds for one in found if one), default=0)
        rows.append("| " + " | ".join([line.label, *texts, str(seeds)]) + " |")
    about = (
        f'Difference from "{reference.label}" over equal seeds, in points; 95 % interval (Student\'s t over the '
        "differences) where there are several seeds."
    )
    return "\n".join(["", about, "", *rows]) + "\n"


def _text(found: Difference | None, rate: bool) -> str:
    if found is None:
        return NOT_MEASURED
    factor, digits = (100, 2) if rate else (1, 3)
    text = f"{factor * found.value:+.{digits}f}"
    if found.interval:
        low, high = (factor * end for end in found.interval)
        text += f" [{low:+.{digits}f}, {high:+.{digits}f}]"
    return text
