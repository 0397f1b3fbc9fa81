"""Differences between one process and two, for every method, on the same global batch.

    python -m benchmarks.invariance

Two steps of every method of conf/method on 32 faces, those of the contract tests: the second step uses the state that the
first updated. Once with a student without batch norm, once with synchronized batch norm. Writes
`results/invariance.md`; takes about a minute.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facedistill.data.sources.rendered import RenderedFaces
from facedistill.evaluation.benchmark import run_protocols
from facedistill.models.batch_norm import synchronize
from tests.contracts.test_every_method import METHODS, two_steps
from tests.distributed.processes import in_processes
from tests.distributed.test_shared_embedding import Counting, _protocol
from tests.distributed.test_whole_fits import Normed
from tests.helpers.tiny_networks import TinyGenerator

RESULTS = Path(__file__).parent / "results"
Steps = tuple[list[float], dict[str, Tensor], dict[str, Tensor]]


def normed() -> nn.Module:
    """A student with synchronized batch norm."""
    student = Normed()
    synchronize(student)
    return student


def measured(rank: int, world_size: int) -> dict[str, Any]:
    """Everything that is compared, as this process sees it."""
    return {
        "plain": {name: two_steps(name, rank, world_size) for name in METHODS},
        "normed": {name: two_steps(name, rank, world_size, normed()) for name in METHODS},
        "faces": rendered(rank, world_size),
        "figures": figures(world_size),
    }


def rendered(rank: int, world_size: int) -> list[dict[str, Tensor]]:
    """Latents and images of this process's share of a fresh and a resampled step of SynthDistill's stream."""
    source = RenderedFaces(TinyGenerator(), seed=3, spread="covariance")
    found = []
    for step in range(2):
        batch = source.finish(source.raw(step, batch_size=16, rank=rank, world_size=world_size))
        agreement = batch.images.mean((1, 2, 3)).tanh()
        source.observe(step, agreement)
        found.append({"latents": batch.latents, "images": batch.images})
    return found


def figures(world_size: int) -> dict[str, Any]:
    """A verification protocol embedded by all processes together."""
    options: dict[str, Any] = {"role": "teacher", "resamples": 50, "quiet": True, "shared": world_size > 1}
    found = run_protocols(Counting(), [_protocol(13)], **options)["x"]
    return {key: value for key, value in found.items() if isinstance(value, float)}


def gap(one: Tensor, other: Tensor, scale: float | None = None) -> float:
    """Largest difference, relative to the largest entry of `one` or to `scale`."""
    largest = float(one.double().abs().max()) if scale is None else scale
    return float((one.double() - other.double()).abs().max()) / max(largest, 1e-12)


def of_steps(one: Steps, other: Steps) -> tuple[float, float, float | None]:
    """Largest relative difference of loss, of the gradient (to its largest entry), and of a buffer (to its own)."""
    loss = max(abs(a - b) / max(abs(a), 1e-12) for a, b in zip(one[0], other[0], strict=True))
    scale = max(float(g.abs().max()) for g in one[1].values())
    gradient = max(gap(g, other[1][name], scale) for name, g in one[1].items())
    buffers = [gap(value, other[2][name]) for name, value in one[2].items()]
    return loss, gradient, max(buffers) if buffers else None


def main() -> None:
    """Compares and writes."""
    torch.set_num_threads(1)
    alone, together = measured(0, 1), in_processes(measured, 2)
    lines = [
        "| method | loss | gradient | buffers | loss, BN | gradient, BN | buffers, BN |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    worst = 0.0
    for name in METHODS:
        cells = []
        for kind in ("plain", "normed"):
            each = [of_steps(alone[kind][name], process[kind][name]) for process in together]
            for column in zip(*each, strict=True):
                largest = None if column[0] is None else max(column)
                worst = max(worst, largest or 0.0)
                cells.append("-" if largest is None else f"{largest:.1e}")
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    faces = max(
        gap(whole[key][rank::2], process["faces"][step][key])
        for rank, process in enumerate(together)
        for step, whole in enumerate(alone["faces"])
        for key in whole
    )
    figure = max(
        abs(value - process["figures"][key])
        for process in together
        for key, value in alone["figures"].items()
    )
    text = (
        "# One process and two\n\n"
        "`python -m benchmarks.invariance`: the same global batch of 32 faces in one process and in two (gloo), float32,"
        f" torch {torch.__version__.split('+')[0]}. Largest relative difference over two steps and both processes, of the"
        " loss, of the averaged gradient (relative to its largest entry), and of the buffers (state updated by hand; relative"
        " to the largest entry of each; - where a method has none). First a student without batch norm, then one whose"
        " batch norm is synchronized, with its running statistics among the buffers. float32 resolves 1.2e-07.\n\n"
        + "\n".join(lines)
        + f"\n\nLargest difference: {worst:.1e}. Latents and images of a fresh and of a resampled step of SynthDistill's"
        f" stream: {faces:.1e}. Figures of a verification protocol that both processes embed together: {figure:.1e}.\n"
    )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "invariance.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
