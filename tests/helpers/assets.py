"""Real weights for tests marked `assets`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from facedistill.assets import obtain, read_card
from facedistill.errors import AssetError


def asset_or_skip(name: str) -> Path:
    """The path of an asset's weights; skips the test where they are not cached and cannot be fetched."""
    try:
        return obtain(name, quiet=True)
    except AssetError as error:
        pytest.skip(f"{name}: {error}")


def published_graph_or_skip(name: str) -> Path:
    """The ONNX file that a converted asset was made from."""
    try:
        return obtain(replace(read_card(name), name=f"{name}_onnx", convert=""), quiet=True)
    except AssetError as error:
        pytest.skip(f"published graph of {name}: {error}")
