"""`facedistill generator convert | preview` on miniature files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from omegaconf import OmegaConf
from PIL import Image

from facedistill.cli import generator
from facedistill.cli.main import main
from facedistill.config import compose, make_run_id, validate
from facedistill.errors import ConfigError
from facedistill.models.detectors.similarity import ARCFACE_TEMPLATE
from facedistill.runs.frozen_networks import load_generator
from facedistill.runs.sources import build_source, directions_file
from facedistill.system.paths import config_dir
from tests.helpers.fake_detector import BrightnessDetector
from tests.models.generators.stylegan_layout import stylegan2, stylegan3, write_pickle


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generators")
    file = write_pickle(folder / "Network-Snapshot 025000.pkl", stylegan2())
    assert main(["generator", "convert", str(file), "--out", str(folder / "out"), "--licence", "mine"]) == 0
    return folder / "out"


def test_convert_writes_weights_and_the_yaml_that_names_them(converted: Path, empty_cache: Path) -> None:
    name = "network-snapshot-025000"
    assert {path.relative_to(converted).as_posix() for path in converted.rglob("*.*")} == {
        f"{name}.safetensors",
        f"asset/{name}.yaml",
        f"generator/{name}.yaml",
    }
    asset = yaml.safe_load((converted / "asset" / f"{name}.yaml").read_text())
    assert asset["licence"] == "mine"
    assert asset["origin"].startswith(
        "StyleGAN2 at 32 px, converted from the user's own file Network-Snapshot"
    )
    config = compose("train", [f"hydra.searchpath=[file://{converted}]", f"generator={name}"])
    network = load_generator(config)
    assert network.native_size == 32
    assert network(torch.zeros(1, 16)).shape == (1, 3, 112, 112)


def test_preview_shows_faces_crops_and_variations(
    converted: Path, empty_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "sheet.png"
    choice = [f"hydra.searchpath=[file://{converted}]", "generator=network-snapshot-025000"]
    assert main(["generator", "preview", *choice, "--faces", "2", "--out", str(picture)]) == 0
    assert capsys.readouterr().out.strip().endswith(str(picture))
    sheet = np.asarray(Image.open(picture))
    cell, gap, caption = 224, 6, 26
    assert sheet.shape == (caption + 2 * (cell + gap), 6 * (cell + gap) + gap, 3)
    for line in range(2):
        top = caption + line * (cell + gap)
        for x, y in ARCFACE_TEMPLATE:
            left = gap + (cell + gap)
            assert sheet[round(top + (y + 0.5) * 2), round(left + (x + 0.5) * 2)].tolist() == [0, 230, 90]
        images = [
            sheet[top : top + cell, gap + n * (cell + gap) : gap + n * (cell + gap) + cell] for n in range(6)
        ]
        assert all(image.std() > 1 for image in images)
        away = [np.abs(images[n].astype(float) - images[2]).mean() for n in (3, 4, 5)]
        assert min(away) > 0.5


def test_directions_are_estimated_once_and_then_turn_faces(
    converted: Path,
    empty_cache: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("facedistill.models.detectors.scrfd.Scrfd", BrightnessDetector)
    monkeypatch.setattr("facedistill.assets.obtain", str)
    monkeypatch.setattr(generator, "_TURNED_FACES", 2)
    choice = [f"hydra.searchpath=[file://{converted}]", "generator=network-snapshot-025000"]
    config = compose("train", [*choice, "data.source.yaw=30", "evaluation=none"])
    with pytest.raises(ConfigError) as refused:
        directions_file(config)
    assert str(refused.value) == (
        "data.source.yaw=30: the directions of network-snapshot-025000 are not estimated yet; run `facedistill generator "
        "directions` once, with the same generator"
    )
    picture = tmp_path / "turned.png"
    assert main(["generator", "directions", *choice, "--renders", "24", "--out", str(picture)]) == 0
    said = capsys.readouterr().out
    assert "24 faces, 100.0 % found; five-fold R2 of yaw " in said
    assert len([line for line in said.splitlines() if "degrees: measured" in line]) == 7
    assert Image.open(picture).height == 26 + 7 * 115 + 3
    assert directions_file(config) is not None
    before = make_run_id(config, {})
    source = build_source(config, load_generator(config), None)
    assert source.raw(0, batch_size=8)["degrees"].any()
    assert before != make_run_id(compose("train", choice), {})


@pytest.mark.parametrize("choice", sorted(path.stem for path in (config_dir() / "generator").glob("*.yaml")))
def test_every_choice_fits_its_class(choice: str) -> None:
    config = compose("train", [f"generator={choice}"])
    if OmegaConf.is_missing(config.generator, "file"):
        config.generator.file = "/path/to/file"
    validate(config)


def unwritable(tmp_path: Path) -> list[str]:
    (tmp_path / "occupied").write_text("a file")
    file = write_pickle(tmp_path / "g.pkl", stylegan3("t"))
    return ["convert", str(file), "--out", str(tmp_path / "occupied" / "below")]


REFUSED: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "no file": (
        lambda tmp: ["convert", f"{tmp}/none.pkl", "--out", str(tmp)],
        "none.pkl: does not exist; give the path of a generator's file",
    ),
    "name": (
        lambda tmp: ["convert", f"{tmp}/none.pkl", "--out", str(tmp), "--name", "My Generator"],
        "--name My Generator: use lower-case letters, digits, '_', '-' and '.'",
    ),
    "faces": (lambda tmp: ["preview", "--faces", "0"], "--faces 0: must be at least 1"),
    "generator": (lambda tmp: ["preview", "generator=none"], "generator=none: there is no such generator; there are"),
    "own file": (
        lambda tmp: ["preview", "generator=stylegan2_ffhq256"],
        "generator.file: stylegan2-ffhq-256x256 needs the path of your own weights; give generator.file=/path/to/file",
    ),
    "unwritable": (unwritable, "cannot be written"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "sentence"), REFUSED.values(), ids=REFUSED)
def test_a_mistake_is_one_sentence(
    tmp_path: Path,
    empty_cache: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: Callable[[Path], list[str]],
    sentence: str,
) -> None:
    given = arguments(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main(["generator", *given]) == 2
    said = capsys.readouterr().err.strip()
    assert sentence in said
    assert len(said.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before
