"""The help text of `facedistill train`, from the files of conf/ as they are; Hydra, which composes them, takes a second."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import indent

from facedistill.system.paths import config_dir

_CHOICE = re.compile(r"^  - (\w+): (\w+)", re.MULTILINE)


def help_text() -> str:
    """How to call it, the groups with their choices, and the files of the default choices."""
    import yaml

    root = config_dir()
    text = (root / "train.yaml").read_text(encoding="utf-8")
    own, _, hydra = text.partition("\nhydra:\n")
    words = yaml.safe_load(f"hydra:\n{hydra}")["hydra"]["help"]
    defaults, _, keys = own.partition("\n\n")
    files = [(group, root / group / f"{choice}.yaml") for group, choice in _CHOICE.findall(defaults)]
    return "\n".join(
        [
            words["header"], "", "Groups and their choices", "",
            *(f"{folder.name}: {', '.join(_choices(folder))}" for folder in sorted(root.iterdir()) if folder.is_dir()),
            "", "Keys and their defaults", "",
            *(f"{group}:  # {file.stem}\n{indent(_content(file), '  ')}" for group, file in files),
            keys.strip(), "", words["footer"],
        ]
    )  # fmt: skip


def _choices(folder: Path) -> list[str]:
    return sorted(file.stem for file in folder.glob("*.yaml"))


def _content(file: Path) -> str:
    """A file's lines without the empty ones."""
    return "\n".join(line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()) + "\n"
