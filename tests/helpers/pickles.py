"""A pickle that runs a command when it is loaded without care."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


class Hostile:
    """Creates the file `marker` when unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)
