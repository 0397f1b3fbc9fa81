"""Cost of evaluation compared with commonly used scripts.

    python benchmarks/evaluation.py

Writes `results/evaluation.md`. Faces are noise, embeddings and scores are random; no real person. The references
are loops that reimplement the released evaluators. One thread; each time is the best of `--repeats`
runs, scikit-learn's curve and the loop over thresholds are run once.
"""

from __future__ import annotations

import argparse
import pickle
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch
from torch import Tensor, nn

from facedistill.evaluation.benchmark import run_protocols
from facedistill.evaluation.protocols.bin_file import load_bin
from facedistill.evaluation.protocols.templates import pool_templates
from facedistill.metrics.operating import tars_at_fars
from facedistill.metrics.verification import tenfold_accuracy

RESULTS = Path(__file__).parent / "results" / "evaluation.md"
PAIRS = (6000, 7000, 6000, 6000, 6000)  # LFW, CFP-FP, AgeDB-30, CALFW, CPLFW
FARS = [10.0**-k for k in range(1, 7)]


class Pooled(nn.Module):
    """A network that costs nothing."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(images, 4).flatten(1)


def best_of(run: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Seconds of the fastest run, and what it returned."""
    seconds, answer = [], None
    for _ in range(repeats):
        start = time.perf_counter()
        answer = run()
        seconds.append(time.perf_counter() - start)
    return min(seconds), answer


def write_sets(folder: Path) -> None:
    """Five `.bin` files of distinct JPEGs, about as large as those of real faces."""
    rng = np.random.default_rng(0)
    for number, pairs in enumerate(PAIRS):
        images = []
        for _ in range(2 * pairs):
            coarse = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            images.append(simplejpeg.encode_jpeg(coarse.repeat(7, 0).repeat(7, 1), quality=80))
        flags = (np.arange(pairs) // (pairs // 20) % 2 == 0).tolist()
        (folder / f"set{number}.bin").write_bytes(pickle.dumps((images, flags), protocol=4))


def peak_mib(code: str) -> float:
    """Peak resident memory of a fresh process that runs `code`."""
    # not ru_maxrss, which a process inherits from the one that started it
    told = (
        "\nprint([int(x.split()[1]) for x in open('/proc/self/status') if x.startswith('VmHWM')][0] / 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code + told], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def evaluate_sets(folder: str) -> None:
    """Ours: all five sets opened at once, then embedded and scored."""
    torch.set_num_threads(1)
    protocols = [load_bin(path) for path in sorted(Path(folder).glob("*.bin"))]
    run_protocols(Pooled(), protocols, role="student", resamples=100, quiet=True)


def hold_floats(pairs: int) -> None:
    """A common loader: every image of one set and its mirror image as float32."""
    both = [torch.empty(2 * pairs, 3, 112, 112).fill_(1) for _ in range(2)]
    assert both[0].dtype == torch.float32


def memory() -> list[str]:
    """Rows of the memory table."""
    start = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import evaluation as e; "
    with tempfile.TemporaryDirectory() as folder:
        write_sets(Path(folder))
        size = sum(path.stat().st_size for path in Path(folder).iterdir()) / 2**20
        begun = time.perf_counter()
        ours = peak_mib(start + f"e.evaluate_sets({folder!r})")
        seconds = time.perf_counter() - begun
    empty, one = peak_mib(start), peak_mib(start + f"e.hold_floats({PAIRS[0]})")
    five = empty + (one - empty) * sum(PAIRS) / PAIRS[0]
    return [
        "| | peak resident MiB |",
        "|---|--:|",
        f"| Python with everything imported | {empty:,.0f} |",
        f"| ours, five sets opened, embedded, scored (`.bin` files of {size:,.0f} MiB in all; {seconds:.0f} s) | **{ours:,.0f}** |",
        f"| float32 faces and mirror images of one set of 6,000 pairs, as common loaders hold them | {one:,.0f} |",
        f"| the same for all five, by arithmetic | {five:,.0f} |",
    ]


def threshold_loop(score: np.ndarray, same: np.ndarray, fold: np.ndarray) -> float:
    """400 thresholds on squared distances, tried in each of ten folds, on the nine others and on the fold."""
    distance = 2 - 2 * score
    accuracies = []
    for held_out in range(10):
        train, test = np.where(fold != held_out)[0], np.where(fold == held_out)[0]
        accuracy, rates = np.zeros(400), np.zeros((400, 3))
        for number, threshold in enumerate(np.arange(0, 4, 0.01)):
            accuracy[number] = rates_at(threshold, distance[train], same[train])[2]
            rates[number] = rates_at(threshold, distance[test], same[test])
        accuracies.append(rates[np.argmax(accuracy), 2])
    return float(np.mean(accuracies))


def rates_at(threshold: float, distance: np.ndarray, same: np.ndarray) -> tuple[float, float, float]:
    accepted = distance < threshold
    tp, fp = np.sum(accepted & same), np.sum(accepted & ~same)
    tn, fn = np.sum(~accepted & ~same), np.sum(~accepted & same)
    return tp / max(tp + fn, 1), fp / max(fp + tn, 1), (tp + tn) / len(distance)


def folds(repeats: int) -> list[str]:
    """Rows of the ten folds."""
    rng = np.random.default_rng(0)
    fold, same = np.arange(6000) // 600, np.arange(6000) // 300 % 2 == 0
    score = np.clip(rng.normal(0.05, 0.08, 6000) + 0.35 * same * rng.beta(6, 2, 6000) / 0.75, -1, 1)
    slow, approximate = best_of(lambda: threshold_loop(score, same, fold), 1)
    tensors = torch.from_numpy(score), torch.from_numpy(same), torch.from_numpy(fold)
    fast, exact = best_of(lambda: tenfold_accuracy(*tensors)[0].item(), 20 * repeats)
    return [
        "| 6,000 pairs, 10 folds | seconds | accuracy |",
        "|---|--:|--:|",
        f"| loop over 400 thresholds, steps of 0.01 | {slow:.3f} | {approximate:.5f} |",
        f"| ours, every threshold | {fast:.5f} (**{slow / fast:,.0f}x**) | {exact:.5f} |",
    ]


def rates(repeats: int) -> list[str]:
    """Rows of TAR at FAR on as many scores as IJB-C has."""
    from sklearn.metrics import roc_curve  # here, so that it weighs nothing where memory is measured

    rng = np.random.default_rng(0)
    genuine = rng.normal(0.55, 0.17, 19_557).clip(-1, 1).astype(np.float32)
    impostor = rng.normal(0.02, 0.07, 15_638_932).clip(-1, 1).astype(np.float32)
    label = np.r_[np.ones(len(genuine), dtype=bool), np.zeros(len(impostor), dtype=bool)]
    score = np.r_[genuine, impostor]
    slow, (far, tar, _) = best_of(lambda: roc_curve(label, score, drop_intermediate=False), 1)
    fast, leq = best_of(lambda: tars_at_fars(genuine, impostor, FARS), repeats)
    nearest = tars_at_fars(genuine, impostor, FARS, "nearest")
    from_behind = far[::-1], tar[::-1]
    theirs = [float(from_behind[1][np.argmin(np.abs(from_behind[0] - wanted))]) for wanted in FARS]
    theirs_leq = [float(tar[far <= wanted * (1 + 1e-9)].max()) for wanted in FARS]
    apart = max(abs(a - b) for a, (b, _) in zip(theirs + theirs_leq, nearest + leq, strict=True))
    shown = ", ".join(f"{100 * value:.2f}" for value, _ in leq)
    return [
        f"| TAR at FAR 1e-1 … 1e-6, {len(score):,} scores | seconds |",
        "|---|--:|",
        f"| scikit-learn `roc_curve`, every point kept | {slow:.2f} |",
        f"| ours, one sort | {fast:.3f} (**{slow / fast:.0f}x**) |",
        "",
        f"TAR in percent, `leq`: {shown}. Largest difference of any TAR, both conventions: {apart:.1e}.",
    ]


def pooling(repeats: int, sample: int) -> list[str]:
    """Rows of the pooling of IJB-C's templates."""
    rng = np.random.default_rng(0)
    faces = rng.normal(size=(469_375, 64)).astype(np.float32)
    template = np.r_[np.arange(23_124), rng.integers(0, 23_124, 469_375 - 23_124)]
    media = rng.integers(0, 117_542, 469_375) // 20

    def loop() -> np.ndarray:
        pooled = []
        for wanted in range(sample):
            (mine,) = np.where(template == wanted)
            means = []
            for medium in np.unique(media[mine]):
                (shots,) = np.where(media[mine] == medium)
                means.append(faces[mine][shots].mean(axis=0))
            pooled.append(np.sum(means, axis=0))
        return np.array(pooled) / np.linalg.norm(pooled, axis=1, keepdims=True)

    slow, wanted = best_of(loop, 1)
    slow *= 23_124 / sample
    tensors = torch.from_numpy(faces), torch.from_numpy(template), torch.from_numpy(media)
    fast, (_, unit) = best_of(lambda: pool_templates(*tensors), repeats)
    return [
        "| 469,375 faces into 23,124 templates, D = 64 | seconds |",
        "|---|--:|",
        f"| loop over templates with `np.where` ({sample} of them, extrapolated) | {slow:.1f} |",
        f"| ours | {fast:.2f} (**{slow / fast:.0f}x**) |",
        "",
        f"Largest difference of any value: {np.abs(unit[:sample].numpy() - wanted).max():.1e}.",
    ]


def main() -> None:
    """Measures everything and writes the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sample", type=int, default=300, help="templates of the slow loop")
    options = parser.parse_args()
    torch.set_num_threads(1)
    versions = f"torch {torch.__version__.split('+')[0]}, numpy {np.__version__}, {platform.machine()}"
    lines = [
        "# Cost of evaluation",
        "",
        f"`python benchmarks/evaluation.py --repeats {options.repeats} --sample {options.sample}`; both implementations in one "
        f"run, one thread, {versions}.",
    ]
    for part in (
        memory(),
        folds(options.repeats),
        rates(options.repeats),
        pooling(options.repeats, options.sample),
    ):
        lines += ["", *part]
        print(*part, sep="\n", flush=True)
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
