"""Cost of one step of every method's loss at the size of MS1MV2, as a table.

    facedistill methods --measure --json | python benchmarks/method_cost.py

Reads what the command measured and writes `results/method_cost.md`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def table(measured: dict[str, Any], methods: list[dict[str, Any]]) -> str:
    """The page: one line per method, most expensive first; a failed measurement shows its reason."""
    lines = ["| method | needs | ms a step | peak MiB |", "|---|---|--:|--:|"]
    for row in sorted(methods, key=lambda row: -row["cost"].get("step_ms", 0)):
        cost = row["cost"]
        figures = (
            [cost["problem"], ""]
            if "problem" in cost
            else [f"{cost['step_ms']:,.1f}", f"{cost['peak_mib']:,.0f}"]
        )
        lines.append(f"| {' | '.join([row['name'], ', '.join(row['needs']), *figures])} |")
    return (
        "# Cost of each method's loss\n\n"
        "`facedistill methods --measure --json | python benchmarks/method_cost.py`; forward and backward of the loss and"
        " its head, student and teacher replaced by given embeddings and maps;"
        f" N = {measured['images']}, D = {measured['dim']}, K = {measured['identities']:,}; median of"
        f" {measured['steps']} steps in float32 on {measured['processor']}. Peak is the most memory that one step holds beyond"
        " parameters and buffers, their gradients included.\n\n" + "\n".join(lines) + "\n"
    )


def main() -> None:
    """Renders the measurements on standard input."""
    printed = json.load(sys.stdin)
    if printed["measured"] is None:
        sys.exit("nothing was measured; use facedistill methods --measure --json")
    text = table(printed["measured"], printed["methods"])
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "method_cost.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
