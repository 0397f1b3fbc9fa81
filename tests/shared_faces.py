"""The developers' aligned real faces, `../shared/data`; tests that need them skip where they are absent."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

SHARED = Path(os.environ.get("FACEDISTILL_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def lfw_faces(ending: str = ".jpg") -> Iterator[Image.Image]:
    """Aligned LFW faces whose file names end so, in the archive's order."""
    archive = SHARED / "data" / "lfw112.tar"
    if not archive.is_file():
        pytest.skip("no real faces here: FACEDISTILL_SHARED names no folder that holds data/lfw112.tar")
    with tarfile.open(archive) as bundle:
        for entry in bundle:
            if entry.isfile() and entry.name.endswith(ending):
                stream = bundle.extractfile(entry)
                assert stream is not None
                yield Image.open(io.BytesIO(stream.read())).convert("RGB")
