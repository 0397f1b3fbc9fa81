"""What a list of runs says and shows of each: read in milliseconds, and readable where the folder is damaged."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from facedistill.errors import UserError
from facedistill.reporting.numbers import is_number, whole
from facedistill.reporting.run.curves import smoothed
from facedistill.reporting.run.facts import NOT_RECORDED, network_name
from facedistill.reporting.run.files import Series, read_curves
from facedistill.reporting.run.pictures import RunPictures, read_pictures
from facedistill.reporting.table.results import in_order

DAMAGED = "damaged"
SHOWN_CURVES = ("train/loss", "val/cosine", "val/accuracy")
_MOST_POINTS = 160  # of a curve: a chart is a few hundred pixels wide
_NO_SETTINGS = ("name", "runs_dir", "force", "logger", "launcher")  # where a run goes, not what it is
_BROKEN = (OSError, ValueError, RecursionError, csv.Error, yaml.YAMLError)
_YamlLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times the speed, where libyaml is there


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of the student on one protocol, a fraction; its 95 % interval and its threshold where it has them."""

    value: float
    interval: tuple[float, float] | None
    threshold: float | None = None


@dataclass(frozen=True)
class RunSummary:
    """One run in a list of runs; what its files do not say is None or "not recorded".

    Attributes:
        folder: The run folder.
        status: running, interrupted, failed, trained or finished as run.json has it; "damaged" where `problems` has one.
        images: Images seen; of a run that still trains, as far as metrics.csv tells.
        cosine: Last validation cosine of student and teacher.
        accuracy: By protocol, in customary order.
        curves: Those of `SHOWN_CURVES` that were logged, thinned to what a chart can show.
        settings: The configuration, flat: "optimizer.lr" -> "0.001", classes by their last name.
        pictures: Faces, histograms and ROC.
        problems: One sentence for each file that is missing or broken.
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
    curves: Mapping[str, Series] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    pictures: RunPictures = field(default_factory=RunPictures)
    problems: tuple[str, ...] = ()


def read_runs(runs_dir: Path) -> list[RunSummary]:
    """Summaries of all run folders directly inside `runs_dir`, by name, method, seed and id.

    A folder counts as a run when it has a config.yaml or a run.json, or is named like one, <name>-<8 hex digits>.

    Raises:
        UserError: If there is no such folder or it cannot be listed.
    """
    try:
        folders = [path for path in runs_dir.iterdir() if path.is_dir() and _is_run(path)]
    except OSError as error:
        raise UserError(
            f"there is no folder of runs {runs_dir} ({error.strerror}); give the folder that runs_dir= named"
        ) from None
    runs = [summarize(folder) for folder in folders]
    return sorted(runs, key=lambda run: (run.name, run.method, run.seed or 0, run.id, run.folder.name))


def summarize(folder: Path) -> RunSummary:
    """Reads what there is of a run; a broken or missing file becomes one sentence of `problems`."""
    problems: list[str] = []

    def read(name: str, parse: Callable[[Path], Any], *, needed: bool) -> Any:
        path = folder / name
        if not path.is_file():
            if needed:
                problems.append(f"{name} is missing: the run was stopped before training wrote it.")
            return {}
        try:
            content = parse(path)
        except UserError as error:
            problems.append(str(error).replace(f"{path}", name, 1).rstrip(".") + ".")
        except _BROKEN as error:
            problems.append(f"{name} cannot be read: {_one_line(error)}.")
        else:
            if isinstance(content, Mapping):
                return content
            problems.append(f"{name} holds a {type(content).__name__} instead of keys and values.")
        return {}

    config = read("config.yaml", _yaml, needed=True)
    record = read("run.json", _json, needed=True)
    results = read("results.json", _json, needed=record.get("status") == "finished")
    curves = read("metrics.csv", read_curves, needed=False)
    accuracy = _accuracies(at(results, "student", "protocols"))
    pictures = read_pictures(folder, accuracy)
    problems += pictures.problems
    cosine = curves["val/cosine"].value[-1] if "val/cosine" in curves else None
    return RunSummary(
        folder=folder,
        id=str(record.get("id") or folder.name),
        name=str(record.get("name") or config.get("name") or _name(folder)),
        method=_class_name(config, "method"),
        backbone=_class_name(config, "backbone"),
        data=data_label(at(config, "data")),
        strategy=_strategy(at(config, "trainer"), at(record, "machine", "gpu")),
        status=DAMAGED if problems else str(record.get("status") or NOT_RECORDED),
        seed=_number(record.get("seed"), int),
        images=_number(record.get("images_seen", _images_logged(curves)), float),
        images_per_s=_number(record.get("images_per_s"), float),
        cosine=_number(float(cosine), float) if cosine is not None else None,
        accuracy=accuracy,
        curves={name: _thinned(curves[name], name) for name in SHOWN_CURVES if name in curves},
        settings=_flat({key: part for key, part in config.items() if key not in _NO_SETTINGS}),
        pictures=pictures,
        problems=tuple(problems),
    )


def at(content: Any, *keys: str) -> Any:
    """`content[a][b]…`, or None where something on the way is missing or no mapping."""
    for key in keys:
        content = content.get(key) if isinstance(content, Mapping) else None
    return content


def _is_run(path: Path) -> bool:
    named_like_one = re.search(r".-[0-9a-f]{8}$", path.name) is not None
    return named_like_one or (path / "config.yaml").is_file() or (path / "run.json").is_file()


def _name(folder: Path) -> str:
    return re.sub(r"-[0-9a-f]{8}$", "", folder.name)


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _yaml(path: Path) -> Any:
    return yaml.load(path.read_text(encoding="utf-8"), Loader=_YamlLoader)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _number(value: Any, kind: type) -> Any:
    return kind(value) if is_number(value) else None


def _class_name(config: Mapping[str, Any], group: str) -> str:
    node = at(config, group)
    return network_name(config, group) if isinstance(node, Mapping) and node else NOT_RECORDED


def data_label(data: Any) -> str:
    """A few words on what a run was trained on, from the configuration's `data`."""
    source = str(at(data, "source", "_target_") or "").rsplit(".", 1)[-1]
    identities = at(data, "synthetic", "identities") or at(data, "source", "identities")
    if source == "RenderedFaces":
        return f"rendered, {at(data, 'source', 'resampling')}"
    if at(data, "path"):
        return Path(str(at(data, "path"))).name
    if identities:
        return f"{whole(identities)} synthetic identities"
    return source or NOT_RECORDED


def _strategy(trainer: Any, gpu: Any) -> str:
    """ "cpu", "gpu", "ddp, gpu x 4"; what "auto" came to is told by the machine."""
    accelerator, devices, strategy = (at(trainer, key) for key in ("accelerator", "devices", "strategy"))
    if not accelerator:
        return NOT_RECORDED
    device = ("gpu" if gpu else "cpu") if accelerator == "auto" else str(accelerator)
    several = f" x {devices}" if devices not in (None, 1, "1", "auto") else ""
    return f"{device}{several}" if strategy in (None, "auto") else f"{strategy}, {device}{several}"


def _accuracies(protocols: Any) -> dict[str, Accuracy]:
    found = {}
    for protocol in in_order(protocols if isinstance(protocols, Mapping) else ()):
        value, interval = at(protocols, protocol, "accuracy"), at(protocols, protocol, "accuracy_ci")
        if is_number(value):
            whole_interval = (
                isinstance(interval, list) and len(interval) == 2 and all(map(is_number, interval))
            )
            threshold = _number(at(protocols, protocol, "threshold"), float)
            found[protocol] = Accuracy(
                value, (interval[0], interval[1]) if whole_interval else None, threshold
            )
    return found


def _images_logged(curves: Mapping[str, Series]) -> float | None:
    return max((float(series.images_seen[-1]) for series in curves.values()), default=None)


def _thinned(series: Series, name: str) -> Series:
    value = smoothed(series.value) if name.startswith("train/") else series.value
    there = np.flatnonzero(np.isfinite(value))
    if len(there) > _MOST_POINTS:
        there = there[np.linspace(0, len(there) - 1, _MOST_POINTS).round().astype(int)]
    return Series(series.images_seen[there], value[there])


def _flat(node: Any, prefix: str = "") -> dict[str, str]:
    if not isinstance(node, Mapping):
        return {prefix: str(node).rsplit(".", 1)[-1] if prefix.endswith("_target_") else str(node)}
    return {
        key: value
        for name, part in node.items()
        for key, value in _flat(part, f"{prefix}.{name}" if prefix else str(name)).items()
    }
