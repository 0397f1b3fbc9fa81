"""Times the dashboard over many finished runs: the first page, the page again, and after one run has changed.

`python benchmarks/dashboard.py [--runs 300] [--folder FOLDER]` writes invented run folders of the size of a pocket run
(faces, four protocols of 2,000 to 7,000 pairs, 860 logged rows; in one of ten runs, IJB-C too, with 500,000 pairs) and benchmarks/results/dashboard.md. Every
page is written by a fresh process.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results" / "dashboard.md"
PROTOCOLS = {"lfw": 6_000, "cfp_fp": 7_000, "cfp_ff": 7_000, "generated": 2_000, "ijbc": 500_000}
_WRITE = """
import re, sys, time
from pathlib import Path
from facedistill.reporting.dashboard.page import write_dashboard
write_dashboard(Path(sys.argv[1]), Path(sys.argv[1]) / "dashboard.html")
print(time.process_time(), int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024)
"""


def main() -> None:
    """Writes the folders and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--folder", type=Path, help="keep the invented runs here")
    parsed = parser.parse_args()
    folder = parsed.folder or Path(tempfile.mkdtemp(prefix="dashboard-"))
    try:
        if not list(folder.glob("bench-*")):
            write_runs(folder, parsed.runs)
        measured = {"first page": _measure(folder), "again, nothing changed": _measure(folder)}
        _touch(next(folder.glob("bench-*")) / "run.json")
        measured["again, one run changed"] = _measure(folder)
        page = (folder / "dashboard.html").stat().st_size
    finally:
        if parsed.folder is None:
            shutil.rmtree(folder)
    lines = [
        "# The dashboard over many runs", "",
        f"{parsed.runs} finished runs with faces and four protocols, every tenth with 500,000 scores of IJB-C; seconds of",
        "one core, from the start of the process.",
        f"The page has {page / 2**20:.1f} MiB.", "",
        "| | s | peak memory, MiB |", "|---|--:|--:|",
        *(f"| {what} | {seconds:.1f} | {mib:.0f} |" for what, (seconds, mib) in measured.items()),
    ]  # fmt: skip
    RESULTS.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def write_runs(folder: Path, count: int) -> None:
    """Writes invented runs that share their scores and faces, as files of their own."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.reporting.fake_run import make_run

    one = make_run(folder / "model", protocols=("lfw", "generated"))
    results = json.loads((one / "results.json").read_text())
    random = np.random.default_rng(0)
    for protocol, pairs in PROTOCOLS.items():
        same = np.arange(pairs) < (pairs // 2 if pairs < 10_000 else pairs // 25)
        for network in ("student", "teacher"):
            score = random.normal(np.where(same, 0.45, 0.03), np.where(same, 0.15, 0.08)).astype(np.float32)
            arrays = {"score": score, "same": same, "fold": np.arange(pairs) % 10}
            np.savez_compressed(one / "scores" / f"{protocol}.{network}.npz", **arrays)
            results[network]["protocols"][protocol] = {**results[network]["protocols"]["lfw"]}
    (one / "results.json").write_text(json.dumps(results))
    record = json.loads((one / "run.json").read_text())
    methods = ("SynthDistill", "KD", "EKD", "RKD", "GKD")
    config = (one / "config.yaml").read_text() + "\n".join(
        f"extra{k}: {{a: {k}, b: [1, 2]}}" for k in range(60)
    )
    for k in range(count):
        copy = folder / f"bench-{k:08x}"
        shutil.copytree(one, copy)
        if k % 10:
            (copy / "scores" / "ijbc.student.npz").unlink()
        (copy / "run.json").write_text(json.dumps({**record, "id": f"{k:08x}", "seed": k % 3}))
        (copy / "config.yaml").write_text(config.replace("SynthDistill", methods[k % len(methods)]))
    shutil.rmtree(one)


def _measure(folder: Path) -> tuple[float, float]:
    """CPU seconds and peak memory in MiB of a fresh process, from its start to the written page."""
    done = subprocess.run(
        [sys.executable, "-c", _WRITE, str(folder)], check=True, capture_output=True, text=True
    )
    seconds, mib = map(float, done.stdout.split())
    return seconds, mib


def _touch(path: Path) -> None:
    time.sleep(0.01)
    path.write_bytes(path.read_bytes() + b"\n")


if __name__ == "__main__":
    main()
