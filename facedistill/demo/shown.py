"""What the page shows of a model: networks, thresholds, score histograms and the card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facedistill.api.student import Student, load
from facedistill.api.thresholds import choose_threshold
from facedistill.demo.card import card_html
from facedistill.errors import UserError
from facedistill.evaluation.protocols.titles import in_order
from facedistill.evaluation.thresholds import Threshold, thresholds_from_results
from facedistill.reporting.record import Results
from facedistill.reporting.run.files import read_scores
from facedistill.reporting.run.pictures import score_histogram
from facedistill.runs.folder import RunFolder


@dataclass(frozen=True)
class Shown:
    """A model as the page shows it.

    Attributes:
        title: Name of the run or file.
        networks: `student`, and `teacher` if the run's teacher can be loaded.
        choices: One for each protocol and FAR: `protocol`, `title`, `far` (None: scores only), and `thresholds` by
            network. The first is shown first.
        histograms: By network and protocol, see `score_histogram`.
        card: The model card as HTML; "" if there is none.
        absent: Why there is no `teacher`, `threshold`, `histogram` or `card`, a sentence each.
    """

    title: str
    networks: Mapping[str, Student]
    choices: list[dict[str, Any]]
    histograms: Mapping[str, Mapping[str, Any]]
    card: str
    absent: Mapping[str, str]


def open_model(source: str, far: float | None = None) -> Shown:
    """Loads a student, and from its run folder the teacher, the scores and the card, where they exist.

    Args:
        source: See `facedistill.load`.
        far: False accept rate of the decision that is shown first; None: 1e-3, or 1e-2 if only that was measured.

    Raises:
        UserError: If the student cannot be loaded, or has thresholds but none at this FAR.
    """
    student = load(source)
    first = choose_threshold(student.thresholds, far)
    folder = student.path.parent if student.path else None
    if folder is None or not (folder / "run.json").is_file():
        reason = f"{source} is not in the folder of a run"
        absent = {
            "teacher": f"No teacher is shown: {reason}.",
            "histogram": f"No score histogram is shown: {reason}.",
            "card": f"No model card is shown: {reason}.",
        }
        return Shown(
            student.run or str(source), {"student": student}, _choices({"student": student.thresholds}, {}, {}, first),
            {}, "", absent | _no_threshold(student),
        )  # fmt: skip
    RunFolder(folder).refuse_if_locked()
    absent = _no_threshold(student)
    networks = {"student": student}
    try:
        networks["teacher"] = _teacher(folder)
    except UserError as error:
        absent["teacher"] = f"No teacher is shown: {error}."
    histograms, titles, thresholds = {}, {}, {"student": student.thresholds}
    try:
        results = Results.load(folder / "results.json")
        titles = {name: results.title(name) for name in results.student.protocols}
        thresholds["teacher"] = tuple(
            one for one in thresholds_from_results(results.teacher.protocols) if one.flip == "none"
        )
        histograms = {role: _histograms(folder, role, titles) for role in networks}
    except UserError as error:
        absent["histogram"] = f"No score histogram is shown: {error}."
    if not any(histograms.values()):
        absent.setdefault("histogram", f"No score histogram is shown: {folder.name} was not evaluated.")
    card = card_html(folder)
    if not card:
        absent["card"] = f"No model card is shown: {folder.name} has no README.md."
    choices = _choices({role: thresholds.get(role, ()) for role in networks}, histograms, titles, first)
    return Shown(student.run or folder.name, networks, choices, histograms, card, absent)


def _teacher(folder: Path) -> Student:
    from facedistill.runs.frozen_networks import load_teacher

    config = RunFolder(folder).config()
    if config is None or "teacher" not in config:
        raise UserError(f"{folder.name} has no config.yaml that names one")
    config.teacher.compile = False  # compiling pays for many faces only
    teacher = load(load_teacher(config))
    teacher.run = str(config.teacher.get("name") or config.teacher.get("asset") or "")
    return teacher


def _histograms(folder: Path, role: str, protocols: Mapping[str, str]) -> dict[str, Any]:
    found = {name: read_scores(folder, name, role) for name in protocols}
    return {
        name: score_histogram(scores.genuine, scores.impostor)
        for name, scores in found.items()
        if scores is not None
    }


def _choices(
    thresholds: Mapping[str, tuple[Threshold, ...]],
    histograms: Mapping[str, Mapping[str, Any]],
    titles: Mapping[str, str],
    first: Threshold | None,
) -> list[dict[str, Any]]:
    """Every protocol and FAR that was measured, and protocols that have only scores; `first` first."""
    by_key: dict[tuple[str, float | None], dict[str, float]] = {}
    for role, fitted in thresholds.items():
        for one in fitted:
            by_key.setdefault((one.protocol, one.far), {})[role] = one.threshold
    measured = {protocol for protocol, _ in by_key}
    for protocol in dict.fromkeys(name for found in histograms.values() for name in found):
        if protocol not in measured:
            by_key[protocol, None] = {}
    wanted, order = (first.protocol, first.far) if first else None, in_order({key[0] for key in by_key})
    keys = sorted(by_key, key=lambda key: (key != wanted, order.index(key[0]), key[1] or 0))
    return [
        {
            "protocol": protocol,
            "title": titles.get(protocol, protocol),
            "far": far,
            "thresholds": by_key[protocol, far],
        }
        for protocol, far in keys
    ]


def _no_threshold(student: Student) -> dict[str, str]:
    if student.thresholds:
        return {}
    return {
        "threshold": "The student carries no threshold, so there is no decision; facedistill evaluate fits one."
    }
