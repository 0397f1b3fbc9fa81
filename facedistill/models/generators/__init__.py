"""Frozen face generators: latents to aligned faces.

A public `FrozenGenerator` in any module of this package is importable from here, for instance
`facedistill.models.generators.FaceGenerator`.
"""

from facedistill.models.generators.frozen import FrozenGenerator
from facedistill.models.generators.resampling import resample as resample
from facedistill.system.discovery import find_subclass


def __getattr__(name: str) -> type[FrozenGenerator]:
    return find_subclass(__name__, FrozenGenerator, name)
