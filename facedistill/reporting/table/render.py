"""A comparison as files: table.md, table.tex, table.html, results.csv and a figure per metric."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from facedistill.reporting.numbers import NOT_MEASURED
from facedistill.reporting.pages import templates
from facedistill.reporting.table.comparison import (
    Comparison,
    Line,
    TableCell,
    column_title,
    compare,
    is_rate,
)
from facedistill.reporting.table.differences import differences_markdown
from facedistill.reporting.table.figure import draw_comparison
from facedistill.reporting.table.published import Published
from facedistill.system.files import write_atomically

_CSV_COLUMNS = (
    "row", "metric", "value", "low", "high", "seeds", "images", "published", "source", "verified", "verdict", "runs",
)  # fmt: skip


def render(folder: Path, records: Sequence[Mapping[str, Any]], images: int | None = None) -> list[Path]:
    """Writes all files of a table; a second call with the same records writes the same bytes.

    Those of the table's own budget go into `folder`, those of another into `folder`/images-<budget>.

    Args:
        folder: `experiments/<table>`.
        records: Contents of its records.
        images: Image budget of the runs to show; that of rows.yaml where None.

    Returns:
        What was written.
    """
    comparison = compare(folder, records, images)
    target = folder if images is None else folder / f"images-{images}"
    texts = {
        "table.md": as_markdown(comparison),
        "table.tex": as_latex(comparison),
        "table.html": as_html(comparison),
        "results.csv": as_csv(comparison),
    }
    written = []
    for name, text in texts.items():
        written.append(write_atomically(target / name, text))
    for metric in comparison.metrics:
        path = target / "figures" / f"{metric.replace('/', '_').replace('@', '_at_')}.png"
        if draw_comparison(comparison, metric, path):
            written.append(path)
    return written


def as_markdown(comparison: Comparison) -> str:
    """The table for a README: value and 95 % interval, with the published value if there is one."""
    titles = ["", *map(column_title, comparison.metrics), "seeds", "runs"]
    lines = [
        f"## {comparison.title}", "", _caption(comparison), "",
        "| " + " | ".join(titles) + " |", "|" + "---|" * len(titles),
    ]  # fmt: skip
    for line in comparison.lines:
        cells = [
            line.marked,
            *_texts(comparison, line),
            str(max((figure.seeds for figure in line.figures), default=0)),
            ", ".join(map(_short, line.runs)) or NOT_MEASURED,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    if comparison.footnote:
        lines += ["", comparison.footnote]
    if comparison.sources:
        lines += ["", "Published figures:", ""]
        lines += [f"{number}. {source}" for number, source in enumerate(comparison.sources, start=1)]
    return "\n".join(lines) + "\n" + differences_markdown(comparison)


def as_latex(comparison: Comparison) -> str:
    """The table for a paper (booktabs), its caption and the sources of published figures included."""
    head = " & ".join(["method", *(_escape(column_title(m)) for m in comparison.metrics), "runs"])
    rows = [
        " & ".join(map(_escape, [line.marked, *_texts(comparison, line), " ".join(map(_short, line.runs))]))
        + r" \\"
        for line in comparison.lines
    ]
    sources = [
        rf"\par {number}. {_escape(str(source))}" for number, source in enumerate(comparison.sources, start=1)
    ]
    notes = [rf"\par {_escape(comparison.footnote)}"] if comparison.footnote else []
    columns = "l" + "r" * len(comparison.metrics) + "l"
    return "\n".join(
        [r"\begin{table}", r"\centering", rf"\caption{{{_escape(_caption(comparison))}}}",
         rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head + r" \\", r"\midrule", *rows, r"\bottomrule",
         r"\end{tabular}", *([r"\footnotesize", *notes, *sources] if notes or sources else []), r"\end{table}", ""]
    )  # fmt: skip


def as_html(comparison: Comparison) -> str:
    """The table as a page of its own, without scripts."""
    environment = templates(__file__, escape=False)
    environment.filters["e"] = html.escape  # writes an apostrophe as the committed tables have it
    page = environment.get_template("table.html").render(
        comparison=comparison, caption=_caption(comparison), titles=list(map(column_title, comparison.metrics)),
        lines=[(line, _texts(comparison, line), list(map(_short, line.runs))) for line in comparison.lines],
    )  # fmt: skip
    return page + "\n"


def as_csv(comparison: Comparison) -> str:
    """One line per row and metric, as fractions of nine digits: the last ones of a sum depend on Python's version."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    for line in comparison.lines:
        for metric, figure in zip(comparison.metrics, line.figures, strict=True):
            low, high = [f"{end:.9g}" for end in figure.interval] if figure.interval else ("", "")
            source = _source_cells(figure.published)
            value = figure.reason if figure.value is None else f"{figure.value:.9g}"
            writer.writerow(
                [line.name, metric, value, low, high, figure.seeds, comparison.images, *source, figure.verdict,
                 " ".join(line.runs)]
            )  # fmt: skip
    return file.getvalue()


def _source_cells(published: Published | None) -> tuple[float | str, str, str]:
    if published is None:
        return "", "", ""
    return published.value, str(published.source), "verified" if published.source.verified else "second-hand"


def _texts(comparison: Comparison, line: Line) -> list[str]:
    return [
        _text(figure, is_rate(metric))
        for metric, figure in zip(comparison.metrics, line.figures, strict=True)
    ]


def _text(figure: TableCell, rate: bool) -> str:
    if figure.value is None:
        text = figure.reason
    else:
        factor, digits = (100, 2) if rate else (1, 3)
        text = f"{factor * figure.value:.{digits}f}"
        if figure.interval:
            low, high = (factor * end for end in figure.interval)
            text += f" [{low:.{digits}f}, {high:.{digits}f}]"
    if figure.published:
        published = f"{100 * figure.published.value:.2f}" + (
            "" if figure.published.source.verified else " second-hand"
        )
        verdict = "" if figure.value is None else f": {figure.verdict}"
        text += f" (published {published}, source {figure.published.number}{verdict})"
    return text


def _caption(comparison: Comparison) -> str:
    made = "Measured on: no machine yet."
    if comparison.machines:
        made = (
            f"Measured on: {'; '.join(comparison.machines)}. Each run is named by the hash of its configuration; "
            f"hash of all of them: {comparison.hash}."
        )
    seeds = f"seeds {', '.join(map(str, comparison.seeds))}; " if comparison.seeds else ""
    as_found = " (a TAR's at the threshold as found)" if comparison.as_found else ""
    return (
        f"{comparison.note} {comparison.images:,} images a run; {seeds}mean and 95 % interval over seeds "
        f"(Student's t), or over pairs where there is one seed{as_found}; rates in percent. {made}"
    ).strip()


def _short(run: str) -> str:
    return run.rsplit("-", 1)[-1]


def _escape(text: str) -> str:
    for plain, escaped in (
        ("\\", r"\textbackslash{}"),
        ("%", r"\%"),
        ("&", r"\&"),
        ("_", r"\_"),
        ("#", r"\#"),
    ):
        text = text.replace(plain, escaped)
    return text
