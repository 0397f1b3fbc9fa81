"""Makes a run folder of invented results, with drawn faces and random scores: `python fake_run.py FOLDER`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from facedistill.metrics.verification import verification_summary

CONFIG = """\
name: demo
seed: 2021
images: 1000000
backbone:
  _target_: facedistill.models.backbones.TinyFaR
  variant: c
  embedding_dim: 512
teacher:
  asset: w600k_mbf
  network:
    _target_: facedistill.models.teachers.ArcFaceMobileFaceNet
generator:
  asset: mobilestylegan
method:
  _target_: facedistill.methods.synthdistill.SynthDistill
  objective: mse
data:
  batch_size: 128
  source:
    _target_: facedistill.data.sources.rendered.RenderedFaces
    resampling: dynamic
    spread: covariance
    rho: 1.0
"""

RECORD: dict[str, Any] = {
    "id": "demo-1a2b3c4d",
    "name": "demo",
    "command": "facedistill train backbone=tinyfar_c images=1_000_000",
    "seed": 2021,
    "git": "0123456789",
    "versions": {"python": "3.11.7", "facedistill": "0.1.0", "torch": "2.15.0"},
    "machine": {"system": "Linux", "cpu": "x86_64", "cores": 2, "threads": 2, "gpu": None},
    "status": "finished",
    "images_seen": 1_000_064,
    "wall_s": 9_312.4,
    "images_per_s": 107.39,
    "peak_memory_mib": 2_310.5,
    "time_share": {"generator": 0.581, "teacher": 0.172, "student": 0.247},
    "licences": [
        {
            "asset": "w600k_mbf",
            "licence": "insightface models: non-commercial research only",
            "note": "The package that carries the file is not by the makers of the weights.",
            "origin": "insightface buffalo_s, MobileFaceNet trained with ArcFace on WebFace600K",
        },
        {
            "asset": "mobilestylegan",
            "licence": "package Apache-2.0; trained on FFHQ (CC BY-NC-SA) from StyleGAN2 (research licence)",
            "note": "",
            "origin": "MobileStyleGAN, FFHQ 1024",
        },
    ],
    "export": {"onnx_min_cosine": 0.9999994},
}


def make_run(folder: Path, protocols: tuple[str, ...] = ("lfw", "generated"), num_faces: int = 16) -> Path:
    """Writes every file of a finished run into `folder`."""
    random = np.random.default_rng(0)
    (folder / "scores").mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "run.json").write_text(json.dumps(RECORD))
    (folder / "metrics.csv").write_text(_metrics(random))
    results: dict[str, Any] = {
        "images_seen": RECORD["images_seen"],
        "student": {"params": 1_832_000, "macs": 38_200_000, "protocols": {}},
        "teacher": {"params": 3_400_000, "macs": 440_000_000, "protocols": {}},
        "absent": {"cfp_fp": "put cfp112.tar with its pairs_FP.tsv into data_dir"},
    }
    for protocol in protocols:
        for network, skill in (("student", 0.43), ("teacher", 0.66)):
            arrays = _scores(random, skill, 3000 if protocol == "lfw" else 1000)
            np.savez(folder / "scores" / f"{protocol}.{network}.npz", **arrays)
            summary = verification_summary(**arrays)
            results[network]["protocols"][protocol] = summary
    for network, skill in (("student", 0.9), ("teacher", 0.99)):
        results[network]["robustness"] = _robustness(skill)
    (folder / "results.json").write_text(json.dumps(results))
    np.savez(folder / "faces.npz", **_faces(random, num_faces))
    for name in ("student.safetensors", "student.onnx"):
        (folder / name).write_bytes(b"invented")
    return folder


def _scores(random: np.random.Generator, skill: float, each: int) -> dict[str, np.ndarray]:
    genuine = np.clip(random.normal(skill, 0.13, each) - random.exponential(0.03, each), -1, 1)
    impostor = np.clip(random.normal(0.03, 0.075, each), -1, 1)
    return {
        "score": np.concatenate([genuine, impostor]).astype(np.float32),
        "same": np.repeat([True, False], each),
        "fold": np.tile(np.arange(each) * 10 // each, 2),
    }


def _robustness(skill: float) -> dict[str, Any]:
    conditions: dict[str, Any] = {"plain": {"accuracy": skill, "accuracy_ci": [skill - 0.01, skill + 0.01]}}
    for number, name in enumerate(("dark", "gray", "blurred", "low_resolution", "jpeg", "covered", "framed")):
        loss = number * (1 - skill) / 3
        conditions[name] = {
            "accuracy": skill - loss, "accuracy_ci": [skill - loss - 0.02, skill - loss + 0.02], "loss": loss,
            "loss_ci": [loss - 0.01, loss + 0.01],
        }  # fmt: skip
    return {"protocol": "lfw", "pairs": 1000, "genuine": 500, "impostor": 500, "conditions": conditions}


def _metrics(random: np.random.Generator) -> str:
    header = "step,images_seen,train/loss,train/mse,train/cosine,val/cosine,val/mse,lr"
    lines = [header]
    for step in range(10, 7813, 10):
        seen, part = step * 128, step / 7813
        agreement = 0.82 * (1 - np.exp(-4 * part)) + random.normal(0, 0.012)
        loss = 0.86 - 0.7 * agreement + random.normal(0, 0.01)
        rate = 1e-3 if part < 0.5 else 5e-4 if part < 0.8 else 2.5e-4
        lines.append(f"{step},{seen},{loss:.5f},{loss:.5f},{agreement:.5f},,,{rate}")
        if step % 780 == 0:
            lines.append(f"{step},{seen},,,,{agreement - 0.02:.5f},{loss + 0.02:.5f},")
    return "\n".join(lines) + "\n"


def _faces(random: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    base_cosine = np.clip(random.normal(0.62, 0.17, count), -0.1, 0.98)
    draws = [random.uniform(0, 1, 8) for _ in range(count)]
    moved = [
        np.clip(draw + random.normal(0, 0.28, 8) * (agree + 1) / 2, 0, 1)
        for draw, agree in zip(draws, base_cosine, strict=True)
    ]
    return {
        "base": np.stack([_drawn_face(draw) for draw in draws]),
        "variation": np.stack([_drawn_face(draw) for draw in moved]),
        "base_cosine": base_cosine,
        "variation_cosine": np.clip(base_cosine + random.normal(0, 0.06, count), -1, 0.99),
        "teacher_cosine": np.clip(1 - 0.5 * (base_cosine + 1) + random.normal(0, 0.05, count), 0, 1),
    }


def _drawn_face(draw: np.ndarray) -> np.ndarray:
    """A drawn face (3, 112, 112) uint8 from eight numbers in [0, 1]."""
    ground, skin, hair, eyes, mouth, width, brow, nose = draw
    size = 448
    image = Image.new(
        "RGB", (size, size), (int(90 + 130 * ground), int(150 + 60 * hair), int(190 + 50 * skin))
    )
    pen = ImageDraw.Draw(image)
    tone = (int(120 + 130 * skin), int(80 + 120 * skin), int(60 + 105 * skin))
    half = int(125 + 45 * width)
    strands = (int(30 + 150 * hair), int(20 + 90 * hair), int(15 + 40 * hair))
    pen.ellipse((224 - half - 22, 6, 224 + half + 22, 380), fill=strands)
    pen.ellipse((224 - half, 50, 224 + half, 440), fill=tone)
    for x in (153, 294):
        pen.ellipse((x - 34, 206 - 18, x + 34, 206 + 18), fill=(250, 250, 250))
        pen.ellipse((x - 15, 206 - 15, x + 15, 206 + 15), fill=(int(40 + 60 * eyes), int(60 + 90 * eyes), 90))
        lift = int(30 + 18 * brow)
        pen.line((x - 36, 206 - lift, x + 36, 206 - lift - 6), fill=strands, width=11)
    shade = tuple(int(0.8 * channel) for channel in tone)
    pen.polygon(((224, 215), (224 - int(14 + 20 * nose), 296), (224 + int(14 + 20 * nose), 296)), fill=shade)
    pen.chord((160, 320, 288, 340 + int(60 * mouth)), 0, 180, fill=(170, 60, 70))
    return np.asarray(image.resize((112, 112), Image.Resampling.LANCZOS)).transpose(2, 0, 1)


if __name__ == "__main__":
    print(make_run(Path(sys.argv[1])))
