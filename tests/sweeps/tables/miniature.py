"""A committed table made small: the same rows on drawn faces in MS1MV2's layout, a random teacher's file, 16 images."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml
from PIL import Image
from torch.nn.modules.batchnorm import _BatchNorm

from facedistill.assets import cached_path, obtain, read_card
from facedistill.data.formats.recordio.writer import write_recordio
from facedistill.models.backbones import iresnet, tinyfar
from facedistill.models.backbones.any_timm import timm_network
from facedistill.models.teachers import IResNet
from tests.evaluation.protocols.miniature_benchmark import draw, write_bin
from tests.evaluation.protocols.miniature_identification import write_ijbc
from tests.models.generators.stylegan_layout import stylegan2, write_pickle

EXPERIMENTS = Path(__file__).parents[3] / "experiments"
IMAGES = 16
SMALL = (
    "strategy=cpu", "data.batch_size=8", "data.num_workers=0", "data.validation.faces=8", "teacher.network.layers=18",
    "callbacks.validate_every_images=16", "callbacks.checkpoint_every_images=16", "logger=csv",
    "evaluation.generated_pairs.identities=20", "evaluation.validation_pairs.identities=20", "evaluation.resamples=20",
    "generator.network.compile=false", "optimizer.lr=0.001",  # two steps at 0.1 diverge where there is no ramp
)  # fmt: skip
BENCHMARKS = ("lfw", "cfp_fp", "cplfw", "agedb_30", "calfw")


def draw_machine(
    root: Path, monkeypatch, benchmarks: Sequence[str] = BENCHMARKS, *, ijb: bool = False
) -> None:
    """Gives the process a data folder, a cache with the pocket generator in it, and no benchmark of the developers.

    `root`/data/ms1mv2 is a RecordIO of 8 drawn identities x 4, beside the benchmarks.
    """
    data, cache = root / "data", root / "cache"
    cache.mkdir(parents=True)
    generator = read_card("mobilestylegan")
    here = obtain(generator, quiet=True)
    monkeypatch.setenv("FACEDISTILL_CACHE", str(cache))
    os.symlink(here, cached_path(generator))
    monkeypatch.setenv("FACEDISTILL_DATA", str(data))
    monkeypatch.setenv("FACEDISTILL_SHARED", str(root / "nothing"))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.chdir(root)
    write_recordio(data / "ms1mv2" / "train", [(_jpeg(k, shot), k) for k in range(8) for shot in range(4)])
    for name in benchmarks:
        pairs = [(person, person if same else person + 1) for same in (1, 0) for person in range(10)]
        images = [draw(one, shot) for pair in pairs for shot, one in enumerate(pair)]
        write_bin(data / f"{name}.bin", images, [True] * 10 + [False] * 10)
    if ijb:
        write_ijbc(data)


def thin_networks(monkeypatch) -> None:
    """Makes the IResNet-18 of this process thin, in the same layout, and its TinyFaR need no ImageNet weights."""
    monkeypatch.setattr(iresnet, "WIDTHS", (8, 8, 8, 512))
    monkeypatch.setitem(iresnet.BLOCKS, 18, (1, 1, 1, 1))
    monkeypatch.setattr(  # timm's lie on a hub
        tinyfar, "timm_network", lambda name, pretrained, **options: timm_network(name, False, **options)
    )


def _jpeg(identity: int, shot: int) -> bytes:
    file = io.BytesIO()
    Image.open(io.BytesIO(draw(identity, shot))).save(file, "JPEG", quality=95)
    return file.getvalue()


def shrink_table(name: str, root: Path) -> Path:
    """Copies a committed table to `root`/experiments and makes it small; draws the weights that it names."""
    folder = root / "experiments" / name
    folder.mkdir(parents=True)
    content = yaml.safe_load((EXPERIMENTS / name / "rows.yaml").read_text())
    content["images"] = IMAGES
    content["common"] += [*SMALL, f"runs_dir={root / 'runs'}"]
    if name != "synthdistill":  # whose own generator has no exits
        content["common"].append("generator.network.exit=64")
    for row in content["rows"].values():
        if any("balanced" in override for override in row["overrides"]) or name.startswith("ekd"):
            row["overrides"].append("data.source.balanced={identities: 2, images: 2}")
    (folder / "rows.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    if (EXPERIMENTS / name / "published.yaml").exists():
        shutil.copy(EXPERIMENTS / name / "published.yaml", folder)
    for seed, file in enumerate(content["files"]):
        path = root / "data" / file
        path.parent.mkdir(exist_ok=True)
        if file.startswith("generators/"):
            write_pickle(path, stylegan2((8,) * 7))
        if file.startswith("teachers/"):
            torch.save(_random_teacher(seed), path)
    return folder


def _random_teacher(seed: int) -> dict[str, torch.Tensor]:
    """Weights of an IResNet-18 whose batch norm has seen images; without, its embeddings reach 1e8."""
    torch.manual_seed(seed)
    network = IResNet(18)
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = None  # the mean over all that it has seen
    with torch.no_grad():
        network.train()(torch.rand(8, 3, 112, 112) * 2 - 1)
    return network.state_dict()
