"""Time and memory of GKD's loss and gradient compared with a straightforward implementation of the released formulas.

    python benchmarks/gkd_loss.py

Each implementation runs in a process of its own on the same logits (seeded; simulated student and teacher with
CosFace margins, methods.md section 3.3), one thread, forward and backward, the fastest of the repetitions.
Memory is the peak of the process's resident set above its size with the logits in memory, gradient
included. Writes `results/gkd_loss.md`.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from facedistill.losses.grouping import Grouping
from facedistill.losses.groups import gkd

RESULTS = Path(__file__).parent / "results"
ALPHA, BETA, TEMPERATURE, SCALE, MARGIN = 1.0, 8.0, 4.0, 64.0, 0.4


def logits(num_images: int, num_identities: int) -> tuple[Tensor, Tensor, Tensor]:
    """Student (N, K) with cosines to the own center about 0.45, teacher (N, K) about 0.7, labels (N,)."""
    seeded = torch.Generator().manual_seed(0)
    labels = torch.randint(0, num_identities, (num_images,), generator=seeded)
    found = []
    for own in (0.45, 0.7):
        cosines = torch.randn(num_images, num_identities, generator=seeded).mul_(0.05)
        cosines.scatter_(1, labels[:, None], own - MARGIN)
        found.append(cosines.mul_(SCALE))
    return found[0], found[1], labels


def straightforward(student: Tensor, teacher: Tensor, labels: Tensor, size: int) -> Tensor:
    """() the released `gkd.py` by its description: full sort, masks of -1000, three divergences, mean."""
    ranked = student.detach().clone()
    ranked.scatter_(1, labels[:, None], 999999.0)
    members = ranked.sort(1, descending=True).indices[:, :size]
    inside = torch.zeros_like(student).scatter_(1, members, 1).bool()
    outside = ~inside
    own, other = (student / TEMPERATURE).softmax(1), (teacher / TEMPERATURE).softmax(1)
    own_mass = torch.stack([(own * inside).sum(1), (own * outside).sum(1)], 1)
    other_mass = torch.stack([(other * inside).sum(1), (other * outside).sum(1)], 1)
    square = TEMPERATURE**2 / len(labels)
    binary = F.kl_div(own_mass.log(), other_mass, reduction="sum") * square
    parts = []
    for hidden in (outside, inside):
        log_own = (student / TEMPERATURE - 1000.0 * hidden).log_softmax(1)
        target = (teacher / TEMPERATURE - 1000.0 * hidden).softmax(1)
        parts.append(F.kl_div(log_own, target, reduction="sum") * square)
    return ALPHA * binary + BETA * parts[0] + 0.0 * parts[1]


def ours(student: Tensor, teacher: Tensor, labels: Tensor, size: int) -> Tensor:
    """() the same with this package."""
    grouping = Grouping("top_n", size=size)
    return gkd(student, teacher, labels, grouping, alpha=ALPHA, beta=BETA, temperature=TEMPERATURE).mean()


def resident_mib() -> float:
    """Resident memory of this process, MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure(function: Callable[..., Tensor], args: argparse.Namespace) -> dict[str, object]:
    """Best seconds, peak extra MiB, loss and gradient."""
    torch.set_num_threads(1)
    student, teacher, labels = logits(args.images, args.identities)
    student.requires_grad_()
    small = [tensor[:2].detach() for tensor in (student, teacher, labels)]
    function(small[0].requires_grad_(), *small[1:], args.size).backward()  # warm
    before, peak, done = resident_mib(), 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, resident_mib())

    watcher = threading.Thread(target=watch)
    watcher.start()
    seconds = []
    for _ in range(args.repetitions):
        student.grad = None
        wall = time.perf_counter()
        loss = function(student, teacher, labels, args.size)
        loss.backward()
        seconds.append(time.perf_counter() - wall)
    done.set()
    watcher.join()
    high = max(peak, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    assert student.grad is not None
    return {
        "seconds": min(seconds),
        "mib": high - before,
        "loss": loss.item(),
        "gradient": student.grad,
    }


def main() -> None:
    """Runs each implementation in its own process and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--identities", type=int, default=85_742)
    parser.add_argument("--size", type=int, default=10_000)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--only", choices=["straightforward", "ours"])
    parser.add_argument("--into", type=Path)
    args = parser.parse_args()
    if args.only:
        torch.save(measure({"straightforward": straightforward, "ours": ours}[args.only], args), args.into)
        return
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for name in ("straightforward", "ours"):
            into = Path(folder) / f"{name}.pt"
            subprocess.run([sys.executable, *sys.argv, "--only", name, "--into", str(into)], check=True)
            found[name] = torch.load(into)
    write(args, found)


def write(args: argparse.Namespace, found: dict[str, dict]) -> None:
    """The table, with the differences of loss and gradient."""
    slow, fast = found["straightforward"], found["ours"]
    difference = (slow["gradient"] - fast["gradient"]).abs().max().item()
    largest = slow["gradient"].abs().max().item()
    rows = [
        f"| {name} | {value['seconds'] * 1000:,.0f} | {value['mib']:,.0f} | {value['loss']:.6f} |"
        for name, value in found.items()
    ]
    text = [
        "# GKD's loss and gradient",
        "",
        f"`python benchmarks/gkd_loss.py`: N = {args.images}, K = {args.identities:,}, float32, the {args.size:,} identities "
        f"that rank first by the student; one thread, best of {args.repetitions}, torch {torch.__version__.split('+')[0]}, "
        f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}. One matrix of logits is "
        f"{args.images * args.identities * 4 / 2**20:.0f} MiB; memory is the peak above student and teacher logits, gradient included.",
        "",
        "| implementation | forward + backward ms | peak extra MiB | loss |",
        "|---|--:|--:|--:|",
        *rows,
        "",
        f"{slow['seconds'] / fast['seconds']:.1f} times as fast, {fast['mib'] / slow['mib']:.2f} of the memory. Loss differs by "
        f"{abs(slow['loss'] - fast['loss']) / slow['loss']:.1e} (relative), the gradient by at most {difference:.1e} "
        f"(largest entry {largest:.1e}).",
        "",
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "gkd_loss.md").write_text("\n".join(text))
    print("\n".join(text))


if __name__ == "__main__":
    main()
