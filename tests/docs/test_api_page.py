"""The Python of docs/api.md, the README and the model card runs, with a small student and an invented detector."""

import re
from pathlib import Path

import pytest

from facedistill.reporting.run.files import read_run
from facedistill.reporting.run.model_card import model_card
from facedistill.runs.folder import RunFolder
from tests.docs.documented import blocks
from tests.helpers.photographs import Tiles, photograph, small_student
from tests.reporting.fake_run import make_run

ROOT = Path(__file__).parents[2]
RUN = Path("runs/demo")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with what the samples name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("facedistill.api.photographs.default_detector", Tiles)
    RUN.mkdir(parents=True)
    small_student(RUN / "student.safetensors")
    Path("photos").mkdir()
    for name, seeds in (("a.jpg", [1]), ("b.jpg", [2]), ("group.jpg", [1, 2]), ("photos/c.jpg", [1])):
        photograph(*seeds).save(name)
    for name in ("face1.png", "face2.png"):
        photograph(1).save(name)
    return tmp_path


@pytest.mark.parametrize("page", ["docs/api.md", "README.md"])
def test_the_samples_of_a_page_run(page, folder, monkeypatch, empty_cache, capsys):
    trained = []

    def train(config, overrides, inputs):
        trained.append(config)
        return RunFolder(RUN)

    monkeypatch.setattr("facedistill.api.distill.train", train)
    monkeypatch.setattr("facedistill.api.distill.load", lambda path, network: path)
    names: dict = {}
    samples = [
        one
        for one in blocks((ROOT / page).read_text(encoding="utf-8"), "python")
        if re.search(r"\bfd\.|student", one)
    ]
    assert samples
    for sample in samples:
        exec(sample, names)
    assert "score " in capsys.readouterr().out
    assert trained or page == "README.md"


def test_the_sample_of_the_card_runs(folder, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda repo, **_: str(RUN))
    card = model_card(
        read_run(make_run(folder / "runs" / "demo-1a2b3c4d", protocols=(), num_faces=1)), "you/tiny-face"
    )
    sample = blocks(card, "python")[0]
    assert 'fd.load("you/tiny-face")' in sample
    exec(sample, {})
    assert "score " in capsys.readouterr().out
