"""Hostile files against every command that reads files of others: how many run code, hang, or take much memory.

    PYTHONPATH=. python benchmarks/attack [--seconds 60] [--gib 4]

Local files only, made here in a temporary folder. Each attack is one command in a forked process with a limit of time and of
additional memory. Each would leave the file `executed` if it ran. Writes `benchmarks/results/attack.md`. Exit code 0 if none
was executed, hung, or ended in anything but a sentence.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from archives import archives
from attempts import Attempts
from configurations import KEYS, configurations
from networks import graphs, pickles, students
from run_folders import run_folders
from tables import tables

from facedistill.errors import UserError
from facedistill.export import save_student
from facedistill.models.backbones import TinyFaR
from facedistill.runs import evaluate, train
from facedistill.sweeps import job as jobs

_BEFORE_FORKING = (evaluate, train, jobs)  # so that no child imports them again
_RESULTS = Path(__file__).resolve().parent.parent / "results" / "attack.md"
_AT_A_KEY = tuple(f" at {key}" for key in KEYS)
_FINE = ("refused", "accepted")


@dataclass(frozen=True)
class Outcome:
    """What one attack did."""

    name: str
    status: str  # refused, accepted, EXECUTED, HUNG or CRASHED
    seconds: float
    mib: float  # resident, with what the script itself holds


def attacks(folder: Path) -> Attempts:
    """Every attack: its name, and what a user would do with the file."""
    (folder / "evil.py").write_text(
        "open('executed', 'w').close()\nclass Thin: pass\ndef convert(members): return {}\n"
    )
    run_folder = folder / "demo-12345678"
    run_folder.mkdir()
    (run_folder / "run.json").write_text(json.dumps({"status": "running", "name": "demo"}))
    torch.manual_seed(0)
    student = run_folder / "student.safetensors"
    save_student(TinyFaR("c"), student, {})
    yield from configurations(folder, run_folder)
    yield from students(student)
    for kind in (graphs, pickles, tables, archives, run_folders):
        yield from kind(folder)


def attack(name: str, act: Callable[[], object], seconds: int, gib: int) -> Outcome:
    """Runs one attack in a forked process."""
    begin = time.monotonic()
    child = os.fork()
    if child == 0:
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + (gib << 30),) * 2)
        code = 3
        with contextlib.suppress(BaseException), contextlib.redirect_stderr(io.StringIO()):
            try:
                act()
                code = 0
            except UserError:
                code = 2
        os._exit(code)
    while (found := os.wait4(child, os.WNOHANG))[0] == 0 and time.monotonic() - begin < seconds:
        time.sleep(0.01)
    is_hung = found[0] == 0
    if is_hung:
        os.kill(child, signal.SIGKILL)
        found = os.wait4(child, 0)
    status = {0: "accepted", 2: "refused"}.get(os.waitstatus_to_exitcode(found[1]), "CRASHED")
    if Path("executed").exists():
        Path("executed").unlink()
        status = "EXECUTED"
    return Outcome(name, "HUNG" if is_hung else status, time.monotonic() - begin, found[2].ru_maxrss / 1024)


def page(outcomes: list[Outcome], summary: str, options: argparse.Namespace) -> str:
    """The results: a row for each attack, those of one gadget at many keys together."""
    groups: dict[str, list[Outcome]] = {}
    for one in outcomes:
        kind = one.name.partition(": ")[0]
        name = f"gadget at a key, {kind}" if one.name.endswith(_AT_A_KEY) else one.name
        groups.setdefault(name.replace("|", "/").replace("$", "$ "), []).append(one)
    rows = [
        f"| {name} | {len(ones)} | {sum(one.status == 'refused' for one in ones)} "
        f"| {max(one.seconds for one in ones):.1f} | {max(one.mib for one in ones):,.0f} |"
        for name, ones in groups.items()
    ]
    lines = [
        "# Hostile files",
        "",
        f"`PYTHONPATH=. python benchmarks/attack`, Python {platform.python_version()}, {os.cpu_count()} cores with a load of {os.getloadavg()[2]:.0f}; seconds of wall "
        f"time. Refused: ended in one sentence of a `UserError`. {options.seconds} s and {options.gib} GiB of address space more "
        "than the script has are the limits of one attack. Memory is the largest resident size of its process, with what "
        "the script itself holds.",
        "",
        summary,
        "",
        "| attack | tries | refused | slowest s | largest MiB |",
        "|---|--:|--:|--:|--:|",
        *rows,
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Runs all attacks and prints what each did, and a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60, help="for one attack")
    parser.add_argument("--gib", type=int, default=4, help="of memory more than the script itself has")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        sys.path.insert(0, name)
        outcomes = []
        for title, act in attacks(Path(name)):
            outcomes.append(one := attack(title, act, options.seconds, options.gib))
            print(f"{one.status:9} {one.seconds:6.1f} s {one.mib:7.0f} MiB  {one.name}", flush=True)
        os.chdir("/")
    counts = Counter(one.status for one in outcomes)
    summary = (
        f"{len(outcomes)} attacks: {', '.join(f'{count} {status}' for status, count in counts.items())}; slowest "
        f"{max(one.seconds for one in outcomes):.1f} s, largest {max(one.mib for one in outcomes):,.0f} MiB."
    )
    print(summary)
    _RESULTS.write_text(page(outcomes, summary, options))
    return int(any(status not in _FINE for status in counts))


if __name__ == "__main__":
    sys.exit(main())
