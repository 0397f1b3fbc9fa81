"""`facedistill data`: through main(), as a user sees it."""

import io
import itertools
import re
import sys
import types

import numpy as np
import pytest
from PIL import Image

from facedistill.cli.data import main
from facedistill.data.formats.open import open_faces
from tests.cli.data_sets import DRAWN, damaged_folder, encoded, folder, run, shards
from tests.data.formats.drawn_set import DrawnSet
from tests.data.formats.packed_shards import pack

pytestmark = pytest.mark.usefixtures("empty_cache")

FORMATS = ("rec", "folder", "shards", "parquet")


def content(path):
    """Every image with its identity's number."""
    faces = open_faces(path)
    return sorted((faces.encoded(i), int(faces.identities[faces.labels[i]])) for i in range(len(faces)))


def test_the_tar_of_a_benchmark_can_be_looked_at(tmp_path, capsys):
    pack(tmp_path / "lfw112.tar", [("a/0001.jpg", DRAWN.encoded(0)), ("pairs.txt", b"10 300")])
    code, out, err = run(capsys, "info", tmp_path / "lfw112.tar")
    assert (code, err) == (0, "")
    assert re.search(r"images +1\b", out)


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(FORMATS, 2)))
def test_round_trip(tmp_path, capsys, first, second):
    source = shards(tmp_path / "source")
    for name, to, start in (("a", first, "source"), ("b", second, "a"), ("c", first, "b")):
        code, out, err = run(capsys, "convert", tmp_path / start, tmp_path / name, "--to", to)
        assert (code, err) == (0, "")
        assert out == f"{tmp_path / name}: 12 images written and read back, all equal\n"
        assert content(tmp_path / name) == content(source)
    if "folder" not in (first, second):  # which sorts by identity
        kept = open_faces(tmp_path / "c")
        assert [kept.encoded(i) for i in range(12)] == [DRAWN.encoded(i) for i in range(12)]
        assert kept.labels.tolist() == DRAWN.labels.tolist()


@pytest.mark.parametrize("to", FORMATS)
def test_unlabeled_sets_stay_unlabeled(tmp_path, capsys, to):
    bare = DrawnSet(1, 5, labeled=False)
    source = shards(tmp_path / "source", bare, ())
    assert run(capsys, "convert", source, tmp_path / "t", "--to", to)[0] == 0
    faces = open_faces(tmp_path / "t")
    assert faces.labels is None
    assert [faces.encoded(i) for i in range(5)] == [bare.encoded(i) for i in range(5)]


def test_names_that_rec_and_folders_cannot_keep(tmp_path, capsys):
    source = shards(tmp_path / "source", names=("anna", "a/b", "chen"))
    code, out, _ = run(capsys, "convert", source, tmp_path / "r", "--to", "rec")
    assert code == 0
    assert out.endswith("RecordIO keeps no names of identities; they are numbers now, in the same order\n")
    code, out, err = run(capsys, "convert", source, tmp_path / "f", "--to", "folder")
    assert (code, out) == (2, "")
    assert err == "error  identity 'a/b' cannot be the name of a folder; convert to shards or parquet\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r", "source"]


def test_ten_identities_keep_their_order_as_folders(tmp_path, capsys):
    source = shards(tmp_path / "source", DrawnSet(11, 2), tuple(str(k) for k in range(11)))
    assert run(capsys, "convert", source, tmp_path / "f", "--to", "folder")[0] == 0
    assert open_faces(tmp_path / "f").identities == [f"{k:02d}" for k in range(11)]


def test_an_existing_target_is_refused(tmp_path, capsys):
    source = shards(tmp_path / "source")
    (tmp_path / "t").mkdir()
    code, out, err = run(capsys, "convert", source, tmp_path / "t", "--to", "rec")
    assert (code, out) == (2, "")
    assert err == f"error  {tmp_path}/t exists already; delete it or choose another path\n"


def test_damaged_images_stop_a_conversion_or_are_left_out(tmp_path, capsys):
    source = damaged_folder(tmp_path / "source")
    code, out, err = run(capsys, "convert", source, tmp_path / "t", "--to", "shards")
    assert (code, out) == (2, "")
    assert err.startswith(f"error  {source}/a/1.png is cut short or damaged (")
    assert err.endswith("; replace or remove it, or leave it out with --skip-damaged\n")
    assert not (tmp_path / "t").exists()
    code, out, err = run(capsys, "convert", source, tmp_path / "t", "--to", "shards", "--skip-damaged")
    assert code == 0
    assert out == (
        f"{tmp_path}/t: 4 images written and read back, all equal\n2 damaged images or parts of {source} left out\n"
    )
    assert err.count("left out: ") == 2
    assert len(open_faces(tmp_path / "t")) == 4


def test_nothing_but_damage(tmp_path, capsys):
    source = folder(tmp_path / "source", {"1.png": b"x", "2.png": b"y"})
    code, _, err = run(capsys, "convert", source, tmp_path / "t", "--to", "shards", "--skip-damaged")
    assert code == 2
    assert err.endswith(f"\nerror  {source}: every image is damaged; there is nothing to convert\n")


def test_a_conversion_that_reads_back_something_else_is_refused(tmp_path, capsys, monkeypatch):
    source = shards(tmp_path / "source")

    def opens_wrongly(path, **_):
        return open_faces(path) if str(path) == str(source) else DrawnSet(3, 3)

    monkeypatch.setattr("facedistill.data.formats.convert.open_faces", opens_wrongly)
    code, _, err = run(capsys, "convert", source, tmp_path / "t", "--to", "rec")
    assert code == 2
    assert err == f"error  {tmp_path}/t: 9 images read back are not the 12 written; check the disk\n"
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_mistakes(tmp_path, capsys):
    code, out, err = run(capsys, "verify", tmp_path / "absent")
    assert (code, out) == (2, "")
    assert err.startswith(f"error  {tmp_path}/absent: does not exist; give a face set: ")
    source = shards(tmp_path / "source")
    assert run(capsys, "verify", source, "--threads", "0") == (
        2,
        "",
        "error  --threads 0: must be 1 or more\n",
    )
    sheet = tmp_path / "sheet.pdf"
    assert run(capsys, "info", source, "--sheet", sheet) == (
        2,
        "",
        f"error  {sheet}: a picture is written as .png, .jpg or .jpeg; name it so\n",
    )
    code, _, err = run(capsys, "convert", "a", "b", "--to", "hdf5")
    assert (code, err) == (
        2,
        "error  --to hdf5: there is no such format; there are folder, lmdb, parquet, rec, shards\n",
    )


def test_info(tmp_path, capsys):
    source = shards(tmp_path / "source")
    code, out, err = run(capsys, "info", source)
    assert (code, err) == (0, "")
    assert out == (
        "format        tar shards\n"
        "images        12\n"
        "identities    3\n"
        "per identity  min 4, median 4, max 4\n"
        "              4-7 █ 3\n"
        "size          112x112 of 12 images looked at\n"
        "color         RGB of 12 images looked at\n"
        f"fingerprint   {open_faces(source).fingerprint}\n"
    )


def test_info_warns(tmp_path, capsys):
    images = {
        "1/0.png": encoded("L"),
        "4/0.png": encoded(size=(96, 112)),
        "4/1.jpg": encoded("CMYK", form="JPEG"),
        "7/1.png": b"nothing",
    }
    _, out, _ = run(capsys, "info", folder(tmp_path / "source", images))
    lines = out.splitlines()
    assert lines[4] == "              1 █ 2 | 2-3 ▅ 1"
    assert [line[14:] for line in lines if line.startswith("warning")] == [
        "labels have gaps: 4 between 1 and 7 do not occur",
        "3 of 3 identities have fewer than 4 images: P x K batches repeat theirs",
        "2 different sizes: faces are 112x112; run `facedistill data align` on the photographs",
        "2 images are not RGB (CMYK, L); they are converted when read",
        "1 of the images looked at cannot be read; run `facedistill data verify`",
    ]
    bare = shards(tmp_path / "bare", DrawnSet(1, 5, labeled=False), ())
    _, out, _ = run(capsys, "info", bare)
    assert "identities    none\n" in out
    assert out.endswith(
        "warning       no labels, or one identity only: methods that need identities cannot use this set\n"
    )


def test_the_contact_sheet_shows_the_faces(tmp_path, capsys):
    source = shards(tmp_path / "source")
    code, out, _ = run(capsys, "info", source, "--sheet", tmp_path / "pictures/sheet.png")
    assert code == 0
    assert out.endswith(f"sheet         {tmp_path}/pictures/sheet.png\n")
    sheet = np.asarray(Image.open(tmp_path / "pictures/sheet.png"))
    assert sheet.shape == (3 * (112 + 4 + 14) + 4, 10 * 116 + 4, 3)
    second = Image.open(io.BytesIO(DRAWN.encoded(4)))  # identity 1, its second image
    top, left = 4 + 130 + 14, 4 + 116
    np.testing.assert_array_equal(sheet[top : top + 112, left : left + 112], np.asarray(second))


def test_a_damaged_face_is_crossed_out(tmp_path, capsys):
    source = folder(tmp_path / "source", {"1.png": encoded(), "2.png": b"nothing"})
    assert run(capsys, "info", source, "--sheet", tmp_path / "sheet.png")[0] == 0
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet[4 + 56, 4 + 56].tolist() == [0, 0, 0]
    assert sheet[4, 4 + 116].tolist() == [200, 60, 60]


@pytest.mark.parametrize("name", ["align", "audit"])
def test_other_commands_are_handed_on(monkeypatch, name):
    given = []
    module = types.ModuleType(f"facedistill.cli.{name}")
    module.main = lambda arguments: given.append(arguments) or 1
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert main([name, "a", "--help"]) == 1
    assert given == [["a", "--help"]]


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    assert "facedistill data convert ms1mv3/train.rec ms1mv3-shards --to shards" in capsys.readouterr().out
