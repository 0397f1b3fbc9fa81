"""`verify`, `search` and `embed --align`: output and exit codes."""

import pytest
from PIL import Image

from facedistill.cli.main import main
from tests.helpers.errors import command_error
from tests.helpers.photographs import Tiles, photograph, small_student


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """a.png, b.png and two.png show faces, none.png does not."""
    folder = tmp_path_factory.mktemp("photos")
    for name, seeds in (("a", [1]), ("b", [2]), ("two", [2, 1]), ("none", [0])):
        photograph(*seeds).save(folder / f"{name}.png")
    small_student(
        folder / "student.safetensors",
        '[{"protocol": "lfw", "far": 0.001, "threshold": 0.9, "tar": 0.8, "tar_ci": [0.7, 0.9], "genuine": 3000, "impostor": 3000}]',
    )
    return folder


@pytest.fixture(autouse=True)
def _in_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr("facedistill.api.photographs.default_detector", Tiles)


def run(capsys, *words):
    code = main([*words, "--model", "student.safetensors"])
    return code, *capsys.readouterr()


def test_verify(capsys, tmp_path):
    code, said, errors = run(
        capsys, "verify", "a.png", "two.png", "--face", "all", "--picture", f"{tmp_path}/p.png"
    )
    assert (code, errors) == (0, "two.png shows 2 faces; all are compared\n")
    assert said == (
        "score 0.9999, threshold 0.9000: same person\nthreshold 0.9000: FAR 0.001 on lfw (3,000 impostor pairs)\n"
        f"picture {tmp_path}/p.png\n"
    )
    assert Image.open(tmp_path / "p.png").size == (484, 270)
    error = command_error(capsys, "verify", "a", "b", "--model", "none", "--picture", "x.docx")
    assert error == "error  x.docx: a picture is written as .png, .jpg or .jpeg; name it so"
    assert run(capsys, "verify", "a.png", "a.png", "--threshold", "1")[1].endswith(
        "threshold 1.0000: given\n"
    )


def test_no_face_is_exit_code_one_and_no_image_a_mistake(capsys):
    code, said, errors = run(capsys, "verify", "a.png", "none.png")
    assert (code, said) == (1, "")
    assert errors.startswith("none.png shows no face that can be found; ")
    assert run(capsys, "search", ".", "none.png")[0] == 1
    code, said, errors = run(capsys, "search", ".", "a.png", "--top", "1")
    assert (code, said.splitlines()[1]) == (1, "   1   1.0000  a.png  same person")
    assert errors.startswith("none.png shows no face that can be found; ")
    error = command_error(capsys, "verify", "a.png", "student.safetensors", "--model", "student.safetensors")
    assert error.startswith("error  student.safetensors: not a readable image; ")
    error = command_error(capsys, "verify", "a.png", "x.png", "--model", "student.safetensors")
    assert error.startswith("error  x.png: does not exist; ")


def test_embed_then_search(capsys, tmp_path):
    out = str(tmp_path / "gallery.npz")
    code, said, errors = run(capsys, "embed", "a.png", "b.png", "none.png", "--align", "--out", out)
    assert (code, said) == (1, f"2 embeddings of 32 dimensions in {out}\n")
    assert errors.startswith("none.png shows no face")
    code, said, _ = run(capsys, "search", out, "a.png", "--top", "1")
    assert code == 0
    assert said == (
        "2 faces; threshold 0.9000: FAR 0.001 on lfw (3,000 impostor pairs)\n   1   1.0000  a.png  same person\n"
    )
    code, said, errors = run(capsys, "embed", "none.png", "--align", "--out", out)
    assert (code, said) == (1, "")
    assert errors.endswith(f"no image could be embedded; {out} is not written\n")
    assert run(capsys, "search", out, "a.png")[0] == 0


@pytest.mark.parametrize(("words", "message"), [
    ("embed a.png --face all", "--face all: has no effect on aligned faces; add --align if the images are photographs"),
    ("verify a.png b.png --aligned --face all", "--face all: has no effect with --aligned"),
    ("search . a.png --aligned --face all", "--face all: has no effect with --aligned"),
    ("search g.npz a.png --face all", "--face all: has no effect on g.npz, which is embedded already; leave it out"),
    ("verify a.png b.png --threshold 0.3 --far 1e-2", "--threshold: takes the place of the model's, which --far"),
    ("search . a.png --threshold 0.3 --protocol lfw", "--threshold: takes the place of the model's, which --far"),
])  # fmt: skip
def test_an_option_without_effect_is_refused(words, message, folder, capsys):
    (folder / "g.npz").touch()
    said = command_error(capsys, *words.split(), "--model", "student.safetensors")
    assert said.startswith(f"error  {message}")
