"""Reads a yaml of conf/ with its comments, which yaml parsers drop."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import SafeConstructor


@dataclass(frozen=True)
class Key:
    """One value: its path ("source.rho"), its text, and the comments above and next to it."""

    path: str
    value: str
    comment: str


@dataclass(frozen=True)
class Choice:
    """One yaml of a group.

    Attributes:
        name: The choice in `group=choice`.
        about: The comment at the top of the file.
        package: Where its keys are placed: "trainer", "" for the root, or None for the group's own name.
        defaults: Entries of its defaults list, as written, and `defaults_note`, their comments.
        keys: Its own values, without those of its defaults.
        targets: Dotted path of every class or function it names, by its key ("" at the top).
    """

    name: str
    about: str
    package: str | None
    defaults: tuple[str, ...]
    defaults_note: str
    keys: tuple[Key, ...]
    targets: dict[str, str]


def read_choice(path: Path) -> Choice:
    """Reads one yaml file."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    content: dict[str, Any] = yaml.safe_load(text) or {}
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    about, package, first = _head(lines)
    keys = list(_keys(node, lines, "", first)) if isinstance(node, yaml.MappingNode) else []
    return Choice(
        name=path.stem,
        about=about,
        package=package,
        defaults=tuple(_default(entry) for entry in content.get("defaults", [])),
        defaults_note=" ".join(key.comment for key in keys if key.path == "defaults"),
        keys=tuple(key for key in keys if key.path != "defaults"),
        targets=dict(_targets(content)),
    )


def _head(lines: list[str]) -> tuple[str, str | None, int]:
    """The comment at the top, the package named in it, and its number of lines."""
    package, comments, count = None, [], 0
    for line in lines:
        if not line.startswith("#"):
            break
        count += 1
        named = re.fullmatch(r"#\s*@package\s+(\S+)", line)
        if named:
            package = "" if named.group(1) == "_global_" else named.group(1)
        else:
            comments.append(line.lstrip("# ").rstrip("\\ "))
    return " ".join(comments), package, count


def _keys(node: yaml.MappingNode, lines: list[str], prefix: str, first: int) -> Iterator[Key]:
    """Every value below `node`; lines before `first` are the file's head and are not comments of a key."""
    for name, value in node.value:
        path = f"{prefix}{name.value}"
        above = _above(lines, name.start_mark.line, first)
        if isinstance(value, yaml.MappingNode) and value.value and not value.flow_style:
            after = _comment_after(lines[name.end_mark.line][name.end_mark.column :])
            if above or after:
                yield Key(path, "", " ".join(filter(None, (above, after))))
            yield from _keys(value, lines, f"{path}.", first)
            continue
        value_text, after = _written(lines, value)
        if value.start_mark.line > name.end_mark.line:  # a list below its key
            after.insert(0, _comment_after(lines[name.end_mark.line][name.end_mark.column :]))
        yield Key(path, value_text, " ".join(filter(None, (above, *after))))


def _above(lines: list[str], line: int, first: int) -> str:
    comments: list[str] = []
    while line > first and lines[line - 1].lstrip().startswith("#"):
        line -= 1
        comments.insert(0, lines[line].strip().lstrip("# "))
    return " ".join(comments)


def _comment_after(rest: str) -> str:
    found = re.search(r"(?:^|\s)#\s*(.*)", rest)
    return found.group(1).strip() if found else ""


def _written(lines: list[str], node: yaml.Node) -> tuple[str, list[str]]:
    """The text of the value on one line, and the comments next to its lines."""
    start, end = node.start_mark, node.end_mark
    if start.line == end.line:
        line = lines[start.line]
        return line[start.column : end.column].strip(), [_comment_after(line[end.column :])]
    plain = SafeConstructor().construct_document(node)
    written = yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, width=10_000).strip()
    part = [lines[start.line][start.column :], *lines[start.line + 1 : end.line]]
    return written, [_comment_after(line) for line in part]


def _default(entry: Any) -> str:
    if isinstance(entry, dict):
        return ", ".join(
            f"{group}: {'null' if choice is None else choice}" for group, choice in entry.items()
        )
    return str(entry)


def _targets(node: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield prefix, node["_target_"]
        for name, part in node.items():
            yield from _targets(part, f"{prefix}.{name}" if prefix else str(name))
