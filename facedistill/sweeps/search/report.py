"""What a search found: a table of its trials and a picture of which choices mattered."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facedistill.reporting.style import DPI, LIGHT, plain
from facedistill.system.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FEW = 4  # trials that it takes before an importance means anything


def write_report(study: Any, folder: Path, metric: str) -> list[Path]:
    """Writes trials.csv, trials.md and, from four finished trials on, importance.png.

    Args:
        study: An Optuna study.
        folder: Where they go.
        metric: What was sought.

    Returns:
        The files written.
    """
    keys = list(dict.fromkeys(key for trial in study.trials for key in trial.params))
    sign = -1 if study.direction.name == "MAXIMIZE" else 1
    states = ["COMPLETE", "PRUNED", "RUNNING", "WAITING", "FAIL"]
    trials = sorted(
        study.trials,
        key=lambda trial: (
            states.index(trial.state.name),
            sign * trial.value if trial.state.name == "COMPLETE" else trial.number,
        ),
    )
    rows = [["trial", "state", metric, *keys, "run"]]
    for trial in trials:
        state = {"COMPLETE": "finished", "FAIL": "failed"}.get(trial.state.name, trial.state.name.lower())
        reached = f"{trial.value:.4f}" if trial.state.name == "COMPLETE" else ""
        chosen = [_text(trial.params.get(key, "")) for key in keys]
        rows.append([str(trial.number), state, reached, *chosen, trial.user_attrs.get("run", "")])
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_atomically(folder / "trials.csv", text.getvalue())
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    write_atomically(folder / "trials.md", "\n".join(lines) + "\n")
    written = [folder / "trials.csv", folder / "trials.md"]
    if _draw(study, keys, metric, folder / "importance.png"):
        written.append(folder / "importance.png")
    return written


def importances(study: Any) -> dict[str, float]:
    """Share of the variance between finished trials that each choice explains by itself, [0, 1], largest first.

    fANOVA on a forest (Hutter et al. 2014). Optuna's default, PED-ANOVA, asks what sets the best tenth apart; of a few
    dozen trials that is a handful, and a choice that decides between 0.1 and 0.9 can come out as nothing.
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    return dict(get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0)))


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _draw(study: Any, keys: list[str], metric: str, path: Path) -> bool:
    """Above: importance of each choice. Below it what each trial reached, over each choice."""
    finished = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    if len(finished) < _FEW or len({trial.value for trial in finished}) == 1:
        return False
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    importance = importances(study)
    keys = [key for key in importance if key in keys]
    figure = Figure(figsize=(2.6 * max(2, len(keys)), 2.2 + 0.3 * len(keys) + 2.6), layout="constrained")
    FigureCanvasAgg(figure)
    parts: Any = figure.subfigures(2, 1, height_ratios=(1.0 + 0.3 * len(keys), 2.6))
    above, below = parts
    axes = above.add_subplot()
    axes.barh(keys[::-1], [importance[key] for key in keys[::-1]], color=LIGHT.student, height=0.6)
    axes.set_xlabel("importance (share of the variance between trials, fANOVA)")
    axes.set_title(
        f"{len(finished)} finished trials of {study.study_name}", fontsize=9, color=LIGHT.faint, loc="left"
    )
    plain(axes)
    axes.tick_params(length=0, labelsize=8)
    for number, key in enumerate(keys):
        axes = below.add_subplot(1, len(keys), number + 1)
        _scatter(axes, key, finished)
        axes.set_ylabel(metric if not number else "")
        plain(axes)
        axes.tick_params(length=0, labelsize=8)
    write_atomically(
        path, lambda file: figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    )
    return True


def _scatter(axes: Axes, key: str, finished: list[Any]) -> None:
    distribution = finished[0].distributions[key]
    values = [trial.params[key] for trial in finished]
    if hasattr(distribution, "choices"):
        choices = list(distribution.choices)
        axes.plot([choices.index(value) for value in values], [trial.value for trial in finished], "o",
                  color=LIGHT.student, markersize=4, alpha=0.7)  # fmt: skip
        axes.set_xticks(range(len(choices)), choices, rotation=20 if len(choices) > 2 else 0)
        axes.set_xlim(-0.5, len(choices) - 0.5)
    else:
        axes.plot(
            values, [trial.value for trial in finished], "o", color=LIGHT.student, markersize=4, alpha=0.7
        )
        if distribution.log:
            axes.set_xscale("log")
    axes.set_xlabel(key)
