"""The cache: converted once, proved on every hit, never half-written."""

import errno
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from facedistill.assets import archive, cache_dir, obtain, read_card
from facedistill.assets.converted import problem
from facedistill.errors import AssetError
from tests.assets.invented_assets import CONVERTER, MEMBER, WEIGHT, WEIGHT_SHA, install_converter

CardWriter = Callable[..., Path]


@pytest.fixture
def card(write_card: CardWriter, wheel: Path) -> Path:
    return write_card(file=str(wheel), convert=CONVERTER)


def leftovers(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*") if path.name != ".tiny.lock")


def test_cache_dir_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    monkeypatch.setenv("HOME", "/h")
    assert cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("FACEDISTILL_CACHE")
    assert cache_dir() == Path("/x/facedistill")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path("/h/.cache/facedistill")


def test_converts_once_and_says_what_it_is(
    card: Path, converter: list[Mapping[str, Path]], cache: Path
) -> None:
    path = obtain(card, quiet=True)
    assert obtain(card, quiet=True) == path
    assert len(converter) == 1
    assert leftovers(cache) == [path.name]
    with safe_open(path, "pt") as stream:
        assert bytes(stream.get_tensor("bytes").tolist()) == WEIGHT
        metadata = json.loads(stream.metadata()["facedistill"])
    assert metadata["asset"] == "tiny"
    assert metadata["members"] == {"tiny.bin": WEIGHT_SHA}
    assert metadata["licence"] == "for nobody"


def test_a_new_converter_version_is_a_new_file(
    card: Path, write_card: CardWriter, wheel: Path, converter: list[Mapping[str, Path]]
) -> None:
    first = obtain(card, quiet=True)
    second = obtain(write_card(file=str(wheel), convert=CONVERTER, convert_version=2), quiet=True)
    assert first != second
    assert first.exists()
    assert second.exists()


@pytest.mark.parametrize("how", ["cut", "emptied", "foreign"])
def test_a_damaged_file_is_obtained_again(
    card: Path, converter: list[Mapping[str, Path]], capsys: pytest.CaptureFixture[str], how: str
) -> None:
    path = obtain(card, quiet=True)
    good = path.read_bytes()
    bad = {"cut": good[:-1], "emptied": b"", "foreign": good.replace(WEIGHT_SHA.encode(), b"0" * 64)}[how]
    path.write_bytes(bad)
    assert obtain(card) == path
    assert path.read_bytes() == good
    wrong = "was made from other members" if how == "foreign" else "is damaged"
    assert f"asset tiny: {path} {wrong}; obtaining it again" in capsys.readouterr().err


def test_only_a_thorough_look_sees_a_changed_value(card: Path, converter: list[Mapping[str, Path]]) -> None:
    path = obtain(card, quiet=True)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert problem(read_card(card), path) is None
    assert problem(read_card(card), path, thorough=True) == (
        "is damaged: its tensors are not the ones that were converted"
    )


def test_a_thorough_look_at_a_damaged_header(card: Path, converter: list[Mapping[str, Path]]) -> None:
    path = obtain(card, quiet=True)
    good = path.read_bytes()
    path.write_bytes(good.replace(b'"dtype":"U8"', b'"dtype":"Q8"'))
    assert path.read_bytes() != good
    assert problem(read_card(card), path, thorough=True) == "is damaged"
    assert obtain(card, quiet=True, thorough=True).read_bytes() == good


def test_a_raw_member_is_hashed_on_every_hit(write_card: CardWriter, wheel: Path) -> None:
    card = write_card(file=str(wheel))
    path = obtain(card, quiet=True)
    path.write_bytes(WEIGHT[:-1] + b"\0")
    assert problem(read_card(card), path) == "no longer has the card's sha256"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, MemoryError])
def test_an_interrupted_conversion_leaves_nothing(
    card: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    def convert(members: Mapping[str, Path]) -> dict[str, torch.Tensor]:
        raise stop

    install_converter(monkeypatch, convert)
    with pytest.raises((stop, AssetError)):
        obtain(card, quiet=True)
    assert leftovers(cache) == []


def test_a_converter_that_fails(card: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def convert(members: Mapping[str, Path]) -> dict[str, torch.Tensor]:
        raise KeyError("conv1.weight")

    install_converter(monkeypatch, convert)
    with pytest.raises(AssetError) as caught:
        obtain(card, quiet=True)
    assert str(caught.value) == (f"asset tiny: {CONVERTER} could not convert it (KeyError: 'conv1.weight')")
    assert leftovers(cache) == []


@pytest.mark.parametrize(
    ("dotted", "sentence"),
    [
        (
            "os.system",
            "is no converter of facedistill.models; if you trust that code, add trust=os to the command line",
        ),
        (
            "facedistill.assets.archive.contextmanager",
            "is no converter of facedistill.models; if you trust that code",
        ),
        ("facedistill.models.teachers.vit.convert_nothing", "cannot be imported ("),
        ("facedistill.models.teachers.golden.convert.system", "is no converter of facedistill.models"),
    ],
)
def test_a_converter_from_elsewhere_is_refused(
    write_card: CardWriter, wheel: Path, cache: Path, dotted: str, sentence: str
) -> None:
    with pytest.raises(AssetError) as caught:
        obtain(write_card(file=str(wheel), convert=dotted), quiet=True)
    message = str(caught.value).replace(", which ", " ")
    assert message.startswith(f"asset tiny: convert names {dotted} {sentence}")
    assert leftovers(cache) == []


class _FullDisk:
    """A hash that fails as a write to a full disk does, in the midst of copying a member."""

    def __init__(self, code: int) -> None:
        self.code = code

    def __call__(self, *args: object, **kwargs: object) -> None:
        raise OSError(self.code, os.strerror(self.code))


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (errno.ENOSPC, "is on a full disk; free about 0 MB, or set FACEDISTILL_CACHE to another disk"),
        (errno.EROFS, "cannot be written; set FACEDISTILL_CACHE to a folder that you may write to"),
        (errno.EIO, "cannot be used (Input/output error); set FACEDISTILL_CACHE to another folder"),
    ],
)
def test_the_disk_fails_while_a_member_is_copied(
    card: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, code: int, sentence: str
) -> None:
    real = Path.open

    class Stream:
        def __enter__(self) -> "Stream":
            return self

        def __exit__(self, *args: object) -> None:
            return None

        write = _FullDisk(code)

    def opening(path: Path, mode: str = "r", *args: object, **kwargs: object) -> object:
        return Stream() if mode == "wb" else real(path, mode, *args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(archive.Path, "open", opening)
    with pytest.raises(AssetError) as caught:
        obtain(card, quiet=True)
    monkeypatch.undo()
    assert str(caught.value) == f"asset tiny: cache folder {cache} {sentence}"
    assert leftovers(cache) == []


def test_the_disk_fills_while_the_tensors_are_written(
    card: Path, cache: Path, converter: list[Mapping[str, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(tensors: object, target: Path, metadata: object) -> None:
        target.write_bytes(b"half")
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", save)
    with pytest.raises(AssetError, match="is on a full disk; free about 0 MB"):
        obtain(card, quiet=True)
    assert leftovers(cache) == []


def test_a_cache_that_cannot_be_made(card: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FACEDISTILL_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(AssetError) as caught:
        obtain(card, quiet=True)
    assert str(caught.value) == (
        f"asset tiny: cache folder {tmp_path}/file/cache cannot be used (Not a directory); "
        "set FACEDISTILL_CACHE to another folder"
    )


def test_a_filled_read_only_cache_serves(
    card: Path, converter: list[Mapping[str, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = obtain(card, quiet=True)
    for name in ("mkdir", "write_text"):
        monkeypatch.setattr(Path, name, _FullDisk(errno.EROFS))
    assert obtain(card) == path


def test_what_a_killed_process_left_is_cleared(
    card: Path, cache: Path, converter: list[Mapping[str, Path]]
) -> None:
    stale = cache / ".tiny.work-dead" / "members"
    stale.mkdir(parents=True)
    (stale / "tiny.bin").write_bytes(b"half")
    path = obtain(card, quiet=True)
    assert leftovers(cache) == [path.name]


def test_threads_convert_once(card: Path, converter: list[Mapping[str, Path]]) -> None:
    paths: list[Path] = []
    threads = [threading.Thread(target=lambda: paths.append(obtain(card, quiet=True))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(paths)) == 1
    assert len(paths) == 6
    assert len(converter) == 1


def test_two_processes_convert_once(
    card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    log = tmp_path / "log"

    def convert(members: Mapping[str, Path]) -> dict[str, torch.Tensor]:
        with log.open("a") as stream:
            stream.write("converted\n")
        time.sleep(0.3)
        return {"x": torch.zeros(2)}

    install_converter(monkeypatch, convert)
    fork = multiprocessing.get_context("fork")
    running = [fork.Process(target=obtain, args=(card,), kwargs={"quiet": True}) for _ in range(2)]
    for process in running:
        process.start()
    for process in running:
        process.join(timeout=60)
    assert [process.exitcode for process in running] == [0, 0]
    assert log.read_text() == "converted\n"
    assert leftovers(cache) == [obtain(card, quiet=True).name]


def test_member_is_not_a_path_of_the_cards_choosing(card: Path, converter: list[Mapping[str, Path]]) -> None:
    obtain(card, quiet=True)
    (given,) = converter
    assert list(given) == [Path(MEMBER).name]
