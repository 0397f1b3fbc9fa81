"""Interrupts and damages small training runs, and compares each with an undisturbed run.

    python benchmarks/faults.py --kills 200 --minutes 25

Each run is started again with the same configuration until it ends; then its weights, optimizer, schedule,
counters, position, random states and curve must equal those of an undisturbed run bit for bit.
A run that cannot continue is lost, one that ends differently has diverged, a process that is still running a
minute after it should have ended hangs. Any of these is a finding: exit code 1. Writes `results/faults.md`.

Processes are forks of this one, which has imported everything; see `faults_trainer.py` for what is small.
"""

from __future__ import annotations

import argparse
import os
import pickle
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


from benchmarks import faults_trainer
from benchmarks.faults_case import Case, has_ended, last_line
from benchmarks.faults_disk import fill, small_disk
from benchmarks.faults_fork import adopt_orphans, children, ended, is_running, signal_if_there
from benchmarks.faults_report import PATIENCE_S, Tally, differences, final_state, kills, report
from facedistill.reporting.record import RunRecord

_KILLS = (signal.SIGKILL,) * 8 + (signal.SIGTERM, signal.SIGINT)
_AFTER = {
    signal.SIGKILL: {-9, 0}, signal.SIGTERM: {143, -15, 0}, signal.SIGINT: {130, 0},
}  # fmt: skip


class Campaign:
    """Runs the faults and counts.

    Args:
        seed: Of every random choice.
        root: A folder for all runs.
        faces: The folder of faces.
    """

    def __init__(self, seed: str, root: Path, faces: Path) -> None:
        self.draw = random.Random(seed)
        self.root = root
        self.faces = faces
        self.tally = Tally()
        self._twins: dict[tuple[str, int], tuple[Path, float]] = {}
        self._count = 0

    def case(self, recipe: str, processes: int, workers: int = 0) -> Case:
        """A fresh run of this kind; its twin is made the first time."""
        if (recipe, processes) not in self._twins:
            twin = Case(recipe, processes, self._folder("twin"), self.faces)
            began = time.monotonic()
            codes = self._wait(twin, twin.start())
            if any(codes):
                raise SystemExit(
                    f"the undisturbed run of {recipe} ended with {codes}:\n{twin.output()[-2000:]}"
                )
            self._twins[recipe, processes] = twin.run, time.monotonic() - began
        return Case(recipe, processes, self._folder("run"), self.faces, workers)

    def cut(self, case: Case) -> None:
        """Starts, waits a random time, sends a signal; sometimes truncates the newest checkpoint."""
        self.tally.resumes += case.folder.joinpath("log.txt").exists()
        number = self.draw.choice(_KILLS)
        one = case.processes > 1 and self.draw.random() < 0.5
        processes = case.start()
        time.sleep(self.draw.uniform(0, 0.45) * self._twins[case.recipe, case.processes][1])
        alive = [pid for pid in processes if is_running(pid)]
        chosen = [self.draw.choice(processes)] if one else processes
        for pid in chosen:
            if pid in alive:
                signal_if_there(pid, number)
        codes = self._wait(case, processes)
        if alive:
            name = number.name + (", one of two" if one else ", both" if case.processes > 1 else "")
            self.tally.done[name] += 1
        died = number == signal.SIGKILL and one
        allowed = {-9, 1, 2, 0} if died else _AFTER[number]
        if one and number != signal.SIGKILL:
            allowed = allowed | {1, 2}  # too early for the other to know
        # The first may stop the second, which may find that its parent has ended.
        if codes[0] not in allowed or not set(codes[1:]) <= allowed | {-9, 1}:
            self.tally.finding("unexpected end", case, f"{number.name} gave {codes}; {last_line(case)}")
        if "Traceback" in case.output():
            self.tally.finding("traceback", case, last_line(case))
            print(case.output()[-6000:], flush=True)
            case.log.rename(case.log.with_name("traceback.txt"))
            case.log.touch()
        if self.draw.random() < 0.2:
            self._tear(case)

    def finish(self, case: Case) -> None:
        """Starts the run until it ends, and compares it with its twin."""
        self.tally.resumes += case.log.exists()
        codes = self._wait(case, case.start())
        if any(codes):
            self.tally.finding("lost", case, f"ended with {codes}: {last_line(case)}")
            return
        twin, _ = self._twins[case.recipe, case.processes]
        differ = differences(final_state(twin), final_state(case.run))
        if (twin / "metrics.csv").read_text() != (case.run / "metrics.csv").read_text():
            differ.append("metrics.csv")
        left = [file.name for file in case.run.iterdir() if file.suffix in (".writing", ".pool")]
        if differ:
            self.tally.finding("diverged", case, ", ".join(differ[:5]))
        if left:
            self.tally.finding("left behind", case, ", ".join(left))
        self.tally.compared += 1
        if not differ and not left:
            shutil.rmtree(case.folder)

    def full_disk(self, case: Case, small: Path) -> None:
        """Trains on a small file system that fills up at a random moment, frees space, and resumes."""
        case.logs, case.folder = case.folder, small / case.folder.name  # the log needs space too
        case.folder.mkdir()
        processes = case.start()
        time.sleep(self.draw.uniform(0.1, 0.6) * self._twins[case.recipe, case.processes][1])
        ballast = small / "ballast"
        fill(ballast, self.draw.randrange(0, 20_000))
        codes = self._wait(case, processes)
        ballast.unlink(missing_ok=True)
        self.tally.done["full disk" if any(codes) else "full disk, not met"] += 1
        if codes[0] not in (0, 2):
            self.tally.finding("unexpected end", case, f"full disk gave {codes}; {last_line(case)}")
        self.finish(case)

    def worker_death(self, case: Case) -> None:
        """Kills the process that reads faces."""
        processes = case.start()
        until = time.monotonic() + 20
        workers: list[int] = []
        while not workers and time.monotonic() < until and is_running(processes[0]):
            time.sleep(0.05)
            workers = [pid for pid in children(processes[0]) if pid not in processes]
        time.sleep(self.draw.uniform(0, 0.3) * self._twins[case.recipe, case.processes][1])
        for pid in workers:
            signal_if_there(pid, signal.SIGKILL)
        self._expect(case, processes, "worker death", "a worker that reads faces died", bool(workers))

    def not_a_number(self, case: Case) -> None:
        """Makes the loss of one step NaN."""
        step = self.draw.randrange(1, faults_trainer.STEPS - 1)
        self._expect(
            case, case.start(nan_at=step), "NaN loss", f"the loss is not finite at step {step + 1}", True
        )

    def _expect(self, case: Case, processes: list[int], name: str, sentence: str, met: bool) -> None:
        codes = self._wait(case, processes)
        self.tally.done[name if met and any(codes) else f"{name}, not met"] += 1
        if any(codes) and (codes[0] != 2 or sentence not in case.output() or "Traceback" in case.output()):
            self.tally.finding("unexpected end", case, f"{name} gave {codes}; {last_line(case)}")
        self.finish(case)

    def _tear(self, case: Case) -> None:
        """Truncates the newest checkpoint at a random byte, if there is a previous one."""
        for run in case.folder.glob("smoke-*"):
            newest = run / "last.ckpt"
            if RunRecord.load(run / "run.json").status in ("trained", "finished"):
                continue
            if newest.exists() and (run / "previous.ckpt").exists():
                os.truncate(newest, self.draw.randrange(newest.stat().st_size))
                self.tally.done["torn checkpoint"] += 1

    def _wait(self, case: Case, processes: list[int]) -> list[int]:
        """Exit codes; a process still running a minute after the first has ended hangs."""
        codes: dict[int, int] = {}
        began = first = time.monotonic()
        hung = 0
        while len(codes) < len(processes):
            for pid in processes:
                if pid not in codes and (status := ended(pid)) is not None:
                    codes[pid] = status
                    if len(codes) == 1:
                        first = time.monotonic()
            limit = first + PATIENCE_S if codes else began + 4 * PATIENCE_S
            if time.monotonic() > limit + 10 * hung:
                hung += 1
                self.tally.finding("hang", case, f"{codes}; {last_line(case)}")
                for pid in processes:
                    if pid not in codes:
                        signal_if_there(pid, signal.SIGKILL)
            time.sleep(0.02)
        if len(processes) > 1 and any(codes.values()):
            self.tally.longest_end_s = max(self.tally.longest_end_s, time.monotonic() - first)
        return [codes[pid] for pid in processes]

    def _folder(self, name: str) -> Path:
        self._count += 1
        folder = self.root / f"{name}-{self._count:03d}"
        folder.mkdir()
        return folder


def main() -> int:
    """Runs the campaign; 1 with findings."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="signals to send to runs under way")
    parser.add_argument("--minutes", type=float, default=25, help="stop after this long, whatever is left")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--specials", type=int, default=6, help="full disks, worker deaths and NaN losses, each"
    )
    parser.add_argument("--jobs", type=int, default=2, help="runs under way at a time")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "faults.md")
    arguments = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="facedistill-faults-"))
    faults_trainer.prepare(root)
    began = time.monotonic()
    jobs = [_fork_job(number, root, began, arguments) for number in range(arguments.jobs)]
    for pid in jobs:
        os.waitpid(pid, 0)
    tally = Tally()
    for number in range(arguments.jobs):
        tally.add(pickle.loads((root / f"job-{number}" / "tally").read_bytes()))
    arguments.output.write_text(report(tally, arguments.seed, (time.monotonic() - began) / 60))
    print(arguments.output.read_text())
    if not tally.findings:
        shutil.rmtree(root)
    return 1 if tally.findings else 0


def _fork_job(number: int, root: Path, began: float, arguments: argparse.Namespace) -> int:
    """Does one share of the campaign in a fork, which leaves its tally in `job-<number>/tally`."""
    pid = os.fork()
    if pid:
        return pid
    folder = root / f"job-{number}"
    folder.mkdir()
    campaign = Campaign(f"{arguments.seed}/{number}", folder, root / "faces")
    try:
        adopt_orphans()
        _share(campaign, number, began + 60 * arguments.minutes, arguments)
    except BaseException as error:
        campaign.tally.findings.append(f"the campaign itself: {error!r}")
    (folder / "tally").write_bytes(pickle.dumps(campaign.tally))
    os._exit(0)


def _share(campaign: Campaign, number: int, stop_at: float, arguments: argparse.Namespace) -> None:
    kinds = [(recipe, processes) for recipe in faults_trainer.RECIPES for processes in (1, 2)]
    mine = kinds[number :: arguments.jobs]  # each kind has one job, which makes its undisturbed twin
    wanted = -(-arguments.kills // arguments.jobs)
    specials = len(range(number, arguments.specials, arguments.jobs))
    done = 0
    with small_disk(campaign.root / "small", campaign.tally) as disk:
        while (kills(campaign.tally) < wanted or done < 2 * specials) and time.monotonic() < stop_at:
            kind = mine[done % len(mine)]
            if done < 2 * specials and done % 2:
                _specials(campaign, *kind, disk)
            _kill_one_run(campaign, *kind)
            done += 1
            print(
                f"{number}: {kills(campaign.tally)} kills, {campaign.tally.compared} runs compared",
                flush=True,
            )


def _kill_one_run(campaign: Campaign, recipe: str, processes: int) -> None:
    case = campaign.case(recipe, processes)
    for _ in range(campaign.draw.randint(5, 10)):
        campaign.cut(case)
        if has_ended(case):
            break
    campaign.finish(case)


def _specials(campaign: Campaign, recipe: str, processes: int, disk: Path | None) -> None:
    """One full disk, one worker death and one NaN loss."""
    if disk is not None:
        campaign.full_disk(campaign.case(recipe, processes), disk)
    campaign.worker_death(campaign.case(recipe, processes, workers=1))
    campaign.not_a_number(campaign.case(recipe, processes))


if __name__ == "__main__":
    sys.exit(main())
