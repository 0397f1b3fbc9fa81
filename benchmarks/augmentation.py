"""Time of each augmentation on one core, per image: what is drawn, and the change of the pixels.

    OMP_NUM_THREADS=1 python benchmarks/augmentation.py

Processor time, medians over steps; the presets take turns, so that other load on the machine affects all alike. Memory is kept
as in training (`facedistill.system.memory`).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hydra.utils import instantiate

from facedistill.config.compose import compose
from facedistill.system.memory import keep_freed_memory

PRESETS = "light", "photo", "photo_strong"


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument(
        "--images", type=int, default=4096, help="changed by each preset, in batches of each size"
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 256])
    args = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    presets = {
        name: instantiate(compose("train", [f"augment={name}"]).data.source.augment) for name in PRESETS
    }
    print("| preset | batch | drawn, ms | changed, ms | ms an image |\n|---|--:|--:|--:|--:|")
    for size in args.batches:
        images, samples = torch.rand(size, 3, 112, 112) * 2 - 1, torch.arange(size)
        spent: dict[str, list[tuple[float, float]]] = {name: [] for name in presets}
        for step in range(args.images // size + 2):
            for name, augment in presets.items():
                start = time.process_time()
                changes = augment.prepare(seed=1, step=step, samples=samples)
                drawn = time.process_time()
                augment.apply(images, changes)
                spent[name].append(((drawn - start) / size * 1e3, (time.process_time() - drawn) / size * 1e3))
        for name, steps in spent.items():
            drawn, changed = (statistics.median(part) for part in zip(*steps[2:], strict=True))
            print(f"| `{name}` | {size} | {drawn:.3f} | {changed:.3f} | {drawn + changed:.2f} |", flush=True)


if __name__ == "__main__":
    main()
