"""The figures of one network on one protocol, as results.json holds them, by one flat name each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from facedistill.reporting.numbers import is_number

_LABELS = {"accuracy": "accuracy", "auc": "AUC", "eer": "EER"}
_BY_RATE = (
    # path in the file, key of the value, prefix of the name, label
    (("tar",), "tar", "tar@", "TAR at FAR {}"),
    (("tar_nearest",), "tar", "tar_nearest@", "TAR at FAR {}, nearest"),
    (("identification", "rank"), "rate", "rank-", "rank-{}"),
    (("identification", "tpir"), "tpir", "tpir@", "TPIR at FPIR {}"),
    (("groups", "by_group"), "accuracy", "accuracy/", "accuracy, {}"),
)
_GROUPS = {"accuracy_gap": "gap between groups", "accuracy_std": "standard deviation over groups"}


@dataclass(frozen=True)
class Estimate:
    """One figure.

    Attributes:
        label: What people call it.
        value: A fraction; None where it was not measured.
        interval: 95 %; None where there is none.
        reason: Why there is no value, "not measurable"; empty if nothing says so.
    """

    label: str
    value: float | None = None
    interval: tuple[float, float] | None = None
    reason: str = ""


def estimates(figures: Mapping[str, Any]) -> dict[str, Estimate]:
    """All figures of a protocol: `accuracy`, `auc`, `eer`, `tar@1e-3`, `rank-1`, `tpir@1e-2`, `accuracy/<group>`, …"""
    return dict(_estimates(figures))


def label_of(name: str) -> str:
    """What people call a figure: "TAR at FAR 1e-3" of `tar@1e-3`; the name itself where there is no other word."""
    for _, _, prefix, label in _BY_RATE:
        if name.startswith(prefix):
            return label.format(name.removeprefix(prefix))
    return _LABELS.get(name, name)


def part(content: Any, *keys: str) -> Any:
    """`content[a][b]…`, or None where something on the way is missing or no mapping."""
    for key in keys:
        content = content.get(key) if isinstance(content, Mapping) else None
    return content


def _estimates(figures: Mapping[str, Any]) -> Iterator[tuple[str, Estimate]]:
    for name, label in _LABELS.items():
        if name in figures:
            yield name, _estimate(label, figures[name], figures.get(f"{name}_ci"))
    for path, key, prefix, label in _BY_RATE:
        entries = part(figures, *path)
        for rate, entry in entries.items() if isinstance(entries, Mapping) else ():
            if isinstance(entry, Mapping):
                interval = entry.get("ci", entry.get(f"{key}_ci"))
                yield f"{prefix}{rate}", _estimate(label.format(rate), entry.get(key), interval)
            else:
                yield f"{prefix}{rate}", _estimate(label.format(rate), entry, None)
    for name, label in _GROUPS.items():
        if (value := part(figures, "groups", name)) is not None:
            yield f"groups/{name}", _estimate(label, value, part(figures, "groups", f"{name}_ci"))


def _estimate(label: str, value: Any, interval: Any) -> Estimate:
    if not is_number(value):
        return Estimate(label, reason=value if isinstance(value, str) else "")
    has_interval = isinstance(interval, list | tuple) and len(interval) == 2 and all(map(is_number, interval))
    return Estimate(label, value, (interval[0], interval[1]) if has_interval else None)
