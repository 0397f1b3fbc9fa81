"""Savings and costs of each generator exit: core-seconds per face, fidelity, agreement of the teacher.

    python benchmarks/generator_exit.py --faces 24

Writes `results/generator_exit.md` and a contact sheet of rendered faces (no real person) next to it.
Core-seconds are CPU seconds of one thread on a warm process, the best of several repetitions.
"""

from __future__ import annotations

import argparse
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from facedistill.assets import obtain
from facedistill.models.generators import FaceGenerator
from facedistill.models.latents import draw_latents
from facedistill.models.teachers import ArcFaceMobileFaceNet, FrozenTeacher
from facedistill.types import InputSpec

RESULTS = Path(__file__).parent / "results"
VARIANTS = (
    ("full", "fp32", False),
    (512, "fp32", False),
    (256, "fp32", False),
    (256, "bf16", False),
    (256, "bf16", True),
    (128, "fp32", False),
    (128, "fp32", True),
    (128, "bf16", False),
    (128, "bf16", True),
    (64, "bf16", True),
)


@dataclass(frozen=True)
class Outcome:
    """One line of the table; `core_s` is CPU seconds per face."""

    name: str
    core_s: float
    faces: Tensor
    embeddings: Tensor


def measure(
    variant: tuple[str | int, str, bool], args: argparse.Namespace, weights: Path, teacher: FrozenTeacher
) -> Outcome:
    """Renders the common latents and times one micro batch."""
    exit, precision, compile = variant
    torch.compiler.reset()  # so that variants do not share a recompilation limit
    generator = FaceGenerator(
        weights,
        exit=exit,  # type: ignore[arg-type]
        precision=precision,  # type: ignore[arg-type]
        compile=compile,
        crop=args.crop,
        micro_batch=1 if exit in ("full", 512) else args.micro_batch,
    )
    w = generator.map(draw_latents(0, "benchmark", torch.arange(args.faces), generator.latent_dim))
    faces = generator.render(w)
    few = w[: generator.micro_batch]
    seconds = []
    for _ in range(args.repetitions):
        start = time.process_time()
        generator.render(few)
        seconds.append((time.process_time() - start) / len(few))
    with torch.no_grad():
        embeddings = teacher(faces)
    name = f"{exit} | {precision} | {'compiled' if compile else 'eager'}"
    return Outcome(name, min(seconds), faces, embeddings)


def table(outcomes: list[Outcome]) -> str:
    """Renders the outcomes against the first."""
    full = outcomes[0]
    lines = [
        "| exit | precision | mode | core-s per face | saves | PSNR dB | cosine mean | min | norm |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for outcome in outcomes:
        error = (outcome.faces - full.faces).square().mean()
        psnr = "-" if outcome is full else f"{10 * float(torch.log10(4 / error)):.1f}"
        cosine = torch.cosine_similarity(outcome.embeddings, full.embeddings)
        lines.append(
            f"| {outcome.name} | {outcome.core_s:.4f} | {full.core_s / outcome.core_s:.0f}x | {psnr} "
            f"| {cosine.mean():.4f} | {cosine.min():.4f} | {outcome.embeddings.norm(dim=1).mean():.1f} |"
        )
    return "\n".join(lines)


def contact_sheet(outcomes: list[Outcome], columns: int = 8) -> Image.Image:
    """Stacks one row of faces per exit, the full image first."""
    rows = {outcome.name.split(" | ")[0]: outcome.faces[:columns] for outcome in outcomes}
    pixels = torch.cat([torch.cat(list(faces), dim=2) for faces in rows.values()], dim=1)
    return Image.fromarray(((pixels + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())


def main() -> None:
    """Measures every variant and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--faces", type=int, default=24, help="unseen latents that are compared")
    parser.add_argument("--crop", default="fitted", choices=("paper", "fitted", "legacy"))
    parser.add_argument("--micro-batch", type=int, default=4)
    parser.add_argument("--repetitions", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(1)
    weights = obtain("mobilestylegan")
    teacher = FrozenTeacher(ArcFaceMobileFaceNet(), obtain("w600k_mbf"), InputSpec())
    outcomes = []
    for variant in VARIANTS:
        outcomes.append(measure(variant, args, weights, teacher))
        print(f"{outcomes[-1].name}: {outcomes[-1].core_s:.4f} core-seconds per face", flush=True)
    text = (
        "# Savings and costs of each generator exit\n\n"
        f"`python benchmarks/generator_exit.py --faces {args.faces} --crop {args.crop} "
        f"--micro-batch {args.micro_batch}`; {args.faces} unseen faces, one thread, "
        f"torch {torch.__version__.split('+')[0]}, {platform.machine()} with "
        f"{torch.backends.cpu.get_cpu_capability()}. PSNR, and the cosine of the pocket teacher's (w600k_mbf)"
        " embeddings, are against the crop of the full 1024 px image; full and 512 are rendered singly."
        " The sheet's rows are the exits from full down.\n\n"
        f"{table(outcomes)}\n\n![full, 512, 256, 128, 64](generator_exit.jpg)\n"
    )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "generator_exit.md").write_text(text)
    contact_sheet(outcomes).save(RESULTS / "generator_exit.jpg", quality=90)
    print(text)


if __name__ == "__main__":
    main()
