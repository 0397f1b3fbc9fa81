"""What the pages share: their template engine, and pictures inside the page."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image


def templates(module: str, *, escape: bool = True) -> Environment:
    """The templates next to a module, `templates/`; `escape` is for HTML."""
    loader = FileSystemLoader(Path(module).resolve().parent / "templates")
    return Environment(
        loader=loader, autoescape=escape, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def png_uri(png: bytes) -> str:
    """A PNG as a data URI."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def jpeg_uri(image: Image.Image, **options: int) -> str:
    """A picture as a JPEG data URI; `options` are Pillow's, such as `quality`."""
    file = io.BytesIO()
    image.save(file, format="JPEG", **options)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
