"""How often the 95 % intervals of `verification_summary` hold the figure of the population.

    python benchmarks/interval_coverage.py [--replicates 1000] [--seconds 300]

Writes `results/interval_coverage.md`. Scores are drawn from known distributions, so the figures of the population are
known: TAR at the threshold whose true FAR is the given one, the best accuracy of one threshold, AUC and EER. All scores
are independent; no real person.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats
from scipy.optimize import brentq

from facedistill.metrics.confidence import jeffreys
from facedistill.metrics.verification import verification_summary

RESULTS = Path(__file__).parent / "results" / "interval_coverage.md"
FARS = {f"1e-{k}": 10.0**-k for k in range(1, 6)}
WANTED = (0.93, 0.97)


class Case(NamedTuple):
    """Distributions and numbers of genuine and impostor scores."""

    name: str
    genuine: Any
    impostor: Any
    sizes: tuple[int, int]
    folds: bool = True


WEAK, MIDDLE, STRONG = stats.norm(0.2, 0.15), stats.norm(0.35, 0.15), stats.norm(0.5, 0.13)
CASES = (
    Case("weak student, LFW's size", WEAK, stats.norm(0, 0.12), (3000, 3000)),
    Case("student, LFW's size", MIDDLE, stats.norm(0, 0.08), (3000, 3000)),
    Case("strong student, LFW's size", STRONG, stats.norm(0, 0.08), (3000, 3000)),
    Case("skewed scores, CFP's size", stats.beta(8, 3), stats.beta(2, 9), (3500, 3500)),
    Case("heavy impostor tail, LFW's size", MIDDLE, stats.logistic(0, 0.04), (3000, 3000)),
    Case("generated pairs", MIDDLE, stats.norm(0, 0.08), (300, 300)),
    Case("ten impostors per genuine pair", MIDDLE, stats.norm(0, 0.08), (500, 10_000)),
    Case(
        "a tenth of IJB-C's impostors",
        stats.norm(0.5, 0.13),
        stats.norm(0.02, 0.07),
        (19_557, 1_563_893),
        False,
    ),
)


def population(case: Case) -> dict[str, float]:
    """The figures that intervals should hold."""
    genuine, impostor, (p, q) = case.genuine, case.impostor, case.sizes
    grid = np.linspace(-1, 1, 20_001)
    accuracy = (p * genuine.sf(grid) + q * impostor.cdf(grid)) / (p + q)
    crossing = brentq(lambda threshold: impostor.sf(threshold) - genuine.cdf(threshold), -1, 1)
    shares = (np.arange(200_000) + 0.5) / 200_000
    figures = {f"TAR at FAR {label}": float(genuine.sf(impostor.isf(far))) for label, far in FARS.items()}
    best = {"accuracy": float(accuracy.max())} if case.folds else {}
    return (
        best | {"AUC": float(genuine.sf(impostor.ppf(shares)).mean()), "EER": impostor.sf(crossing)} | figures
    )


def intervals(case: Case, rng: np.random.Generator) -> Iterator[tuple[str, float, float]]:
    """Of one draw: figure, and the ends of its interval; for TAR also those at the threshold as found."""
    p, q = case.sizes
    scores = [
        d.rvs(n, random_state=rng) for d, n in zip((case.genuine, case.impostor), case.sizes, strict=True)
    ]
    score, same = np.concatenate(scores).astype(np.float32), np.arange(p + q) < p
    fold = np.concatenate([np.arange(p) % 10, np.arange(q) % 10]) if case.folds else None
    summary = verification_summary(score, same, fold, fars=FARS)
    for name in ("accuracy", "AUC", "EER"):
        if (key := f"{name.lower()}_ci") in summary:
            yield name, *summary[key]
    for label, entry in summary["tar"].items():
        if isinstance(entry, dict):
            yield f"TAR at FAR {label}", *entry["ci"]
            yield f"TAR at FAR {label}, as found", *jeffreys(round(entry["tar"] * p), p)


def rows_of(case: Case, replicates: int, seconds: float) -> Iterator[str]:
    """Rows of the table."""
    wanted, held = population(case), defaultdict(list)
    rng, begun = np.random.default_rng(0), time.monotonic()
    for _ in range(replicates):
        for name, low, high in intervals(case, rng):
            truth = wanted[name.removesuffix(", as found")]
            held[name].append((low <= truth <= high, truth < low, high - low))
        if time.monotonic() - begun > seconds:
            break
    for name, truth in wanted.items():
        if name not in held:
            continue
        covered, below, width = np.mean(held[name], axis=0)
        found = held.get(f"{name}, as found")
        before = f"{100 * np.mean(found, axis=0)[0]:.0f}" if found else ""
        label = name.rpartition("FAR ")[2]
        accepts = f"{FARS[label] * case.sizes[1]:.3g}" if name.startswith("TAR") else ""
        shown = f"{100 * covered:.1f}"
        shown = shown if WANTED[0] <= covered <= WANTED[1] else f"**{shown}**"
        yield (
            f"| {case.name} | {name} | {accepts} | {100 * truth:.3f} | {100 * width:.2f} | {shown} | "
            f"{100 * below:.1f} | {before} | {len(held[name])} |"
        )


def main() -> None:
    """Draws all cases and writes the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--replicates", type=int, default=1000, help="draws of each case")
    parser.add_argument("--seconds", type=float, default=300, help="time for all cases together")
    options = parser.parse_args()
    lines = [
        "# Coverage of the 95 % intervals",
        "",
        f"`python benchmarks/interval_coverage.py --replicates {options.replicates} --seconds {options.seconds:g}`. "
        "Independent scores from known distributions; all in percent. Bold: outside 93 to 97 %. *As found*: the "
        "interval of a TAR at the threshold as found, which earlier records have. With 600 draws the error of a "
        "coverage is 0.9 points, with 200 it is 1.5.",
        "",
        "| case | figure | expected false accepts | true value | width | coverage | truth below | as found | draws |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for case in CASES:
        for row in rows_of(case, options.replicates, options.seconds / len(CASES)):
            lines.append(row)
            print(row, flush=True)
    lines += ["", *NOTES]
    RESULTS.write_text("\n".join(lines) + "\n")


NOTES = (
    "Coverage above 97 % is where a rate is close to 0 or 1 or pairs are few: a count of one or two errors allows no "
    "interval of exactly 95 %. With about one expected false accept, the lower end of TAR rests on an exponential tail "
    "of the impostor scores beyond the highest one. Real pairs share people and are not independent; their true "
    "intervals are wider.",
)


if __name__ == "__main__":
    main()
