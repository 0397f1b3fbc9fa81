"""Frozen face generators: latents to aligned faces.

A public `FrozenGenerator` in any module of this package is importable from here, for instance
`facedistill.models.generators.FaceGenerator`.
"""

from typing import Any

from facedistill.models.generators.frozen import FrozenGenerator
from facedistill.models.generators.resampling import resample as resample
from facedistill.system.discovery import find_subclass


def __getattr__(name: str) -> Any:  # a class; its arguments are its own
    return find_subclass(__name__, FrozenGenerator, name)
