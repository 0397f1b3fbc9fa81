"""`facedistill data preview` with a tiny generator and with a drawn set on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from facedistill.cli import preview
from facedistill.config import compose
from facedistill.images import to_uint8
from facedistill.runs.sources import build_source
from tests.cli.data_sets import run, shards
from tests.helpers.tiny_networks import TinyGenerator

RENDERED = ["experiment=demo", "augment=photo", "data.source.rho=0.5", "seed=3"]


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch, empty_cache: Path) -> None:
    monkeypatch.setattr(preview, "load_generator", lambda config: TinyGenerator())


def cells(picture: Path, lines: int, faces: int) -> Tensor:
    """(lines, faces, 3, 112, 112) uint8 of a sheet."""
    sheet = torch.from_numpy(np.array(Image.open(picture))).permute(2, 0, 1)
    left = sheet.shape[2] - faces * 115 - 3
    rows = [
        [sheet[:, y : y + 112, left + 115 * n :][:, :, :112] for n in range(faces)]
        for y in range(26, 26 + 115 * lines, 115)
    ]
    return torch.stack([torch.stack(row) for row in rows])


def test_the_sheet_shows_what_the_networks_see(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "sheet.png"
    code, said, _ = run(capsys, "preview", *RENDERED, "--faces", 3, "--draws", 2, "--out", picture)
    assert (code, said) == (0, f"augment photo, faces of mobilestylegan, seed 3: {picture}\n")
    shown = cells(picture, 3, 3)
    generator = TinyGenerator()
    source = build_source(compose("train", [*RENDERED, "data.source.resampling=static"]), generator, None)  # type: ignore[arg-type]
    batch = source.finish(source.raw(0, batch_size=3))
    assert batch.latents is not None
    assert torch.equal(shown[0], to_uint8(generator.render(batch.latents)))
    assert torch.equal(shown[1], to_uint8(batch.images))
    assert not torch.equal(shown[2], shown[1])


def test_faces_on_disk_are_shown_without_a_generator(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "load_generator", None)
    path, picture = shards(tmp_path / "faces"), tmp_path / "sheet.jpg"
    data = ["data=faces", f"data.path={path}", "data.teacher_cache=true"]
    code, said, _ = run(capsys, "preview", *data, "augment=light", "--out", picture)
    assert (code, said) == (0, f"augment light, faces of faces, seed 2021: {picture}\n")
    code, said, _ = run(capsys, "preview", *data, "--out", picture, "data.source.augment=null")
    assert (code, said) == (0, f"augment none, faces of faces, seed 2021: {picture}\n")
    assert Image.open(picture).height == 26 + 115 + 3


def test_each_effect_alone_from_weak_to_strong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "effects.png"
    assert run(capsys, "preview", *RENDERED, "--effects", "--faces", 1, "--out", picture)[0] == 0
    shown = cells(picture, 7, 3).float()  # the last of three blocks: blur, resolution, noise, JPEG, frame
    clean = to_uint8(preview.clean_faces(compose("train", RENDERED), 1)).float()
    changed = (shown[:5] - clean).abs().mean((2, 3, 4))
    assert (changed[:, 0] > 0.05).all()
    assert (changed.diff(dim=1) > 0).all()
    assert (shown[5:] == 255).all()


MISTAKES = {
    "effects of light": (["augment=light", "--effects"], "--effects: shows the effects of augment=photo or photo_strong, and not of light"),
    "value": (["augment=photo", "data.source.augment.blur=hello"], "data.source.augment.blur: expected a number in [0, 1], got 'hello'"),
    "ending": (["--out", "a.gif"], "a.gif: a picture is written as .png, .jpg or .jpeg; name it so"),
    "step": (["--step", "-1"], "--step -1: must be 0 or more"),
    "path": (["data=folder", "data.path=none"], "none: does not exist; give a face set"),
    "no path": (["data=folder"], "data.path: needs a value"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "sentence"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_sentence(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, said = run(capsys, "preview", *arguments)
    assert code == 2
    assert said.startswith(f"error  {sentence}")
    assert len(said.splitlines()) == 1
    assert not list(tmp_path.iterdir())
