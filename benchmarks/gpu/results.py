"""The measurements of `python -m benchmarks.gpu` as files: `gpu.jsonl`, `gpu.md` and pictures of growth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from facedistill.system.files import write_atomically


def render(into: Path) -> None:
    """Writes `gpu.md` from `gpu.jsonl`: a table for each comparison."""
    rows = read_rows(into)
    versions = ", ".join(dict.fromkeys(row["torch"] for row in rows))
    lines = [
        "# Training speed",
        "",
        f"torch {versions}; python -m benchmarks.gpu --help says what is compared.",
        "",
    ]
    for name in dict.fromkeys(row["comparison"] for row in rows):
        own = [row for row in rows if row["comparison"] == name]
        columns = list(
            dict.fromkeys(key for row in own for key in row if key not in ("comparison", "device", "torch"))
        )
        devices = ", ".join(dict.fromkeys(row["device"] for row in own))
        lines += [
            f"## {name}, {devices}",
            "",
            f"| {' | '.join(columns)} |",
            "|---" + "|--:" * (len(columns) - 1) + "|",
        ]
        lines += [f"| {' | '.join(_cell(row.get(column)) for column in columns)} |" for row in own]
        lines += ["", *([f"![{name}](gpu-{name}.png)", ""] if (into / f"gpu-{name}.png").exists() else [])]
    write_atomically(into / "gpu.md", "\n".join(lines))


def draw_growth(into: Path) -> None:
    """Time and memory over the size as pictures, where matplotlib is installed."""
    try:
        from matplotlib import pyplot
    except ImportError:
        return
    rows = [row for row in read_rows(into) if "mib" in row]
    for name in dict.fromkeys(row["comparison"] for row in rows):
        figure, axes = pyplot.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
        for axis, key, label in zip(
            axes, ("ms", "mib"), ("ms, forward and backward", "peak MiB"), strict=True
        ):
            for case in ("straightforward", "facedistill"):
                own = [row for row in rows if (row["comparison"], row["case"]) == (name, case)]
                axis.loglog([row["size"] for row in own], [row[key] for row in own], "o-", label=case)
            sizes = sorted({row["size"] for row in rows if row["comparison"] == name})
            axis.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=30)
            axis.minorticks_off()
            axis.set(xlabel="images" if name == "ekd" else "identities", ylabel=label)
        axes[0].legend()
        figure.savefig(into / f"gpu-{name}.png", dpi=120)
        pyplot.close(figure)


def read_rows(into: Path) -> list[dict[str, Any]]:
    """The measurements so far; a last line that a kill cut off is left out."""
    path = into / "gpu.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 100 else f"{value:,.0f}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
