"""Time and memory of evaluating many pairs: a list of pairs is read, embeddings are scored, figures measured.

    python benchmarks/evaluation_memory.py [--pairs 2000000] [--images 100000] [--dim 512]

Writes `results/evaluation_memory.md`. Images are never decoded and embeddings are random, so that only the cost of the
pairs is measured. One thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facedistill.evaluation.protocols.pairs import pairs_protocol, parse_tsv_pairs

RESULTS = Path(__file__).parent / "results" / "evaluation_memory.md"


class Unread:
    """Names of images that nobody reads."""

    where = "nowhere"

    def __init__(self, number: int) -> None:
        self._number = number

    def names(self) -> list[str]:
        return [
            f"person{index // 10:06}/person{index // 10:06}_{index % 10:04}" for index in range(self._number)
        ]

    def read(self, name: str) -> bytes:
        raise NotImplementedError


def memory(kind: str) -> float:
    """`VmHWM`, the peak, or `VmRSS`, the present resident memory of this process in MiB."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith(kind)) / 1024


def draw_pairs(pairs: int, images: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Left, right and same; half of the pairs are genuine."""
    rng = np.random.default_rng(0)
    left, same = rng.integers(0, images, pairs), np.arange(pairs) % 2 == 0
    other = rng.integers(0, images, pairs)
    return left, np.where(same, left // 10 * 10 + other % 10, other), same


def write_list(archive: Unread, pairs: int, images: int) -> str:
    """The pairs as a table."""
    names = archive.names()
    rows = zip(*(values.tolist() for values in draw_pairs(pairs, images)), range(pairs), strict=True)
    return "".join(f"{names[a]}\t{names[b]}\t{same:d}\t{row * 10 // pairs}\n" for a, b, same, row in rows)


def main() -> None:
    """Measures each step and writes the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=2_000_000)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    options = parser.parse_args()
    torch.set_num_threads(1)
    archive = Unread(options.images)
    text = write_list(archive, options.pairs, options.images)
    generator = torch.Generator().manual_seed(0)
    people = torch.randn(-(-options.images // 10), options.dim, generator=generator).repeat_interleave(10, 0)
    embeddings = people[: options.images].add_(
        torch.randn(options.images, options.dim, generator=generator), alpha=1.5
    )
    held = memory("VmRSS")
    rows = []

    def step(name: str, run: Callable[[], Any]) -> Any:
        begun = time.process_time()
        answer = run()
        rows.append(f"| {name} | {time.process_time() - begun:.1f} | {memory('VmHWM') - held:,.0f} |")
        print(rows[-1], flush=True)
        return answer

    listed = step("read the list", lambda: parse_tsv_pairs(text, "pairs.tsv"))
    protocol = step("open the protocol", lambda: pairs_protocol("many", archive, listed))  # type: ignore[arg-type]
    score = step("score the pairs", lambda: protocol.score(embeddings))
    step("measure all figures", lambda: protocol.figures(score, resamples=500))
    lines = [
        "# Memory of evaluating many pairs",
        "",
        f"`python benchmarks/evaluation_memory.py --pairs {options.pairs} --images {options.images} --dim {options.dim}`; "
        f"one thread. The embeddings ({embeddings.nbytes / 2**20:,.0f} MiB) and the text of the list "
        f"({len(text) / 2**20:,.0f} MiB) are held before; a row gives the peak so far above that.",
        "",
        "| step | seconds of CPU | peak MiB above the inputs |",
        "|---|--:|--:|",
        *rows,
    ]
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
