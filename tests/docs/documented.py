"""Finds the commands, blocks and names in the pages of the documentation."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)


@dataclass(frozen=True)
class Command:
    """One command line of a page: its words, and the comment behind it."""

    page: str
    words: tuple[str, ...]
    remark: str

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)}"


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a page in one language, "" for none."""
    return [content for named, content in BLOCK.findall(text) if named == language]


def commands(path: Path) -> Iterator[Command]:
    """Commands in the blocks of a page that have no language and hold a known program at the start of a line."""
    for block in blocks(path.read_text(encoding="utf-8"), ""):
        for line in block.replace("\\\n", " ").splitlines():
            if re.match(r"(facedistill|make|python|source|ls|cp|export|eval) ", line):
                yield from _of_line(path.name, line)


def _of_line(page: str, line: str) -> Iterator[Command]:
    line, _, remark = line.partition("  #") if "  #" in line else line.partition(" # ")
    line = re.sub(r"\[(--[^\]]*|[A-Z]+=[^\]]*)\]", r"\1", line)  # what a synopsis leaves to choose is chosen
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";")
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word != ";":
            words.append(word)
        elif words:
            yield Command(page, tuple(words), remark.strip())
            words = []


def inline(text: str) -> list[str]:
    """What stands between single backticks outside blocks."""
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", BLOCK.sub("", text))
