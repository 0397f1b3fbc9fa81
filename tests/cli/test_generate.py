"""`facedistill generate` through its own door, with a tiny generator and teacher."""

import json
from pathlib import Path

import pytest
from PIL import Image

from facedistill.cli import generate
from facedistill.data.formats.open import open_faces
from facedistill.errors import ConfigError, DataError, UserError
from tests.helpers.tiny_networks import TinyGenerator, TinyTeacher

Capture = pytest.CaptureFixture[str]
SMALL = ["synthetic.identities=6", "images_per_identity=3", "synthetic.max_identity_cosine=0.9", "--quiet"]


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facedistill.runs.frozen_networks.load_generator", lambda config: TinyGenerator())
    monkeypatch.setattr("facedistill.runs.frozen_networks.load_teacher", lambda config: TinyTeacher())


def test_a_set_its_note_and_its_picture(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "faces"
    assert generate.main([str(out), *SMALL]) == 0
    faces = open_faces(out)
    assert (len(faces), len(faces.identities)) == (18, 6)
    meta = json.loads((out / "faces.json").read_text())["meta"]
    assert meta["synthetic"]["identities"] == 6
    assert (meta["generator_asset"], meta["teacher_asset"]) == ("mobilestylegan", "w600k_mbf")
    assert [licence["asset"] for licence in meta["licences"]] == ["mobilestylegan", "w600k_mbf"]
    assert all(licence["licence"] for licence in meta["licences"])
    assert Image.open(tmp_path / "faces.png").size == (3 * 112, 6 * 112)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"18 images of 6 identities in {out}, rendered in ")
    assert said[-2] == f"picture {tmp_path}/faces.png"
    assert said[1].startswith(f"the teacher says: mean genuine cosine {meta['mean_genuine_cosine']:.3f}, ")
    assert said[1].endswith(f"; {meta['replaced_identities']} latents replaced as too near to another")
    assert said[-1] == f'train on it: facedistill train data=webdataset data.path="{out}"'


def test_the_same_again_is_there_and_another_is_refused(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "faces"
    generate.main([str(out), *SMALL])
    capsys.readouterr()
    assert generate.main([str(out), *SMALL]) == 0
    assert ", there already\n" in capsys.readouterr().out
    with pytest.raises(DataError) as caught:
        generate.main([str(out), *SMALL, "quality=80"])
    assert str(caught.value) == (
        f"{out}: holds another set (quality 95 instead of 80); name another folder or delete it"
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("synthetic.spred=1", "unknown override 'synthetic.spred'; did you mean synthetic.spread?"),
        ("synthetic.spread=-1", "synthetic.spread=-1: must be > 0"),
        ("images_per_identity=0", "images_per_identity=0: must be > 0"),
        ("per_shard=0", "per_shard=0: must be > 0"),
    ],
)
def test_mistakes_are_sentences(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        generate.main([str(tmp_path / "faces"), *SMALL, override])
    assert str(caught.value) == message
    assert list(tmp_path.iterdir()) == []


def test_shares_at_an_address(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEDISTILL_CACHE", str(tmp_path / "cache"))
    share = ["--to", "memory://bucket/cli", *SMALL, "per_shard=9", "--shard"]
    assert generate.main([*share, "1/2"]) == 0
    assert capsys.readouterr().out == (
        "memory://bucket/cli: this share is rendered; 1 shard(s) of the others are missing; the last job to finish completes "
        "the set\n"
    )
    assert generate.main([*share, "0/2"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("18 images of 6 identities in memory://bucket/cli, rendered in ")
    assert said[-1] == 'train on it: facedistill train data=webdataset data.path="memory://bucket/cli"'
    assert len(open_faces("memory://bucket/cli")) == 18


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["out", "--shard", "2/2"], "--shard 2/2: must be I/N with I from 0 to N - 1, such as 0/8"),
        (["out", "--shard", "one"], "--shard one: must be I/N with I from 0 to N - 1, such as 0/8"),
        (
            ["out", "--to", "s3://b/x"],
            "generate: both out and --to s3://b/x say where to write; give one of them",
        ),
        (
            ["quality=80"],
            "generate: name the folder to make, as `facedistill generate OUT …`, or an address with --to",
        ),
    ],
)
def test_where_and_which_share(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        generate.main(arguments)
    assert str(caught.value) == message
