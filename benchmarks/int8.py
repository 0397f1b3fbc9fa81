"""What 16 and 8 bits cost a student: size, latency and accuracy of its files.

    python benchmarks/int8.py runs/cpu_hour-… runs/qat-… --data ../shared/data

Writes `results/int8.md` from a finished float run and a run of `experiment=qat` that started from it. Everything runs in ONNX
Runtime on one thread. Latency is processor time of that thread, and the files take turns, so other programs on the machine
change it little.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facedistill.config import compose
from facedistill.evaluation.embedder import embed
from facedistill.evaluation.protocols.base import PairsProtocol
from facedistill.export.onnx import INPUT
from facedistill.models.onnx_session import cpu_session
from facedistill.runs.export_file import export_file
from facedistill.runs.protocols import open_configured_protocols

RESULTS = Path(__file__).parent / "results" / "int8.md"
PROTOCOLS = ("lfw", "cfp_fp", "cfp_ff")
PASSES = {1: 400, 64: 12}


class File(nn.Module):
    """An ONNX file on one thread."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.session = cpu_session(path, 1)
        self.megabytes = path.stat().st_size / 1e6

    def forward(self, images: Tensor) -> Tensor:
        return torch.from_numpy(self.session.run(None, {INPUT: images.contiguous().numpy()})[0])


def half(source: Path, target: Path) -> Path:
    """Writes a float file with 16-bit weights and activations; input and output stay float32."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), target)
    return target


def latencies(files: dict[str, File]) -> dict[str, dict[int, tuple[float, float]]]:
    """Median and 95th percentile, in milliseconds, by file and batch size."""
    found: dict[str, dict[int, tuple[float, float]]] = {name: {} for name in files}
    for batch, passes in PASSES.items():
        images = torch.rand(batch, 3, 112, 112, generator=torch.Generator().manual_seed(0)) * 2 - 1
        times: dict[str, list[float]] = {name: [] for name in files}
        for turn in range(passes + 2):
            for name, file in files.items():
                begin = time.thread_time()
                file(images)
                if turn > 1:
                    times[name].append(1000 * (time.thread_time() - begin))
        for name in files:
            found[name][batch] = (float(np.median(times[name])), float(np.quantile(times[name], 0.95)))
    return found


def accuracies(
    files: dict[str, File], protocols: list[PairsProtocol]
) -> dict[str, list[tuple[float, float]]]:
    """Accuracy in percent and mean cosine to the first file's embeddings, by file, per protocol."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in files}
    for protocol in protocols:
        expected = None
        for name, file in files.items():
            embeddings = embed(file, protocol, quiet=True)
            expected = embeddings if expected is None else expected
            accuracy = protocol.figures(protocol.score(embeddings), resamples=1).figures["accuracy"]
            cosine = float(F.cosine_similarity(embeddings.double(), expected.double()).mean())
            found[name].append((100 * accuracy, cosine))
            print(protocol.name, name, f"{100 * accuracy:.2f} % {cosine:.5f}", flush=True)
    return found


def table(files: dict[str, File], ms: dict[str, Any], accuracy: dict[str, Any]) -> list[str]:
    """Markdown."""
    first = next(iter(files))
    lines = [
        "| file | MB | ms, batch 1: median (p95) | ms, batch 64: median | LFW | CFP-FP | CFP-FF | mean cosine to float32 |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, file in files.items():
        cells = [f"{file.megabytes:.2f}", "{:.2f} ({:.2f})".format(*ms[name][1]), f"{ms[name][64][0]:.1f}"]
        for (value, _), (reference, _) in zip(accuracy[name], accuracy[first], strict=True):
            cells.append(f"{value:.2f}" + ("" if name == first else f" ({value - reference:+.2f})"))
        cells.append(" / ".join(f"{cosine:.4f}" for _, cosine in accuracy[name]))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Measures every file and writes the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="finished float run")
    parser.add_argument("qat", type=Path, nargs="?", help="run of experiment=qat that started from it")
    parser.add_argument("--data", default="data", help="folder of the benchmarks")
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = compose(
        "train", [f"evaluation.protocols=[{','.join(PROTOCOLS)}]", f"evaluation.data_dir={options.data}"]
    )
    protocols = [one for one in open_configured_protocols(config)[0] if isinstance(one, PairsProtocol)]
    with tempfile.TemporaryDirectory() as folder:
        int8 = Path(folder, "student.int8.onnx")
        export_file(options.run, "onnx-int8", out=int8, overrides=["evaluation.protocols=[]"])
        files = {
            "float32": File(options.run / "student.onnx"),
            "float16": File(half(options.run / "student.onnx", Path(folder, "student.fp16.onnx"))),
            "int8, after training (`export --format onnx-int8`)": File(int8),
        }
        if options.qat:
            files["int8, trained (`experiment=qat`)"] = File(options.qat / "student.onnx")
        rows = table(files, latencies(files), accuracies(files, protocols))
    runs = " and ".join(f"`{path.name}`" for path in (options.run, options.qat) if path)
    head = [
        "# A student in 16 and 8 bits",
        "",
        f"`python benchmarks/int8.py`, {runs}; ONNX Runtime {onnxruntime.__version__}, one thread, {platform.machine()}, "
        "processor time. Accuracy in %, with the difference to float32; mean cosines on LFW / CFP-FP / CFP-FF.",
        "",
    ]
    RESULTS.write_text("\n".join([*head, *rows]) + "\n")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
