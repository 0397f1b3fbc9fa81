"""`facedistill data verify`: through main(), as a user sees it."""

import pytest

from tests.cli.data_sets import DRAWN, damaged_folder, encoded, folder, run, shards

pytestmark = pytest.mark.usefixtures("empty_cache")


def test_verify_clean(tmp_path, capsys):
    source = shards(tmp_path / "source")
    assert run(capsys, "verify", source) == (0, f"{source}: 12 images, all readable\n", "")


def test_verify_lists_each_damaged_image_in_order(tmp_path, capsys):
    source = damaged_folder(tmp_path / "source")
    code, out, _ = run(capsys, "verify", source, "--threads", "2")
    lines = out.splitlines()
    assert code == 1
    assert lines[0].startswith(f"{source}/a/1.png is cut short or damaged (")
    assert lines[1:] == [
        f"{source}/b/2.png is no JPEG, PNG, WebP or BMP image; replace or remove it",
        f"{source}: 2 of 6 images are damaged",
    ]


def test_verify_other_sizes(tmp_path, capsys):
    source = folder(tmp_path / "source", {"a/1.png": encoded(), "b/2.png": encoded(size=(96, 112))})
    code, out, _ = run(capsys, "verify", source)
    assert code == 1
    assert out.startswith(f"{source}/b/2.png is 96x112 pixels, and faces are 112x112; ")
    assert run(capsys, "verify", source, "--any-size")[0] == 0


def test_verify_a_shard_cut_short_reads_the_rest(tmp_path, capsys):
    source = shards(tmp_path / "source")
    shard = source / "000001.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:800])
    code, out, _ = run(capsys, "verify", source)
    assert code == 1
    assert out.splitlines() == [
        f"{shard}: is cut short: byte 0 begins a member of {len(DRAWN.encoded(5))} bytes, and the file ends at 800; "
        "copy it again, or see what is readable with `facedistill data verify`",
        f"{shard}: its sha256 is not the one in faces.json; copy it again",
        f"{source}: 2 files, shards or samples are not whole",
    ]


def test_verify_finds_a_flipped_bit_by_the_checksum(tmp_path, capsys):
    source = shards(tmp_path / "source")
    shard = source / "000000.tar"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 0  # an untouched copy first
    shard.write_bytes(content)
    assert run(capsys, "verify", source)[0] == 0
    place = content.index(b"000000001.cls") + 512
    assert content[place : place + 1] == b"1"
    content[place] = ord("2")  # a valid label, but not the one written
    shard.write_bytes(content)
    code, out, _ = run(capsys, "verify", source)
    assert code == 1
    assert f"{shard}: its sha256 is not the one in faces.json; copy it again\n" in out


def test_verify_a_cut_rec(tmp_path, capsys):
    assert run(capsys, "convert", shards(tmp_path / "source"), tmp_path / "r", "--to", "rec")[0] == 0
    rec = tmp_path / "r/train.rec"
    rec.write_bytes(rec.read_bytes()[:3000])
    rec.with_suffix(".idx").unlink()
    code, out, _ = run(capsys, "verify", tmp_path / "r")
    assert code == 1
    assert out.startswith(f"{rec}: ")
    assert out.endswith("1 files, shards or samples are not whole\n")
