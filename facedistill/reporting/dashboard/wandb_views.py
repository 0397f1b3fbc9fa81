"""The dashboard's views on wandb, written from code: a workspace and a report over the runs of a project."""

from __future__ import annotations

import netrc
import os
from typing import Any

from facedistill.errors import UserError
from facedistill.evaluation.protocols.titles import protocol_title

_CURVES = (
    ("Similarity of student and teacher", ["train/cosine", "val/cosine"]),
    ("Loss", ["train/loss"]),
    ("Accuracy on validation pairs", ["val/accuracy"]),
)
_PROTOCOLS = ("lfw", "cfp_fp", "generated")
_PICTURES = (
    "figures/faces",
    *(f"figures/{p}-{kind}" for p in _PROTOCOLS for kind in ("scores-student", "roc", "det")),
)


def has_key() -> bool:
    """Whether this machine has a wandb key, in WANDB_API_KEY or in the netrc that `wandb login` writes."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1].strip("/")
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def write_views(project: str, entity: str | None) -> list[str]:
    """Saves the workspace and the report.

    Args:
        project: wandb project of the runs.
        entity: User or team; the key's own when None.

    Returns:
        Their addresses.

    Raises:
        UserError: If wandb-workspaces is not installed, there is no key, or wandb refuses.
    """
    _library()
    if not has_key():
        raise UserError("--wandb: there is no wandb key here; `wandb login`, or set WANDB_API_KEY")
    try:
        import wandb

        owner = entity or wandb.Api().default_entity
        views = [workspace(owner, project), report(owner, project)]
        for view in views:
            view.save()
    except Exception as error:  # whatever the two libraries raise of a network, a key or a project
        reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
        raise UserError(f"--wandb: wandb did not take the views of project {project} ({reason})") from error
    return [str(view.url) for view in views]


def workspace(entity: str, project: str) -> Any:
    """The workspace: curves, accuracies, pictures; runs grouped by nothing, filtered by their tags."""
    ws, wr = _library()
    sections = [
        ws.Section(name=name, panels=panels, is_open=True)
        for name, panels in (
            ("Curves", _curves(wr)),
            ("Accuracy", _bars(wr)),
            ("Faces, histograms, ROC and DET", _media(wr)),
        )
    ]
    return ws.Workspace(entity=entity, project=project, name="facedistill", sections=sections)


def report(entity: str, project: str) -> Any:
    """The report: the same panels with a sentence before each, and what the runs differ in."""
    _, wr = _library()

    def grid(panels: list[Any]) -> Any:
        return wr.PanelGrid(runsets=[wr.Runset(entity=entity, project=project)], panels=panels)

    blocks = [
        wr.P("Students distilled with facedistill. Rates are fractions; figures are of each run's own report."),
        wr.H1("Similarity over images seen"), grid(_curves(wr)),
        wr.H1("Accuracy"), grid(_bars(wr)),
        wr.H1("Faces and their resampled variations, score histograms, ROC and DET"), grid(_media(wr)),
        wr.H1("What the runs differ in"), grid([wr.RunComparer(diff_only=True)]),
    ]  # fmt: skip
    return wr.Report(entity=entity, project=project, title="facedistill", blocks=blocks, width="fluid")


def _curves(wr: Any) -> list[Any]:
    return [wr.LinePlot(title=title, x="images_seen", y=keys) for title, keys in _CURVES]


def _bars(wr: Any) -> list[Any]:
    return [
        wr.BarPlot(
            title=f"{protocol_title(protocol)} accuracy",
            metrics=[wr.SummaryMetric(f"student/{protocol}/accuracy")],
        )
        for protocol in _PROTOCOLS
    ]


def _media(wr: Any) -> list[Any]:
    return [wr.MediaBrowser(title=key.removeprefix("figures/"), media_keys=[key]) for key in _PICTURES]


def _library() -> tuple[Any, Any]:
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise UserError(
            "--wandb: the package wandb-workspaces is not installed; `pip install wandb-workspaces`"
        ) from error
    return ws, wr
