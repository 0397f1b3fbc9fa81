"""SynthDistill on one CPU core against the released loop's way, in processor time, which other programs disturb less.

    OMP_NUM_THREADS=1 python benchmarks/cpu.py experiment=demo optimizer=adamw data.source.replay=0

`results/cpu.md` has figures.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from types import SimpleNamespace

from facedistill.system.memory import keep_freed_memory

QUIET = ["logger=csv", "evaluation=none", "strategy=cpu"]


def released(overrides: list[str], batch: int = 8) -> float:
    """Milliseconds of an image in the released loop's way: full synthesis and teacher in float32, nothing compiled."""
    import torch
    import torch.nn.functional as F

    from facedistill.assets import obtain
    from facedistill.config import compose
    from facedistill.models.generators import FaceGenerator
    from facedistill.runs.frozen_networks import load_teacher
    from facedistill.runs.sources import build_backbone

    torch.set_float32_matmul_precision("high")
    config = compose("train", overrides)
    generator = FaceGenerator(obtain("mobilestylegan"), exit="full", crop="paper", micro_batch=4)
    teacher = load_teacher(compose("train", [*QUIET]))
    student = build_backbone(config.backbone).train()
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)
    w = generator.map(torch.randn(batch, generator.latent_dim))
    times = []
    for _ in range(4):
        began = time.process_time()
        images = generator.render(w)
        loss = F.mse_loss(student(images), teacher(images))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
        times.append(1e3 * (time.process_time() - began) / batch)
    return sorted(times[1:])[1]


def parts(overrides: list[str], cycles: int = 4) -> dict[str, float]:
    """Milliseconds of an image, by part of our step."""
    import torch

    from facedistill.config import compose
    from facedistill.runs.library_warnings import silence_expected_warnings
    from facedistill.runs.profiling import clock
    from facedistill.runs.profiling.step import TrainingStep

    silence_expected_warnings()
    torch.set_float32_matmul_precision("high")
    clock.time = SimpleNamespace(perf_counter=time.process_time)  # type: ignore[assignment]
    training = TrainingStep(
        compose("train", ["trainer.compile=auto", *overrides])
    )  # as in a run of 30,000 images
    training.steps(training.cycle)
    training.clock.clear()
    training.steps(cycles * training.cycle)
    training.close()
    images = cycles * training.cycle * training.batch_size
    return {name: 1e3 * seconds / images for name, seconds in training.clock.seconds.items()}


def main() -> None:
    """Prints both and their ratio; ours begins as `facedistill` does, the released way in a process like any other."""
    keep_freed_memory()  # before the imports, so that their memory lies on huge pages too
    overrides = [*QUIET, *sys.argv[1:]]
    with multiprocessing.get_context("spawn").Pool(1) as process:
        theirs = process.apply(released, (overrides,))
    print(f"released loop's way: {theirs:.0f} ms an image")
    ours = parts(overrides)
    for name, ms in sorted(ours.items(), key=lambda one: -one[1]):
        print(f"{name}: {ms:.2f} ms")
    print(f"facedistill: {sum(ours.values()):.1f} ms, {theirs / sum(ours.values()):.1f} times as fast")


if __name__ == "__main__":
    main()
