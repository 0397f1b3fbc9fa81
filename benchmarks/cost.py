"""Size, latency and memory of networks in every runtime, as a table.

    facedistill cost tinyfar_c mobilefacenet --json cost.json
    python benchmarks/cost.py cost.json

Reads what the command wrote and writes `results/cost.md`, with the load of the last 15 minutes: run it at once.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "cost.md"
COLUMNS = (
    "network",
    "format",
    "params M",
    "MMACs",
    "MB",
    "ms, batch 1",
    "p95",
    "faces/s",
    "MiB, batch 1",
    "MiB, batch",
)


def table(rows: list[dict[str, Any]]) -> str:
    """The page: one line per network and format."""
    first = rows[0]
    lines = [f"| {' | '.join(COLUMNS)} |", "|---|---|" + "--:|" * (len(COLUMNS) - 2)]
    for row in rows:
        figures = (
            f"{row['params'] / 1e6:.3f}", f"{row['macs'] / 1e6:.1f}", f"{row['size_mb']:.2f}", f"{row['one_ms']:.2f}",
            f"{row['one_p95_ms']:.2f}", f"{row['images_per_s']:.0f}", f"{row['peak_one_mib']:.0f}", f"{row['peak_batch_mib']:.0f}",
        )  # fmt: skip
        lines.append(f"| {' | '.join([row['name'], row['format'], *figures])} |")
    clock = "processor time" if first["threads"] == 1 else "wall time"
    runtimes = ", ".join(sorted({row["runtime"] for row in rows}))
    return (
        "# Cost of networks\n\n"
        f"`facedistill cost … --json cost.json`, then `python benchmarks/cost.py cost.json`; threads: {first['threads']}, {clock}, "
        f"{first['cpu']}; {runtimes}; batch {first['batch_size']}. MiB is the most that the process held beyond the imported "
        f"libraries. {_load(rows)}\n\n" + "\n".join(lines) + "\n"
    )


def _load(rows: list[dict[str, Any]]) -> str:
    share, load = min(row["share"] for row in rows), os.getloadavg()[2]
    other = "Other work ran on the machine: load" if load > rows[0]["threads"] + 0.5 else "Load"
    return (
        f"{other} {load:.1f} on {os.cpu_count()} cores; each process got at least {share:.0%} of its threads' time. "
        "Processor time is longer under load, so compare within this table only."
    )


if __name__ == "__main__":
    RESULTS.write_text(table(json.loads(Path(sys.argv[1]).read_text())["costs"]))
