"""Distill large face recognition networks into small ones.

    import facedistill as fd

    student = fd.load("runs/demo")
    match = student.verify("a.jpg", "b.jpg")

docs/api.md describes it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from facedistill.system.version import VERSION

if TYPE_CHECKING:
    from facedistill.api.distill import distill as distill
    from facedistill.api.gallery import Gallery as Gallery
    from facedistill.api.gallery import Hit as Hit
    from facedistill.api.match import Match as Match
    from facedistill.api.photographs import Face as Face
    from facedistill.api.photographs import align as align
    from facedistill.api.photographs import find_faces as find_faces
    from facedistill.api.student import Student as Student
    from facedistill.api.student import load as load

__version__ = VERSION

_MODULES = {
    "Face": "photographs",
    "Gallery": "gallery",
    "Hit": "gallery",
    "Match": "match",
    "Student": "student",
    "align": "photographs",
    "distill": "distill",
    "find_faces": "photographs",
    "load": "student",
}
__all__ = ["__version__", *_MODULES]


def __getattr__(name: str) -> Any:
    """Imports torch and the rest when a name of the API is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.api.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
