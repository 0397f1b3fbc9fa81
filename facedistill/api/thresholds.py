"""Which of a model's thresholds decides."""

from __future__ import annotations

from collections.abc import Sequence

from facedistill.errors import UserError
from facedistill.evaluation.thresholds import Threshold, default_threshold


def choose_threshold(
    thresholds: Sequence[Threshold], far: float | None = None, protocol: str | None = None
) -> Threshold | None:
    """The threshold at a FAR; of several protocols, that with the most impostor pairs.

    Args:
        thresholds: Of a student.
        far: False accept rate, a fraction; None: 1e-3, or 1e-2 if only that was measured.
        protocol: Only of this one.

    Returns:
        None if `thresholds` is empty.

    Raises:
        UserError: If there are thresholds and none for this FAR and protocol.
    """
    found = default_threshold((one for one in thresholds if protocol in (None, one.protocol)), far)
    if found is not None or not thresholds:
        return found
    asked = [f"far={far:g}"] * (far is not None) + [f"protocol={protocol}"] * (protocol is not None)
    known = "; ".join(
        f"{name}: {', '.join(f'{one.far:g}' for one in thresholds if one.protocol == name)}"
        for name in dict.fromkeys(one.protocol for one in thresholds)
    )
    raise UserError(
        f"{', '.join(asked) or 'far'}: the model has no such threshold; it has, by FAR, {known}; or give a threshold"
    )
