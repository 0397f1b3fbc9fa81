"""Accuracy under corruptions for the report: a table, bars, and what each corruption does to a rendered face."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from facedistill.data.augmentation.corruptions import CORRUPTIONS, corrupt
from facedistill.evaluation.robustness import PLAIN
from facedistill.images import to_float, to_uint8
from facedistill.reporting.figures import Estimate, estimates, part
from facedistill.reporting.numbers import is_number, percent, percent_interval, whole
from facedistill.reporting.pages import jpeg_uri
from facedistill.reporting.record import NETWORKS, Results
from facedistill.reporting.run.files import Faces
from facedistill.reporting.style import Drawing, Theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class RobustnessRow:
    """Accuracy of both networks under one corruption as text; `lost` is what a network loses to it, with its interval."""

    label: str
    student: str
    student_interval: str
    student_lost: str
    teacher: str
    teacher_interval: str
    teacher_lost: str


@dataclass(frozen=True)
class RobustnessTable:
    """The rows of both networks and the pairs that they were measured on, in words."""

    pairs: str
    rows: list[RobustnessRow]


def robustness_table(results: Results) -> RobustnessTable | None:
    """None if neither network was measured."""
    conditions = _conditions(results)
    measured = results.student.robustness or results.teacher.robustness
    if not conditions:
        return None
    counts = [whole(measured.get(key)) for key in ("pairs", "genuine", "impostor")]
    title = results.title(str(measured.get("protocol")))
    pairs = "{}: {} pairs, {} genuine and {} impostor".format(title, *counts)
    rows = [
        RobustnessRow(_label(name), *(text for role in NETWORKS for text in _cells(results, role, name)))
        for name in conditions
    ]
    return RobustnessTable(pairs, rows)


def robustness_drawings(results: Results) -> list[Drawing]:
    """Bars of the accuracies; none if nothing was measured."""
    table = robustness_table(results)
    if table is None:
        return []
    said = "; ".join(f"{row.label}: student {row.student}, teacher {row.teacher}" for row in table.rows)
    draw = partial(_draw, names=_conditions(results), results=results)
    return [
        Drawing(
            "robustness", "Accuracy under corruptions", f"{table.pairs}. Accuracy: {said}.", draw, (6.2, 4.2)
        )
    ]


def corrupted_faces(faces: Faces) -> list[tuple[str, str]]:
    """A rendered face under each corruption: its label and a data URI."""
    face = to_float(torch.from_numpy(faces.base[:1]))
    shown = {PLAIN: face} | {
        name: corrupt(face, name, seed=0, indices=torch.zeros(1, dtype=torch.int64)) for name in CORRUPTIONS
    }
    return [
        (_label(name), _uri(to_uint8(image)[0].permute(1, 2, 0).numpy())) for name, image in shown.items()
    ]


def _conditions(results: Results) -> list[str]:
    found = [part(results.network(role).robustness, "conditions") for role in NETWORKS]
    return list(dict.fromkeys(name for one in found if isinstance(one, Mapping) for name in one))


def _label(name: str) -> str:
    return "as they are" if name == PLAIN else name.replace("_", " ").replace("jpeg", "JPEG")


def _accuracy(results: Results, role: str, name: str) -> Estimate:
    entry = part(results.network(role).robustness, "conditions", name)
    return estimates(entry if isinstance(entry, Mapping) else {}).get("accuracy", Estimate("accuracy"))


def _cells(results: Results, role: str, name: str) -> tuple[str, str, str]:
    accuracy = _accuracy(results, role, name)
    entry = part(results.network(role).robustness, "conditions", name)
    loss, interval = part(entry, "loss"), part(entry, "loss_ci")
    lost = f"{100 * loss:.2f} {percent_interval(interval)}" if is_number(loss) else ""
    return percent(accuracy.value), percent_interval(accuracy.interval), lost


def _uri(pixels: np.ndarray) -> str:
    return jpeg_uri(Image.fromarray(pixels), quality=92, subsampling=0)


def _draw(axes: Axes, theme: Theme, names: list[str], results: Results) -> None:
    place = np.arange(len(names))
    lowest = 1.0
    for role, shift in zip(NETWORKS, (-0.2, 0.2), strict=True):
        found = [_accuracy(results, role, name) for name in names]
        values = np.array([np.nan if one.value is None else one.value for one in found])
        if np.isnan(values).all():
            continue
        ends = np.array([one.interval or (value, value) for one, value in zip(found, values, strict=True)])
        color: Any = theme.of(role)
        axes.barh(place + shift, 100 * values, 0.36, color=color, label=role, alpha=0.85)
        axes.errorbar(
            100 * values, place + shift, xerr=100 * np.abs(ends - values[:, None]).T, fmt="none", ecolor=theme.ink,
            elinewidth=1, capsize=2,
        )  # fmt: skip
        axes.axvline(100 * values[0], color=color, linewidth=1, linestyle=(0, (4, 2)))
        lowest = min(lowest, float(np.nanmin(np.minimum(values, ends[:, 0]))))
    axes.set_xlim(min(50.0, 100 * lowest - 2), 100.5)  # 50 % is chance
    axes.set_yticks(place, [_label(name) for name in names])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("accuracy, %")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
