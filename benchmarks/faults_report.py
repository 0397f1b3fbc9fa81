"""Counts the results of the campaign, compares two runs, and writes the page."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.faults_trainer import RECIPES, STEPS

PATIENCE_S = 60.0  # between the ends of two processes of one run


def final_state(run: Path) -> dict[str, object]:
    """All of a finished run's checkpoint that must not depend on interruptions."""
    checkpoint = torch.load(run / "last.ckpt", weights_only=True)
    kept: Sequence[str] = (
        "state_dict", "optimizer_states", "lr_schedulers", "images_seen", "global_step", "FaceDataModule", "random_states",
    )  # fmt: skip
    return {name: checkpoint[name] for name in kept}


def differences(one: object, other: object, place: str = "") -> list[str]:
    """Places at which two nested states differ by a bit."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        same = (
            one.dtype == other.dtype
            and one.shape == other.shape
            and one.numpy().tobytes() == other.numpy().tobytes()
        )
        return [] if same else [place]
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            return [f"{place}: keys"]
        return [found for key in one for found in differences(one[key], other[key], f"{place}.{key}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            return [f"{place}: length"]
        return [
            f
            for n, pair in enumerate(zip(one, other, strict=True))
            for f in differences(*pair, f"{place}.{n}")
        ]
    return [] if one == other else [place]


@dataclass
class Tally:
    """Faults and outcomes."""

    done: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    longest_end_s: float = 0.0
    resumes: int = 0
    compared: int = 0

    def add(self, other: Tally) -> None:
        """Adds the counts of another job."""
        self.done.update(other.done)
        self.findings += other.findings
        self.longest_end_s = max(self.longest_end_s, other.longest_end_s)
        self.resumes += other.resumes
        self.compared += other.compared

    def finding(self, kind: str, case: object, what: str) -> None:
        """Records and prints a finding."""
        text = f"{kind}: {case}: {what}"
        self.findings.append(text)
        print(text, flush=True)


def report(tally: Tally, seed: int, minutes: float) -> str:
    """The results as Markdown."""
    kinds = Counter(finding.split(":")[0] for finding in tally.findings)
    rows = [*sorted(tally.done.items())]
    return "\n".join(
        [
            "# Fault campaign",
            "",
            f"`python benchmarks/faults.py --seed {seed}`; {minutes:.0f} minutes on {os.cpu_count()} cores of {platform.machine()}, "
            f"torch {torch.__version__}.",
            f"Recipes: {'; '.join(RECIPES)}; each in one process and in two (DDP over gloo), {STEPS} steps "
            "of 8 images, a checkpoint every 3 steps. Networks are tiny and processes are forks of a warmed-up process; trainer, callbacks,",
            "sources, checkpoints and exports are the real ones (`benchmarks/faults_trainer.py`).",
            "",
            "| fault | times |",
            "|---|---|",
            *(f"| {name} | {count} |" for name, count in rows),
            f"| **kills** (signals to runs under way) | **{kills(tally)}** |",
            f"| starts of an interrupted run | {tally.resumes} |",
            "",
            "| outcome | times |",
            "|---|---|",
            f"| runs that ended and were compared bit for bit with an undisturbed run | {tally.compared} |",
            f"| lost runs | {kinds['lost']} |",
            f"| diverged runs | {kinds['diverged']} |",
            f"| hangs (a process more than {PATIENCE_S:.0f} s behind the other) | {kinds['hang']} |",
            f"| tracebacks, unexpected exit codes, files left behind | {kinds['traceback'] + kinds['unexpected end'] + kinds['left behind']} |",
            f"| longest time from the end of one process to that of the other | {tally.longest_end_s:.1f} s |",
            "",
            "Compared: weights and buffers (EKD's thresholds and queue, AdaDistill's centers), optimizer, schedule, counters, position,",
            "last agreement, random states of every process, and `metrics.csv`.",
            *(
                ["", "Findings:", "", *(f"- {finding}" for finding in tally.findings)]
                if tally.findings
                else []
            ),
            "",
        ]
    )


def kills(tally: Tally) -> int:
    return sum(count for name, count in tally.done.items() if name.startswith("SIG"))
