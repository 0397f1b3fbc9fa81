"""The student's thresholds for a report, and whether those fitted on frontal faces hold on profiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from facedistill.evaluation.protocols.find import default_places
from facedistill.evaluation.protocols.titles import in_order
from facedistill.evaluation.thresholds import Threshold, default_threshold, thresholds_from_results
from facedistill.metrics.confidence import Interval, jeffreys
from facedistill.reporting.numbers import percent, percent_interval, whole
from facedistill.reporting.record import Results
from facedistill.reporting.run.files import RunFiles


@dataclass(frozen=True)
class Counted:
    """A rate with its 95 % interval and its counts."""

    accepted: int
    pairs: int

    @property
    def rate(self) -> float:
        """A fraction."""
        return self.accepted / self.pairs

    @property
    def interval(self) -> Interval:
        """Jeffreys', at 95 %."""
        return jeffreys(self.accepted, self.pairs)

    def __str__(self) -> str:
        return f"{percent(self.rate)} {percent_interval(self.interval)}, {whole(self.accepted)} of {whole(self.pairs)}"


@dataclass(frozen=True)
class Transfer:
    """A threshold on the pairs of another protocol.

    Attributes:
        fitted: The threshold.
        fitted_on: Title of its protocol.
        used_on: Title of the other protocol.
        far: False accepts there.
        tar: True accepts there.
    """

    fitted: Threshold
    fitted_on: str
    used_on: str
    far: Counted
    tar: Counted

    @property
    def fitted_far(self) -> str:
        """The FAR that it was fitted at, as text."""
        return _far_text(self.fitted.far)

    @property
    def warning(self) -> str:
        """A sentence, if more impostor or fewer genuine pairs are accepted there by more than chance; else empty."""
        problems = []
        if self.far.interval[0] > self.fitted.far:
            problems.append(f"accepts {percent(self.far.rate)} of the impostor pairs")
        if self.tar.interval[1] < self.fitted.tar_ci[0]:
            problems.append(
                f"accepts {percent(self.tar.rate)} of the genuine pairs, not {percent(self.fitted.tar)}"
            )
        if not problems:
            return ""
        return (
            f"The threshold {self.fitted.threshold:.3f} fitted on {self.fitted_on} at FAR {self.fitted_far} does "
            f"not hold on {self.used_on}: it {' and '.join(problems)}."
        )


@dataclass(frozen=True)
class ThresholdRow:
    """One threshold as text."""

    protocol: str
    far: str
    threshold: str
    tar: str
    interval: str
    genuine: str
    impostor: str
    is_default: bool


def threshold_rows(results: Results) -> list[ThresholdRow]:
    """All thresholds of the student, protocols in customary order."""
    protocols = results.student.protocols
    thresholds = thresholds_from_results({name: protocols[name] for name in in_order(protocols)})
    default = default_threshold(thresholds)
    return [
        ThresholdRow(
            results.title(one.protocol), _far_text(one.far), f"{one.threshold:.4f}", percent(one.tar),
            percent_interval(one.tar_ci), whole(one.genuine), whole(one.impostor), one == default,
        )
        for one in thresholds
    ]  # fmt: skip


def transfers(files: RunFiles) -> list[Transfer]:
    """Thresholds fitted on frontal faces, used on profiles; of the protocols whose scores are in the run folder."""
    places, results = default_places(), files.results
    profiles = [name for name, place in places.items() if place.pose == "profile"]
    fitted = [
        one
        for one in thresholds_from_results(results.student.protocols)
        if one.protocol in places and places[one.protocol].pose == "frontal"
    ]
    return [
        Transfer(
            one, results.title(one.protocol), results.title(other), _accepted(scores.impostor, one),
            _accepted(scores.genuine, one),
        )
        for other, one in product(profiles, fitted)
        if (scores := files.scores.get((other, "student"))) is not None
    ]  # fmt: skip


def warnings(found: Sequence[Transfer]) -> list[Transfer]:
    """Those that do not hold, at the lowest false accept rate."""
    lowest = min((one.fitted.far for one in found), default=0.0)
    return [one for one in found if one.fitted.far == lowest and one.warning]


def _accepted(score: np.ndarray, threshold: Threshold) -> Counted:
    return Counted(int((score.astype(np.float64) >= threshold.threshold).sum()), len(score))


def _far_text(far: float) -> str:
    return f"{far:.0e}".replace("e-0", "e-")
