"""A sweep with failures: jobs that fail, and the sweep killed with SIGKILL at a random moment, then restarted.

    python benchmarks/sweep.py [--seed 0] [--out FOLDER]

Twelve tiny runs over `strategy=ddp_cpu` (two processes each); the two with an odd batch fail on purpose. The requirements
are checked afterwards, and written with the outcome to benchmarks/results/sweep.md.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
TINY = (
    "debug=smoke", "evaluation.protocols=[generated]", "images=16", "strategy=ddp_cpu", "method=cosine", "teacher.compile=false",
    "generator.network.compile=false", "generator.network.exit=64", "evaluation.generated_pairs.identities=20",
    "evaluation.validation_pairs.identities=20", "launcher.slots=1", "callbacks.checkpoint_every_images=4",
)  # fmt: skip
LIMIT_S = 3600


@dataclass(frozen=True)
class Outcome:
    """What was seen.

    Attributes:
        jobs: How many the sweep has.
        finished_before: Runs that were finished when the sweep was killed.
        killed_after_s: When that was.
        orphans_gone_s: How long the last process of the killed sweep lived on.
        finished: Runs finished in the end.
        failed: Sentences of the failed ones, as printed by the second sweep.
        repeated: Finished runs that the second sweep changed.
        left: Processes left at the end.
        wandb_runs: Distinct wandb runs, by id.
        wandb_groups: Distinct wandb groups.
        exit_code: Of the second sweep.
    """

    jobs: int
    finished_before: int
    killed_after_s: float
    orphans_gone_s: float
    finished: int
    failed: list[str]
    repeated: list[str]
    left: list[str]
    wandb_runs: int
    wandb_groups: int
    exit_code: int

    def problems(self, num_failing: int) -> list[str]:
        """Failed checks, one sentence each; empty if all passed."""
        checks = {
            f"{self.finished} of {self.jobs - num_failing} finished": self.finished
            == self.jobs - num_failing,
            f"{len(self.failed)} of {num_failing} failed": len(self.failed) == num_failing,
            f"run twice: {self.repeated}": not self.repeated,
            f"still alive: {self.left}": not self.left,
            f"{self.wandb_runs} wandb runs in {self.wandb_groups} groups": self.wandb_runs == self.finished
            and self.wandb_groups == 1,
            f"exit code {self.exit_code}": self.exit_code == 1,
        }
        return [sentence for sentence, holds in checks.items() if not holds]


def trouble(folder: Path, batch_sizes: list[int], seeds: int, rng: random.Random) -> Outcome:
    """Runs the sweep in `folder`, kills it at a moment drawn from `rng`, runs it again, and checks."""
    runs = folder / "runs"
    swept = (
        f"data.batch_size={','.join(map(str, batch_sizes))}",
        f"seed={','.join(map(str, range(1, seeds + 1)))}",
    )
    command = [sys.executable, "-m", "facedistill", "train", "-m", *TINY, f"runs_dir={runs}", *swept]
    jobs = len(batch_sizes) * seeds
    started = time.monotonic()
    first = _start(command, folder / "first.txt")
    wanted = rng.randint(1, max(1, jobs // 3))
    _until(lambda: len(_finished(runs)) >= wanted and _running(runs))
    time.sleep(rng.uniform(0, 20))
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    killed_after = time.monotonic() - started
    before = _finished(runs)
    killed = time.monotonic()
    _until(lambda: not _processes(runs))
    orphans_gone = time.monotonic() - killed
    second = _start(command, folder / "second.txt")
    code = second.wait(LIMIT_S)
    output = (folder / "second.txt").read_text()
    after = _finished(runs)
    ids, groups = _wandb(runs)
    return Outcome(
        jobs=jobs,
        finished_before=len(before),
        killed_after_s=killed_after,
        orphans_gone_s=orphans_gone,
        finished=len(after),
        failed=sorted({line[8:] for line in output.splitlines() if line.startswith("failed  ")}),
        repeated=[name for name, stamp in before.items() if after.get(name) != stamp],
        left=_processes(runs),
        wandb_runs=len(ids),
        wandb_groups=len(groups),
        exit_code=code,
    )


def _start(command: list[str], output: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "WANDB_MODE": "offline", "PYTHONPATH": str(REPOSITORY)}
    with output.open("wb") as file:
        return subprocess.Popen(
            command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, cwd=REPOSITORY, env=environment
        )


def _finished(runs: Path) -> dict[str, int]:
    """Finished runs with the time their student was written."""
    found = {}
    for path in runs.glob("*/run.json"):
        if json.loads(path.read_text()).get("status") == "finished":
            found[path.parent.name] = (path.parent / "student.safetensors").stat().st_mtime_ns
    return found


def _running(runs: Path) -> bool:
    return any(json.loads(path.read_text()).get("status") == "running" for path in runs.glob("*/run.json"))


def _processes(runs: Path) -> list[str]:
    """Command lines of living processes that name the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        if str(runs) in words:
            found.append(words)
    return found


def _wandb(runs: Path) -> tuple[set[str], set[str]]:
    """Ids and groups of the offline wandb runs of the finished runs."""
    ids, groups = set(), set()
    for name in _finished(runs):
        for path in (runs / name).glob("wandb/offline-run-*/run-*.wandb"):
            ids.add(path.stem)
        config = (runs / "jobs" / f"{name}.yaml").read_text()
        group = next(
            line.split(": ")[1] for line in config.splitlines() if line.strip().startswith("group: ")
        )
        held = [path.read_bytes() for path in (runs / name).glob("wandb/offline-run-*/run-*.wandb")]
        groups.add(group if all(group.encode() in content for content in held) else f"not in {name}")
    return ids, groups


def _until(condition, limit_s: float = LIMIT_S) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("nothing happened")
        time.sleep(0.1)


def main() -> int:
    """Runs it once and writes what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the moment at which the sweep is killed")
    parser.add_argument("--out", type=Path, help="keep the runs here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        seen = trouble(folder, [2, 4, 6, 8, 16, 9], seeds=2, rng=random.Random(options.seed))
        problems = seen.problems(num_failing=2)
        text = _report(seen, problems, options.seed, time.monotonic() - started, str(folder))
    (REPOSITORY / "benchmarks" / "results" / "sweep.md").write_text(text)
    print(text)
    return 1 if problems else 0


def _report(seen: Outcome, problems: list[str], seed: int, seconds: float, folder: str) -> str:
    rows = {
        "jobs": seen.jobs,
        "sweep killed (SIGKILL) after": f"{seen.killed_after_s:.0f} s",
        "finished by that time": seen.finished_before,
        "last process ended after": f"{seen.orphans_gone_s:.1f} s",
        "finished in the end": seen.finished,
        "failed and listed": len(seen.failed),
        "finished runs changed": len(seen.repeated),
        "processes left": len(seen.left),
        "wandb runs (offline), in groups": f"{seen.wandb_runs} in {seen.wandb_groups}",
        "total time": f"{seconds / 60:.0f} min",
    }
    return "\n".join([
        "# A sweep with failures", "",
        f"`python benchmarks/sweep.py --seed {seed}`: twelve runs of 16 images over `strategy=ddp_cpu`, two of which fail on",
        "purpose (an odd batch for two processes). The sweep is killed at a random moment and restarted.", "",
        "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items()), "",
        "Failed jobs:", "", *(f"- {line.split(' (all of it')[0].replace(folder, '…')}" for line in seen.failed), "",
        f"**{'All checks passed.' if not problems else 'Failed checks: ' + '; '.join(problems)}**", "",
    ])  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
