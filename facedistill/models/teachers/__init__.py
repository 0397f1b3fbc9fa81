"""Teachers: published networks, their converters, and `FrozenTeacher`, which wraps each of them.

A public network in any module of this package is importable from here, for instance
`facedistill.models.teachers.IResNet`.
"""

from typing import Any

from torch import nn

from facedistill.models.teachers.frozen import FrozenTeacher as FrozenTeacher
from facedistill.system.discovery import find_subclass


def __getattr__(name: str) -> Any:  # a class; its arguments are its own
    return find_subclass(__name__, nn.Module, name)
