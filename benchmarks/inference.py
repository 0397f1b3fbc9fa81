"""Effect of memory layout and freed memory on a student's forward pass on a CPU.

    python benchmarks/inference.py

Writes `results/inference.md`. Each cell is a separate process with one thread, 8 batches of 64 noise faces after 2
warm-up batches; processor time of user and system together.
"""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "inference.md"
BACKBONES = ("mobilenetv2", "mobilefacenet", "tinyfar_c", "edgeface_xs")
WAYS = {
    "as built": (False, False),
    "memory kept": (False, True),
    "channels last": (True, False),
    "both, as in `facedistill evaluate`": (True, True),
}
BATCHES, BATCH = 8, 64


def measure(name: str, last: bool, kept: bool) -> None:
    """Prints images per processor second, and the system's share of the time."""
    import torch

    from facedistill.config.compose import compose
    from facedistill.runs.sources import instantiate
    from facedistill.system.memory import keep_freed_memory

    torch.set_num_threads(1)
    torch.manual_seed(0)
    if kept:
        keep_freed_memory()
    network = instantiate(compose("train", [f"backbone={name}"]).backbone).eval()
    if last:
        network.to(memory_format=torch.channels_last)
    faces = torch.randn(BATCH, 3, 112, 112)
    with torch.inference_mode():
        for _ in range(2):
            network(faces)
        before = resource.getrusage(resource.RUSAGE_SELF)
        for _ in range(BATCHES):
            network(faces)
        after = resource.getrusage(resource.RUSAGE_SELF)
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    print(BATCHES * BATCH / (user + system), system / (user + system))


def main() -> None:
    """Measures every cell and writes the table."""
    lines = []
    for name in BACKBONES:
        cells = []
        for last, kept in WAYS.values():
            command = [sys.executable, __file__, name, str(int(last)), str(int(kept))]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            cells.append((float(output[-2]), float(output[-1])))
        first = cells[0][0]
        shown = [f"{rate:.0f} ({rate / first:.1f} x; {share:.0%})" for rate, share in cells]
        lines.append(f"| {name} | {' | '.join(shown)} |")
        print(lines[-1])
    head = [
        "# Faces embedded per second of processor time",
        "",
        f"`python benchmarks/inference.py`, one thread, batches of {BATCH}, {platform.machine()}. In brackets: the speed",
        "relative to the network as built, and the time share of the operating system, which hands out freed memory page by page.",
        "",
        f"| backbone | {' | '.join(WAYS)} |",
        f"|---|{'--:|' * len(WAYS)}",
    ]
    RESULTS.write_text("\n".join([*head, *lines]) + "\n")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1], sys.argv[2] == "1", sys.argv[3] == "1")
    else:
        main()
