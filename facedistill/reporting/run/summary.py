"""The summary of a run, one of many; of a damaged folder, too."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from facedistill.errors import UserError
from facedistill.evaluation.protocols.titles import in_order
from facedistill.reporting.cost_record import FILE, CostRow, read_costs
from facedistill.reporting.figures import estimates, part
from facedistill.reporting.numbers import is_number, whole
from facedistill.reporting.record import Results, RunRecord
from facedistill.reporting.run.facts import NOT_RECORDED, network_name
from facedistill.reporting.run.files import Series, read_config, read_curves
from facedistill.reporting.run.pictures import RunPictures, read_pictures
from facedistill.reporting.run.reduced import thinned
from facedistill.system.files import refuse_links

DAMAGED = "damaged"
SHOWN_CURVES = ("train/loss", "val/cosine", "val/accuracy")
_NO_SETTINGS = ("name", "runs_dir", "force", "logger", "launcher")  # how a run is started, not what it is
_T = TypeVar("_T")


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of the student on one protocol, a fraction, with its 95 % interval and threshold if known."""

    value: float
    interval: tuple[float, float] | None
    threshold: float | None = None


@dataclass(frozen=True)
class RunSummary:
    """One run of many; what its files do not say is None or "not recorded".

    Attributes:
        folder: The run folder.
        status: As run.json has it; "damaged" where `problems` has one.
        copy_of: Id of the run of which this folder is a copy.
        images: Images seen; of a run that still trains, as far as metrics.csv tells.
        cosine: Last validation cosine of student and teacher.
        accuracy: By protocol, in customary order.
        curves: Those of `SHOWN_CURVES` that were logged, images seen and values, thinned to what a chart can show.
        settings: The configuration, flat: "optimizer.lr" -> "0.001", classes by their last name.
        pictures: Faces, histograms and ROC.
        problems: One sentence for each file that is missing or broken.
        costs: Of the student's files, as `facedistill cost` measured them.
    """

    folder: Path
    id: str
    name: str
    method: str = NOT_RECORDED
    backbone: str = NOT_RECORDED
    data: str = NOT_RECORDED
    strategy: str = NOT_RECORDED
    status: str = DAMAGED
    seed: int | None = None
    images: float | None = None
    images_per_s: float | None = None
    cosine: float | None = None
    accuracy: Mapping[str, Accuracy] = field(default_factory=dict)
    curves: Mapping[str, tuple[list[int], list[float]]] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    pictures: RunPictures = field(default_factory=RunPictures)
    problems: tuple[str, ...] = ()
    copy_of: str | None = None
    costs: tuple[CostRow, ...] = ()


def summarize(folder: Path) -> RunSummary:
    """Reads a run folder; a broken or missing file becomes one sentence of `problems`."""
    try:
        refuse_links(folder)
    except UserError as error:
        return RunSummary(folder, folder.name, folder.name, problems=(f"{error}.",))
    problems: list[str] = []

    def read(name: str, load: Callable[[Path], _T], default: _T) -> _T:
        try:
            return load(folder / name)
        except (UserError, OSError, ValueError, csv.Error) as error:
            reason = " ".join(str(error).split()).replace(f"{folder / name}", name, 1)
            problems.append(
                f"{reason if isinstance(error, UserError) else f'{name}: {reason}'}".rstrip(".") + "."
            )
            return default

    config: dict[str, Any] = read("config.yaml", read_config, {})
    record = read("run.json", RunRecord.load, RunRecord())
    results = read("results.json", Results.load, Results())
    curves: dict[str, Series] = read("metrics.csv", read_curves, {})
    costs: list[CostRow] = read(FILE, read_costs, [])
    needed = ("config.yaml", "run.json", *(["results.json"] if record.status == "finished" else []))
    missing = [name for name in needed if not (folder / name).is_file()]
    problems += [f"{name} is missing: the run was stopped before training wrote it." for name in missing]
    accuracy = _accuracies(results)
    pictures = read_pictures(folder, accuracy)
    problems += pictures.problems
    cosine = curves["val/cosine"].value[-1] if "val/cosine" in curves else None
    logged = max((float(series.images_seen[-1]) for series in curves.values()), default=None)
    images = logged if record.images_seen is None else record.images_seen
    return RunSummary(
        folder=folder,
        id=str(record.id or folder.name),
        name=str(record.name or config.get("name") or re.sub(r"-[0-9a-f]{8}$", "", folder.name)),
        method=_class_name(config, "method"),
        backbone=_class_name(config, "backbone"),
        data=data_label(config.get("data")),
        strategy=_strategy(config.get("trainer"), record.machine.get("gpu")),
        status=DAMAGED if problems else str(record.status or NOT_RECORDED),
        seed=_number(record.seed, int),
        images=_number(images, float),
        images_per_s=_number(record.images_per_s, float),
        cosine=_number(float(cosine), float) if cosine is not None else None,
        accuracy=accuracy,
        curves={
            name: thinned(curves[name], smooth=name.startswith("train/"))
            for name in SHOWN_CURVES
            if name in curves
        },
        settings=_flat({key: node for key, node in config.items() if key not in _NO_SETTINGS}),
        pictures=pictures,
        problems=tuple(problems),
        costs=tuple(row for row in costs if results.student.weights in (None, row.weights)),
    )


def _number(value: Any, kind: type) -> Any:
    return kind(value) if is_number(value) else None


def _class_name(config: Mapping[str, Any], group: str) -> str:
    node = config.get(group)
    return network_name(config, group) if isinstance(node, Mapping) and node else NOT_RECORDED


def data_label(data: Any) -> str:
    """A few words on what a run was trained on, from the configuration's `data`."""
    source = str(part(data, "source", "_target_") or "").rsplit(".", 1)[-1]
    identities = part(data, "synthetic", "identities") or part(data, "source", "identities")
    rendered, path = f"rendered, {part(data, 'source', 'resampling')}", part(data, "path")
    if source == "RenderedFaces":
        return rendered
    if source == "MixedFaces":
        return f"{rendered}; a share of {part(data, 'source', 'share')} from {Path(str(path)).name}"
    if path:
        return Path(str(path)).name
    if identities:
        return f"{whole(identities)} synthetic identities"
    return source or NOT_RECORDED


def _strategy(trainer: Any, gpu: Any) -> str:
    """ "cpu", "gpu", "ddp, gpu x 4"; the run's machine says what "auto" was."""
    accelerator, devices, strategy = (part(trainer, key) for key in ("accelerator", "devices", "strategy"))
    if not accelerator:
        return NOT_RECORDED
    device = ("gpu" if gpu else "cpu") if accelerator == "auto" else str(accelerator)
    several = f" x {devices}" if devices not in (None, 1, "1", "auto") else ""
    return f"{device}{several}" if strategy in (None, "auto") else f"{strategy}, {device}{several}"


def _accuracies(results: Results) -> dict[str, Accuracy]:
    accuracies = {}
    for protocol in in_order(results.student.protocols):
        figures = results.figures("student", protocol)
        one = estimates(figures).get("accuracy")
        if one and one.value is not None:
            threshold = _number(figures.get("threshold"), float)
            accuracies[protocol] = Accuracy(one.value, one.interval, threshold)
    return accuracies


def _flat(node: Any, prefix: str = "") -> dict[str, str]:
    if not isinstance(node, Mapping):
        return {prefix: str(node).rsplit(".", 1)[-1] if prefix.endswith("_target_") else str(node)}
    return {
        key: value
        for name, child in node.items()
        for key, value in _flat(child, f"{prefix}.{name}" if prefix else str(name)).items()
    }
