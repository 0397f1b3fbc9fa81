"""One small run of the fault campaign."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults_fork import start
from benchmarks.faults_trainer import configuration
from facedistill.reporting.record import RunRecord


@dataclass
class Case:
    """One run of the campaign: recipe, number of processes and folders."""

    recipe: str
    processes: int
    folder: Path
    faces: Path
    workers: int = 0
    logs: Path | None = None

    def __str__(self) -> str:
        return f"{self.recipe}, {self.processes} process(es), {self.folder.name}"

    @property
    def log(self) -> Path:
        """The output of the processes."""
        return (self.logs or self.folder) / "log.txt"

    @property
    def run(self) -> Path:
        """The run folder."""
        (found,) = self.folder.glob("smoke-*")
        return found

    def start(self, nan_at: int | None = None) -> list[int]:
        """Starts the run's processes."""
        config = configuration(self.recipe, self.processes, self.faces, self.folder, self.workers)
        return start(config, self.log, self.processes, nan_at)

    def output(self) -> str:
        """The output so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def has_ended(case: Case) -> bool:
    return any(RunRecord.load(run / "run.json").status == "finished" for run in case.folder.glob("smoke-*"))


def last_line(case: Case) -> str:
    lines = [line for line in case.output().splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no output"
