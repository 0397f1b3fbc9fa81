"""Comparisons of whole training steps: SynthDistill, options, labeled faces."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.bench import QUIET, Bench, seconds_of


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
    from facedistill.runs.frozen_networks import load_teacher
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
    """Images per second of a real run's training once it has compiled, and the seconds before and after the training."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "facedistill", "train", *overrides, "name=gpu", f"runs_dir={folder}",
            f"images={images}", f"callbacks.validate_every_images={images}",
        ]  # fmt: skip
        began, seen = time.monotonic(), dict[int, float]()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as run:
            while run.poll() is None:
                time.sleep(0.1)
                for path in Path(folder).glob("*/progress.json"):  # written every two seconds
                    with suppress(FileNotFoundError):  # the run has just ended
                        seen.setdefault(json.loads(path.read_text())["images_seen"], path.stat().st_mtime)
        if run.returncode:
            raise subprocess.CalledProcessError(run.returncode, command)
        (record,) = (json.loads(path.read_text()) for path in Path(folder).glob("*/run.json"))
        return steady_rate(seen, images) or record["images_per_s"], time.monotonic() - began - record[
            "wall_s"
        ]


def steady_rate(seen: dict[int, float], images: int) -> float | None:
    """Images per second from the first to the last of the times at which so many images were seen.

    The first quarter, in which networks are compiled, and the end, where the run validates, are left out; None if too little
    is left.
    """
    steady = {count: at for count, at in seen.items() if images / 4 <= count < images}
    if len(steady) < 2:
        return None
    first, last = min(steady), max(steady)
    return (last - first) / (steady[last] - steady[first])


def options(bench: Bench) -> None:
    """What each option gains, added to the best before it."""
    from facedistill.config import compose
    from facedistill.runs.profiling.options import candidates, is_given, rate_of, search
    from facedistill.runs.profiling.text import describe_trial
    from facedistill.runs.train import check_start

    overrides = bench.synthdistill()
    config = compose("train", overrides)
    every = candidates(bench.device.type == "cuda", renders=True)
    tried = [option for option in every if not is_given(option, config)]  # each one compiles again
    search(
        lambda choice: rate_of(overrides, choice, check_start, seconds=bench.seconds),
        tried[-1:] if bench.miniature else tried,
        seconds=1e9,
        tell=lambda trial: bench.record(
            describe_trial(trial).split("  ")[1], images_per_s=trial.images_per_s
        ),
    )


def labeled(bench: Bench) -> None:
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
