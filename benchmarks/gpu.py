"""Every comparison of training speed on this device, the most important first, within a time limit.

    python -m benchmarks.gpu --minutes 12 --into results
    python -m benchmarks.gpu --miniature --into mini       (any CPU: small networks and sizes, only to test the script)

Each comparison runs in a process of its own. A measurement is written to `gpu.jsonl` as soon as it is made, and `gpu.md` is
rendered again, so that nothing is lost when the script is killed. `--render` draws `gpu.md` and the pictures from `gpu.jsonl`.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import ekd_loss, gkd_loss
from facedistill.runs.library_warnings import silence_expected_warnings
from facedistill.system.files import write_atomically

RESULTS = Path(__file__).parent / "results"
QUIET = [
    "logger=csv", "evaluation=none", "evaluation.validation_pairs.identities=20", "data.validation.faces=16",
]  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """What a comparison runs with.

    Attributes:
        into: Folder of the results.
        seconds: Of one measurement.
        miniature: Whether networks and sizes are small.
        name: Of the comparison.
    """

    into: Path
    seconds: float
    miniature: bool
    name: str = ""

    @property
    def device(self) -> torch.device:
        """The GPU, or the CPU where there is none."""
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def record(self, case: str, **figures: Any) -> None:
        """Writes a measurement, and the table again."""
        row = {"comparison": self.name, "case": case, "device": _device_name(), **figures}
        with (self.into / "gpu.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)
        render(self.into)

    def synthdistill(self, *extra: str) -> list[str]:
        """Overrides of SynthDistill as fast as it is known to run on this device."""
        device = "gpu" if self.device.type == "cuda" else "cpu"
        if self.miniature:
            small = ["backbone=tinyfar_c", "data.batch_size=4", "generator.network.exit=64"]
            return [*QUIET, *small, "generator.network.compile=false", f"strategy={device}", *extra]
        return [
            *QUIET, "backbone=mobilenetv2", "optimizer=adamw", "data.batch_size=512", "generator.network.micro_batch=256",
            "teacher.precision=bf16", "teacher.compile=auto", f"strategy={device}", *extra,
        ]  # fmt: skip


def synthdistill(bench: Bench) -> None:
    """`facedistill train` against the released loop's way and against its parts, one after the other."""
    from facedistill.config import compose
    from facedistill.runs.profiling.step import profile_step

    students = ["tinyfar_c"] if bench.miniature else ["mobilenetv2", "tinyfar_a"]
    released = {}
    for student in students:
        released[student] = released_rate(bench, student)
        bench.record(f"released loop's way, {student}", images_per_s=released[student])
    for student in students:
        overrides = bench.synthdistill(f"backbone={student}")
        profile = profile_step(compose("train", overrides), seconds=bench.seconds)
        total = sum(part.seconds for part in profile.parts)
        for part in profile.parts:
            bench.record(f"{student}: {part.name}", ms=1e3 * part.seconds, share=part.seconds / total)
        sequential = profile.batch_size / total
        bench.record(f"{student}: parts one after the other", images_per_s=sequential)
        bench.record(f"{student}: whole step", images_per_s=profile.images_per_s, first_s=profile.first_s)
        images = max(4 * profile.batch_size, int(8 * bench.seconds * profile.images_per_s))
        trained, first_s = train_rate(overrides, images)
        bench.record(
            f"{student}: facedistill train", images_per_s=trained, first_s=first_s, of_released=trained / released[student],
            of_parts=trained / sequential,
        )  # fmt: skip


def released_rate(bench: Bench, student_name: str) -> float:
    """Images per second of the released SynthDistill loop's way, written by us from its description.

    Full synthesis in float32, a second synthesis for the resampled batch of each draw, and a host read in each step.
    """
    from facedistill.assets import obtain
    from facedistill.config import compose
    from facedistill.models.generators import FaceGenerator
    from facedistill.runs.assembly import load_teacher
    from facedistill.runs.sources import build_backbone

    config = compose("train", [*QUIET, f"backbone={student_name}"])
    exit_name: Any = 64 if bench.miniature else "full"
    micro_batch = 32 if bench.device.type == "cuda" else 4
    generator = FaceGenerator(obtain("mobilestylegan"), exit=exit_name, crop="paper", micro_batch=micro_batch)
    generator, teacher = generator.to(bench.device), load_teacher(config).to(bench.device)
    student = build_backbone(config.backbone).to(bench.device).train()
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)
    batch_size = 4 if bench.miniature else 128

    def step(w: Tensor) -> Tensor:
        images = generator.render(w)
        wanted, embeddings = teacher(images), student(images)
        loss = F.mse_loss(embeddings, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
        return F.cosine_similarity(embeddings, wanted).detach()

    def draw() -> None:
        w = generator.map(torch.randn(batch_size, generator.latent_dim).to(bench.device))
        agreement = step(w)
        step(w + (agreement[:, None] + 1) / 2 * torch.randn_like(w))

    return 2 * batch_size / seconds_of(draw, bench)


def train_rate(overrides: list[str], images: int) -> tuple[float, float]:
    """Images per second of a real run's training, and the seconds before and after it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "facedistill.cli.main", "train", *overrides, "name=gpu", f"runs_dir={folder}",
            f"images={images}", f"callbacks.validate_every_images={images}",
        ]  # fmt: skip
        began = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (record,) = (json.loads(path.read_text()) for path in Path(folder).glob("*/run.json"))
        return record["images_per_s"], time.monotonic() - began - record["wall_s"]


def options(bench: Bench) -> None:
    """What each option gains, added to the best before it."""
    from facedistill.runs.profiling.options import candidates, rate_of, search
    from facedistill.runs.profiling.text import describe_trial
    from facedistill.runs.train import check_start

    overrides = bench.synthdistill()
    tried = candidates(bench.device.type == "cuda", renders=True)
    search(
        lambda choice: rate_of(overrides, choice, check_start, seconds=bench.seconds),
        tried[-1:] if bench.miniature else tried,
        seconds=1e9,
        tell=lambda trial: bench.record(
            describe_trial(trial).split("  ")[1], images_per_s=trial.images_per_s
        ),
    )


def labelled(bench: Bench) -> None:
    """RecordIO to the optimizer step, against decoding alone and the student alone; teacher cached or not."""
    from facedistill.config import compose
    from facedistill.runs.profiling.step import TrainingStep

    device = "gpu" if bench.device.type == "cuda" else "cpu"
    students = ["tinyfar_c"] if bench.miniature else ["iresnet50", "mobilefacenet"]
    size = ["data.batch_size=8"] if bench.miniature else ["data.batch_size=512", "data.num_workers=16"]
    with tempfile.TemporaryDirectory() as folder:
        write_faces(Path(folder), 32 if bench.miniature else 20_000)
        for student in students:
            for cached in (False, True):
                config = compose("train", [
                    *QUIET[:2], "data=recordio", f"data.path={folder}", f"backbone={student}", "method=embedding_mse",
                    f"strategy={device}", f"data.teacher_cache={str(cached).lower()}", *size,
                ])  # fmt: skip
                training = TrainingStep(config)
                whole, _ = training.rate(bench.seconds)
                name = f"{student}, teacher {'cached' if cached else 'runs'}"
                bench.record(f"{name}: file to optimizer step", images_per_s=whole)
                if not cached:
                    decoded, alone = loader_rate(training, bench), student_rate(training, bench)
                    bench.record(f"{student}: decoding alone", images_per_s=decoded)
                    bench.record(f"{student}: student alone", images_per_s=alone)
                training.close()


def loader_rate(training: Any, bench: Bench) -> float:
    """Images per second that the loader gives when nothing else runs."""
    batches = iter(training.data.train_dataloader())
    return training.batch_size / seconds_of(lambda: next(batches), bench)


def student_rate(training: Any, bench: Bench) -> float:
    """Images per second of forward, loss, backward and optimizer on one batch with given teacher embeddings."""
    from lightning.fabric.utilities import move_data_to_device

    raw = move_data_to_device(next(iter(training.data.train_dataloader())), training.device)
    batch = training.data.on_after_batch_transfer(raw, 0)
    batch = replace(batch, teacher_embeddings=training.method.teacher(batch.images))
    return training.batch_size / seconds_of(lambda: training.learn(batch), bench)


def write_faces(folder: Path, count: int) -> None:
    """A RecordIO set of drawn faces, 20 of each identity, in JPEG files of the usual size."""
    from PIL import Image

    from facedistill.data.formats.recordio.writer import write_recordio
    from facedistill.images import to_uint8
    from facedistill.models.teachers.golden import draw_faces

    files = []
    noise = torch.Generator().manual_seed(0)
    for face in draw_faces(16):
        grainy = to_uint8(face + 0.1 * torch.randn(face.shape, generator=noise)).permute(1, 2, 0).numpy()
        file = io.BytesIO()
        Image.fromarray(grainy).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    write_recordio(folder / "train", ((files[n % 16], n // 20) for n in range(count)))


def ekd(bench: Bench) -> None:
    """EKD's loss and gradient next to the straightforward one, growing with the batch."""
    sizes = [32, 64] if bench.miniature else [512, 1024, 2048, 4096, 8192]
    for size in sizes:
        data = tuple(part.to(bench.device) for part in ekd_loss.batch(size, 512, 0))
        for case, loss in (("straightforward", ekd_loss.Plain()), ("facedistill", ekd_loss.Ours())):
            loss.to(bench.device)
            measured(bench, case, size, lambda loss=loss, data=data: ekd_loss.step(loss, data))


def gkd(bench: Bench) -> None:
    """GKD's loss and gradient next to the straightforward one, growing with the identities."""
    for size in [50, 100] if bench.miniature else [10_000, 31_600, 100_000, 316_000, 1_000_000]:
        images = 8 if bench.miniature else 512
        student, teacher, labels = (part.to(bench.device) for part in gkd_loss.logits(images, size))
        student.requires_grad_()
        for case, loss in (("straightforward", gkd_loss.straightforward), ("facedistill", gkd_loss.ours)):

            def work(loss: Any = loss, given: Any = (student, teacher, labels), size: int = size) -> None:
                torch.autograd.grad(loss(*given, size // 8), given[0])

            measured(bench, case, size, work)


def margin_softmax(bench: Bench) -> None:
    """ArcFace's loss and gradients next to the straightforward one, growing with the identities."""
    from facedistill.models.heads.arcface import ArcFaceHead

    for size in [50, 100] if bench.miniature else [10_000, 31_600, 100_000, 316_000, 1_000_000]:
        images, width = (8, 16) if bench.miniature else (512, 512)
        head = ArcFaceHead(num_identities=size, embedding_dim=width, beyond_pi="wrap").to(bench.device)
        embeddings = torch.randn(images, width, device=bench.device, requires_grad=True)
        labels = torch.randint(size, (images,), device=bench.device)
        ours = lambda head=head, e=embeddings, y=labels: head(e, y).mean()  # noqa: E731
        plain = lambda head=head, e=embeddings, y=labels: plain_arcface(head.weight, e, y)  # noqa: E731
        for case, loss in (("straightforward", plain), ("facedistill", ours)):
            wanted = (embeddings, head.weight)
            measured(bench, case, size, lambda loss=loss, wanted=wanted: torch.autograd.grad(loss(), wanted))


def plain_arcface(weight: Tensor, embeddings: Tensor, labels: Tensor) -> Tensor:
    """() ArcFace by its formula: angles of all centers, a one-hot margin, cross entropy."""
    cosines = F.normalize(embeddings) @ F.normalize(weight).T
    margin = 0.5 * F.one_hot(labels, len(weight))
    return F.cross_entropy(64 * (cosines.clamp(-1 + 1e-7, 1 - 1e-7).acos() + margin).cos(), labels)


COMPARISONS: dict[str, Callable[[Bench], None]] = {
    "synthdistill": synthdistill,
    "options": options,
    "labelled": labelled,
    "margin_softmax": margin_softmax,
    "gkd": gkd,
    "ekd": ekd,
}
"""In order of importance."""


def measured(bench: Bench, case: str, size: int, work: Callable[[], object]) -> None:
    """Records time and peak memory of `work` at a size; no memory left is a result as well."""
    try:
        ms = 1e3 * seconds_of(work, bench)
        with peak_memory(bench.device) as peak:
            work()
        bench.record(case, size=size, ms=ms, mib=peak[0] if peak else ekd_loss.peak_mib(work))
    except torch.OutOfMemoryError:
        bench.record(case, size=size, problem="out of memory")


@contextmanager
def peak_memory(device: torch.device) -> Iterator[list[float]]:
    """A list that gets the most MiB that a GPU held inside, beyond what it held before; empty on a CPU."""
    found: list[float] = []
    if device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    yield found
    if device.type == "cuda":
        torch.cuda.synchronize()
        found.append((torch.cuda.max_memory_allocated() - before) / 2**20)


def seconds_of(work: Callable[[], object], bench: Bench) -> float:
    """Mean seconds of one call, over `bench.seconds` and three calls at least, after two that are not counted."""
    work()
    work()
    _wait()
    began, calls = time.perf_counter(), 0
    while calls < 3 or time.perf_counter() - began < bench.seconds:
        work()
        calls += 1
        if calls % 8 == 0:
            _wait()  # so that the queue, and with it the overrun, stays short
    _wait()
    return (time.perf_counter() - began) / calls


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def render(into: Path) -> None:
    """Writes `gpu.md` from `gpu.jsonl`: a table for each comparison."""
    lines = [
        "# Training speed",
        "",
        f"torch {torch.__version__.split('+')[0]}; benchmarks/gpu.py says what is compared.",
        "",
    ]
    rows = read_rows(into)
    for name in dict.fromkeys(row["comparison"] for row in rows):
        own = [row for row in rows if row["comparison"] == name]
        columns = list(
            dict.fromkeys(key for row in own for key in row if key not in ("comparison", "device"))
        )
        devices = ", ".join(dict.fromkeys(row["device"] for row in own))
        lines += [
            f"## {name}, {devices}",
            "",
            f"| {' | '.join(columns)} |",
            "|---" + "|--:" * (len(columns) - 1) + "|",
        ]
        lines += [f"| {' | '.join(_cell(row.get(column)) for column in columns)} |" for row in own]
        lines += ["", *([f"![{name}](gpu-{name}.png)", ""] if (into / f"gpu-{name}.png").exists() else [])]
    write_atomically(into / "gpu.md", "\n".join(lines))


def draw_growth(into: Path) -> None:
    """Time and memory over the size as pictures, where matplotlib is installed."""
    try:
        from matplotlib import pyplot
    except ImportError:
        return
    rows = [row for row in read_rows(into) if "mib" in row]
    for name in dict.fromkeys(row["comparison"] for row in rows):
        figure, axes = pyplot.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
        for axis, key, label in zip(
            axes, ("ms", "mib"), ("ms, forward and backward", "peak MiB"), strict=True
        ):
            for case in ("straightforward", "facedistill"):
                own = [row for row in rows if (row["comparison"], row["case"]) == (name, case)]
                axis.loglog([row["size"] for row in own], [row[key] for row in own], "o-", label=case)
            axis.set(xlabel="images" if name == "ekd" else "identities", ylabel=label)
        axes[0].legend()
        figure.savefig(into / f"gpu-{name}.png", dpi=120)
        pyplot.close(figure)


def read_rows(into: Path) -> list[dict[str, Any]]:
    """The measurements so far; a last line that a kill cut off is left out."""
    path = into / "gpu.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 100 else f"{value:,.0f}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def run_all(args: argparse.Namespace, end: float) -> None:
    """Runs each comparison in a process of its own until the time is over."""
    own = [sys.executable, "-m", "benchmarks.gpu", "--into", str(args.into), "--seconds", str(args.seconds)]
    for name in args.comparisons or COMPARISONS:
        bench = Bench(args.into, args.seconds, args.miniature, name)
        left = end - time.monotonic()
        if left < 5:
            bench.record("not begun: the time is over")
            continue
        try:
            done = subprocess.run([*own, "--only", name, *(["--miniature"] * args.miniature)], timeout=left)
        except subprocess.TimeoutExpired:
            bench.record("stopped: the time is over")
        else:
            if done.returncode:
                bench.record(f"stopped: exit code {done.returncode}")


def main() -> None:
    """Runs the comparisons, or one of them, or renders."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=12.0, help="time limit of everything")
    parser.add_argument("--seconds", type=float, default=5.0, help="of one measurement")
    parser.add_argument("--into", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument(
        "--miniature", action="store_true", help="small networks and sizes, to test the script"
    )
    parser.add_argument(
        "--comparisons", nargs="*", choices=list(COMPARISONS), help="these only, in this order"
    )
    parser.add_argument("--render", action="store_true", help="draw the table and the pictures only")
    parser.add_argument("--only", choices=list(COMPARISONS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.into.mkdir(parents=True, exist_ok=True)
    if args.only:
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # no messages of torch's profiler
        torch.set_float32_matmul_precision("high")
        silence_expected_warnings()
        COMPARISONS[args.only](Bench(args.into, args.seconds, args.miniature, args.only))
        return
    if not args.render:
        run_all(args, time.monotonic() + 60 * args.minutes)
    draw_growth(args.into)
    render(args.into)


if __name__ == "__main__":
    main()
