"""Lists of pairs: LFW's `pairs.txt` and tab-separated tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from facedistill.errors import DataError
from facedistill.evaluation.protocols.archives import Archive, without_suffix
from facedistill.evaluation.protocols.base import PairsProtocol
from facedistill.evaluation.protocols.images import EncodedImages

_BLOCK = 2**20  # characters


@dataclass(frozen=True)
class PairList:
    """P pairs by name: the path below the images' root, without suffix."""

    left: list[str] = field(default_factory=list)
    right: list[str] = field(default_factory=list)
    same: list[bool] = field(default_factory=list)
    fold: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.same)

    def add(self, left: str, right: str, same: bool, fold: int) -> None:
        """Appends one pair."""
        self.left.append(left)
        self.right.append(right)
        self.same.append(same)
        self.fold.append(fold)


def parse_lfw_pairs(text: str, where: str) -> PairList:
    """LFW's view 2 list: a line `10 300`, then per fold 300 genuine lines and 300 impostor lines.

    A genuine line is `Name i j`, an impostor line `Name i Other j`; image i of Name is `Name/Name_000i`.

    Args:
        text: The file's content.
        where: Its name in messages.

    Raises:
        DataError: If a line is malformed, or the number of pairs is not that of the first line.
    """
    lines = [(number, line.split()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    header = lines[0][1] if lines else []
    if len(header) != 2 or not all(_is_number(item) and int(item) > 0 for item in header):
        raise DataError(f"{where}: line 1 must hold the numbers of folds and of pairs (10 300), got {header}")
    num_folds, per_kind = int(header[0]), int(header[1])
    if len(lines) - 1 != num_folds * per_kind * 2:
        raise DataError(
            f"{where}: holds {len(lines) - 1} pairs, and its first line announces "
            f"{num_folds * per_kind * 2}; download it again"
        )
    pairs = PairList()
    for pair, (number, words) in enumerate(lines[1:]):
        fold, within = divmod(pair, 2 * per_kind)
        same = within < per_kind
        names = (words[0], words[0]) if same else (words[0], words[2] if len(words) == 4 else "")
        indices = words[1:] if same else words[1::2]
        if len(words) != (3 if same else 4) or not all(map(_is_number, indices)):
            wanted = "Name i j" if same else "Name i Other j"
            raise DataError(f"{where}: line {number} must read '{wanted}', got '{' '.join(words)}'")
        left, right = (f"{name}/{name}_{int(index):04d}" for name, index in zip(names, indices, strict=True))
        pairs.add(left, right, same, fold)
    return pairs


def parse_tsv_pairs(text: str, where: str) -> PairList:
    """A table of tab-separated lines `imageA imageB same fold`; same is 1 or 0; lines with # are comments.

    Args:
        text: The file's content.
        where: Its name in messages.

    Raises:
        DataError: If a line is malformed, or there are fewer than two folds or only one kind of pair.
    """
    pairs = PairList()
    known: dict[str, str] = {}  # a name that occurs in many pairs is parsed and held once

    def name_of(word: str) -> str:
        return known.get(word) or known.setdefault(word, without_suffix(word))

    for number, line in enumerate(_lines(text), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        words = line.rstrip("\r\n").split("\t")
        if len(words) != 4 or words[2] not in ("0", "1") or not _is_number(words[3].strip()):
            raise DataError(
                f"{where}: line {number} must hold imageA, imageB, same (0 or 1), fold; got {line!r}"
            )
        pairs.add(name_of(words[0]), name_of(words[1]), words[2] == "1", int(words[3]))
    demand_measurable(pairs, where)
    return pairs


def demand_measurable(pairs: PairList, where: str) -> None:
    """Refuses pairs without a threshold to fit on one fold and to test on another.

    Raises:
        DataError: If there are fewer than two folds or only one kind of pair.
    """
    if len(set(pairs.fold)) < 2 or len(set(pairs.same)) < 2:
        raise DataError(
            f"{where}: needs genuine and impostor pairs in at least two folds; found {len(pairs)} pairs"
        )


def _is_number(text: str) -> bool:
    """Whether it is a number of at most nine digits 0 to 9; `str.isdigit` takes those of every script, and `int` signs."""
    return text.isascii() and text.isdigit() and len(text) < 10


def _lines(text: str) -> Iterator[str]:
    """The lines of a text, without a list of all of them."""
    start = 0
    while start < len(text):
        end = text.find("\n", start + _BLOCK) + 1 or len(text)
        yield from text[start:end].splitlines()
        start = end


def pairs_protocol(name: str, archive: Archive, pairs: PairList) -> PairsProtocol:
    """Joins a list and the images it names; each distinct image is read once, in the order of the archive.

    Raises:
        DataError: If an image of the list is not in the archive.
    """
    wanted = set(pairs.left) | set(pairs.right)
    names = [image for image in archive.names() if image in wanted]
    missing = sorted(wanted - set(names))
    if missing:
        raise DataError(
            f"{name}: {len(missing)} of {len(wanted)} images are missing from {archive.where}, "
            f"the first is {missing[0]}; add them, or use the list that belongs to these images"
        )
    position = {image: index for index, image in enumerate(names)}
    return PairsProtocol(
        name=name,
        image_set=EncodedImages(archive, names),
        left=torch.tensor([position[image] for image in pairs.left]),
        right=torch.tensor([position[image] for image in pairs.right]),
        same=torch.tensor(pairs.same),
        fold=torch.tensor(pairs.fold),
    )


class PairsLayout:
    """A format of pair lists; to add one, define a subclass in this package.

    Attributes:
        name: Value of `evaluation.places.<protocol>.layout`.
        file_name: Name of the list in a folder that is given by its path.
    """

    name: ClassVar[str]
    file_name: ClassVar[str]

    @staticmethod
    def parse(text: str, where: str) -> PairList:
        """Reads the content of a list; `where` is its name in messages."""
        raise NotImplementedError


class LfwLayout(PairsLayout):
    """LFW's `pairs.txt`."""

    name, file_name = "lfw", "pairs.txt"
    parse = staticmethod(parse_lfw_pairs)


class TsvLayout(PairsLayout):
    """Tab-separated pairs."""

    name, file_name = "tsv", "pairs.tsv"
    parse = staticmethod(parse_tsv_pairs)
