"""Accuracy by the yaw of the faces, for the report and the model card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from facedistill.reporting.figures import part
from facedistill.reporting.numbers import is_number, percent, percent_interval, whole
from facedistill.reporting.record import NETWORKS, Results


@dataclass(frozen=True)
class YawRow:
    """One bucket as text: its range in degrees, its pairs, and the accuracy of both networks."""

    yaw: str
    pairs: str
    student: str
    teacher: str


@dataclass(frozen=True)
class YawTable:
    """The buckets, the title of their protocol, and the number of pairs in none of them."""

    protocol: str
    unknown: str
    rows: list[YawRow]


def yaw_table(results: Results) -> YawTable | None:
    """None if neither network was measured by yaw."""
    measured = results.student.yaw or results.teacher.yaw
    if not measured:
        return None
    rows = [
        YawRow(
            f"{one['low']:g} to {one['high']:g}°",
            f"{whole(one.get('genuine'))} genuine, {whole(one.get('impostor'))} impostor",
            *(_accuracy(results, role, one) for role in NETWORKS),
        )
        for one in _buckets(measured)
    ]
    return YawTable(results.title(str(measured.get("protocol"))), whole(measured.get("unknown")), rows)


def _buckets(yaw: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Those that have both ends."""
    found = yaw.get("buckets")
    return [
        one
        for one in (found if isinstance(found, list) else [])
        if is_number(part(one, "low")) and is_number(part(one, "high"))
    ]


def _accuracy(results: Results, role: str, bucket: Mapping[str, Any]) -> str:
    for one in _buckets(results.network(role).yaw):
        if (one["low"], one["high"]) == (bucket["low"], bucket["high"]):
            return f"{percent(part(one, 'accuracy'))} {percent_interval(part(one, 'accuracy_ci'))}".rstrip()
    return percent(None)
