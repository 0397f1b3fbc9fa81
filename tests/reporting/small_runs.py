"""Run folders of invented results without pictures: made in a millisecond, for lists of runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.reporting.fake_run import CONFIG, RECORD

ACCURACIES = {"lfw": 0.9, "generated": 0.95}


def write_small_run(
    folder: Path, *, method: str = "SynthDistill", status: str = "finished", num_logged: int = 12,
    accuracies: dict[str, float] | None = None, **record: Any,
) -> Path:  # fmt: skip
    """Writes config.yaml, run.json, metrics.csv and results.json; interval ends lie 0.01 off each accuracy."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(CONFIG.replace("SynthDistill", method))
    content = {**RECORD, "id": folder.name, "status": status, **record}
    (folder / "run.json").write_text(json.dumps(content))
    rows = [f"{k},{100 * k},{2 / k},{1 - 1 / k},{1 - 0.5 / k}" for k in range(1, num_logged + 1)]
    (folder / "metrics.csv").write_text(
        "\n".join(["step,images_seen,train/loss,val/cosine,val/accuracy", *rows]) + "\n"
    )
    accuracies = ACCURACIES if accuracies is None else accuracies
    protocols = {p: {"accuracy": a, "accuracy_ci": [a - 0.01, a + 0.01]} for p, a in accuracies.items()}
    results = {"student": {"protocols": protocols}, "teacher": {"protocols": {}}}
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def write_many(runs_dir: Path, count: int, num_logged: int) -> Path:
    """`count` runs of four methods, three seeds."""
    for k in range(count):
        method = ("KD", "RKD", "SynthDistill", "EKD")[k % 4]
        accuracies = {"lfw": 0.7 + 0.2 * k / count, "generated": 0.9}
        write_small_run(
            runs_dir / f"many-{k:08x}",
            method=method,
            num_logged=num_logged,
            accuracies=accuracies,
            seed=k % 3,
        )
    return runs_dir
