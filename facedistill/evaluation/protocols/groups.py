"""Accuracy by demographic group: RFW, and any pairs protocol with a table of groups.

    rfw/data/<Group>/<identity>/<identity>_0001.jpg    aligned 112x112 faces
    rfw/txts/<Group>/<Group>_pairs.txt                 lines as in LFW's list, without its header

RFW's four lists hold ten folds of 300 genuine and 300 impostor pairs each.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facedistill.errors import DataError
from facedistill.evaluation.protocols.archives import FolderArchive, read_list, without_suffix
from facedistill.evaluation.protocols.base import FolderLayout, PairsProtocol, ProtocolResult
from facedistill.evaluation.protocols.images import EncodedImages
from facedistill.evaluation.protocols.pairs import PairList, pairs_protocol, parse_lfw_pairs
from facedistill.metrics.verification import tenfold_accuracy, verification_summary

NUM_FOLDS = 10
MIXED = -1  # a pair of two groups


@dataclasses.dataclass(frozen=True, eq=False)
class GroupedPairs(PairsProtocol):
    """Pairs whose identities belong to groups.

    Attributes:
        group: (P,) index into `group_names`, -1 for a pair across groups.
        group_names: G names.
    """

    group: Tensor = dataclasses.field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    group_names: tuple[str, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the pairs and the groups."""
        pairs = PairsProtocol(self.name, self.image_set, self.left, self.right, self.same, self.fold)
        return hashlib.sha256(
            f"{pairs.fingerprint}{self.group.tolist()}{self.group_names}".encode()
        ).hexdigest()

    def figures(self, score: Tensor, *, resamples: int) -> ProtocolResult:
        """Figures of all pairs together, and `groups`, see `group_figures`."""
        measured = super().figures(score, resamples=resamples)
        groups = group_figures(
            score, self.same, self.fold, self.group, self.group_names, measured.figures["threshold"],
            resamples=resamples,
        )  # fmt: skip
        return ProtocolResult({**measured.figures, "groups": groups}, measured.scores)


def group_figures(
    score: Tensor, same: Tensor, fold: Tensor, group: Tensor, names: Sequence[str], threshold: float, *,
    resamples: int = 500,
) -> dict[str, Any]:  # fmt: skip
    """Figures of each group and their differences.

    The accuracy of each group uses its own thresholds (as RFW's papers do); `far` and `tar` use one threshold
    for all groups, as a deployed system does.

    Args:
        score: (P,) scores.
        same: (P,) true for genuine pairs.
        fold: (P,) fold of each pair.
        group: (P,) index into `names`, -1 for a pair across groups.
        names: G names.
        threshold: The common threshold.
        resamples: Bootstrap samples of the intervals.

    Returns:
        `by_group`: `verification_summary` of each, with `far_at_threshold` and `tar_at_threshold`;
        `threshold`; `mixed`: number of pairs across groups; of the accuracies `accuracy_mean`,
        `accuracy_std` (over groups, n - 1), `accuracy_gap` (best - worst) and the intervals
        `accuracy_std_ci`, `accuracy_gap_ci` (bootstrap over folds); `error_ratio`: highest error over
        lowest (RFW's skewed error ratio), None where the lowest is 0.
    """
    by_group: dict[str, Any] = {}
    per_fold = []
    for number, name in enumerate(names):
        mine = group == number
        entry = verification_summary(score[mine], same[mine], fold[mine])
        accepted = score[mine].double() >= threshold
        entry["tar_at_threshold"] = accepted[same[mine]].double().mean().item()
        entry["far_at_threshold"] = accepted[~same[mine]].double().mean().item()
        by_group[name] = entry
        per_fold.append(tenfold_accuracy(score[mine], same[mine], fold[mine])[1].numpy())
    accuracy = np.array([entry["accuracy"] for entry in by_group.values()])
    rng = np.random.default_rng(0)
    drawn = np.stack(
        [_resampled_means(folds, resamples, rng) for folds in per_fold], axis=1
    )  # (resamples, G)
    tails = [0.025, 0.975]
    lowest = float(1 - accuracy.max())
    return {
        "by_group": by_group,
        "threshold": threshold,
        "mixed": int((group == MIXED).sum()),
        "accuracy_mean": float(accuracy.mean()),
        "accuracy_std": float(accuracy.std(ddof=1)),
        "accuracy_std_ci": np.quantile(drawn.std(axis=1, ddof=1), tails).tolist(),
        "accuracy_gap": float(np.ptp(accuracy)),
        "accuracy_gap_ci": np.quantile(np.ptp(drawn, axis=1), tails).tolist(),
        "error_ratio": float(1 - accuracy.min()) / lowest if lowest > 0 else None,
    }


def with_groups(protocol: PairsProtocol, text: str, where: str) -> GroupedPairs:
    """Joins a pairs protocol and a table of tab-separated lines `name group`.

    A name is that of an image or of a folder above it; lines with # are comments.

    Raises:
        DataError: If a line is malformed, an image belongs to no group, or a group lacks genuine or
            impostor pairs, or pairs in two folds.
    """
    table: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.rstrip("\r\n").split("\t")
        if not line.strip() or line.startswith("#"):
            continue
        if len(words) != 2 or not all(words):
            raise DataError(
                f"{where}: line {number} must hold a name and a group, tab-separated; got {line!r}"
            )
        table[without_suffix(words[0])] = words[1]
    if not isinstance(protocol.image_set, EncodedImages):
        raise DataError(f"{where}: {protocol.name} has no image names to group by; use a folder or a tar")
    names = protocol.image_set.names
    of_image = [_group_of(name, table) for name in names]
    missing = [name for name, group in zip(names, of_image, strict=True) if group is None]
    if missing:
        raise DataError(
            f"{where}: {len(missing)} of {len(names)} images of {protocol.name} have no group, the first is {missing[0]}; "
            "add a line for it or for its folder"
        )
    groups = sorted({str(group) for group in of_image})
    index = torch.tensor([groups.index(str(group)) for group in of_image])
    left, right = index[protocol.left], index[protocol.right]
    return _grouped(protocol, torch.where(left == right, left, MIXED), groups, where)


def open_rfw(folder: Path, name: str) -> GroupedPairs:
    """Opens RFW, or any folder with its layout and other groups.

    Raises:
        DataError: If lists or images are missing (with counts) or malformed.
    """
    lists = sorted((folder / "txts").glob("*/*_pairs.txt"))
    groups = [path.parent.name for path in lists]
    if len(groups) < 2 or len(set(groups)) != len(groups):
        raise DataError(
            f"{folder}: holds {len(groups)} lists txts/<Group>/<Group>_pairs.txt; at least two groups with one list "
            "each are needed"
        )
    archive = FolderArchive(folder / "data")
    joined, group = PairList(), []
    for number, path in enumerate(lists):
        lines = [line for line in read_list(path).splitlines() if line.strip()]
        per_kind = len(lines) // (2 * NUM_FOLDS)
        pairs = parse_lfw_pairs("\n".join([f"{NUM_FOLDS} {per_kind or 1}", *lines]), str(path))
        for left, right, same, fold in zip(pairs.left, pairs.right, pairs.same, pairs.fold, strict=True):
            joined.add(f"{groups[number]}/{left}", f"{groups[number]}/{right}", same, fold)
            group.append(number)
    return _grouped(pairs_protocol(name, archive, joined), torch.tensor(group), groups, str(folder))


def _grouped(protocol: PairsProtocol, group: Tensor, names: Sequence[str], where: str) -> GroupedPairs:
    for number, name in enumerate(names):
        mine = group == number
        kinds, folds = len(protocol.same[mine].unique()), len(protocol.fold[mine].unique())
        if kinds < 2 or folds < 2:
            raise DataError(
                f"{where}: group {name} has {int(mine.sum())} pairs with {kinds} of the two kinds in {folds} folds; "
                "it needs genuine and impostor pairs in at least two folds"
            )
    if len(names) < 2:
        raise DataError(f"{where}: names {len(names)} group; at least two are needed")
    return GroupedPairs(
        protocol.name, protocol.image_set, protocol.left, protocol.right, protocol.same, protocol.fold,
        group=group, group_names=tuple(names),
    )  # fmt: skip


def _group_of(name: str, table: dict[str, str]) -> str | None:
    """The group of the image, else of the nearest folder above it that has one."""
    while name:
        if name in table:
            return table[name]
        name = name.rpartition("/")[0]
    return None


def _resampled_means(values: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    return values[rng.integers(len(values), size=(resamples, len(values)))].mean(axis=1)


class RfwLayout(FolderLayout):
    """RFW's lists and faces."""

    name = "rfw"
    contents = "with txts and the aligned 112x112 faces in data"
    open = staticmethod(open_rfw)
