"""Reads the files of a run folder."""

from __future__ import annotations

import csv
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from facedistill.errors import DataError, UserError
from facedistill.reporting.record import NETWORKS, Results, RunRecord
from facedistill.reporting.table.results import measured_protocols
from facedistill.system.files import read_npz, refuse_aliases, refuse_links

_SCORE_ARRAYS = ("score", "same", "fold")
_YamlLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, if libyaml is installed
_FACE_COSINES = ("base_cosine", "variation_cosine", "teacher_cosine")


@dataclass(frozen=True)
class Scores:
    """Scores (P,) of one network on one protocol, and which pairs are genuine (P,)."""

    score: np.ndarray
    same: np.ndarray

    @property
    def genuine(self) -> np.ndarray:
        """Scores of same-identity pairs."""
        return self.score[self.same]

    @property
    def impostor(self) -> np.ndarray:
        """Scores of different-identity pairs."""
        return self.score[~self.same]


@dataclass(frozen=True)
class Faces:
    """Rendered faces and their variations, both (K, 3, H, W) uint8 RGB, with three cosines (K,)."""

    base: np.ndarray
    variation: np.ndarray
    base_cosine: np.ndarray
    variation_cosine: np.ndarray
    teacher_cosine: np.ndarray


@dataclass(frozen=True)
class Series:
    """One logged quantity: values (T,) over images seen (T,), rising."""

    images_seen: np.ndarray
    value: np.ndarray


@dataclass(frozen=True)
class RunFiles:
    """Everything a report is made of.

    Attributes:
        folder: The run folder.
        config: Resolved configuration.
        config_text: The same as its file has it.
        record: Contents of run.json.
        curves: Logged quantities by column name; empty without metrics.csv.
        results: Contents of results.json; without it everything is empty.
        scores: By (protocol, network), where the file exists.
        faces: None without faces.npz.
    """

    folder: Path
    config: Mapping[str, Any]
    config_text: str
    record: RunRecord
    curves: Mapping[str, Series]
    results: Results
    scores: Mapping[tuple[str, str], Scores]
    faces: Faces | None


def read_run(folder: Path) -> RunFiles:
    """Reads a run folder.

    Raises:
        UserError: If the folder is not a run (config.yaml or run.json is missing), or holds a symbolic link.
        DataError: If a file is not what it should be.
    """
    refuse_links(folder)
    for name in ("config.yaml", "run.json"):
        if not (folder / name).is_file():
            raise UserError(
                f"{folder} is not a run: it has no {name}; give a folder such as runs/<name>-<id>"
            )
    results = Results.load(folder / "results.json")
    pairs = [(protocol, network) for protocol in measured_protocols(results) for network in NETWORKS]
    found = {(p, n): read_scores(folder, p, n) for p, n in pairs}
    return RunFiles(
        folder=folder,
        config=read_config(folder / "config.yaml"),
        config_text=(folder / "config.yaml").read_text(encoding="utf-8"),
        record=RunRecord.load(folder / "run.json"),
        curves=read_curves(folder / "metrics.csv"),
        results=results,
        scores={key: scores for key, scores in found.items() if scores is not None},
        faces=read_faces(folder / "faces.npz"),
    )


def read_config(path: Path) -> dict[str, Any]:
    """Reads config.yaml; empty if there is no such file.

    Raises:
        DataError: If it is damaged.
    """
    if not path.is_file():
        return {}
    try:
        text = path.read_text(encoding="utf-8")
        refuse_aliases(text, str(path))
        content = yaml.load(text, Loader=_YamlLoader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise DataError(
            f"{path} cannot be read as YAML ({' '.join(str(error).split())}); restore it"
        ) from None
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a {type(content).__name__} instead of keys and values; restore it")
    return content


def read_curves(path: Path) -> dict[str, Series]:
    """Reads the columns of metrics.csv over images seen.

    A row without images_seen gets it from its step, by interpolation between rows that have both. Rows that a
    resumed run has logged again replace the earlier ones.

    Raises:
        DataError: If it cannot be read, or a cell is neither empty nor a number.
    """
    if not path.is_file():
        return {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV ({error}); restore or delete it") from None
    names = [name for name in (rows[0] if rows else {}) if name not in (None, "step", "images_seen", "epoch")]
    table = {
        name: np.array([_cell(row.get(name), path, line) for line, row in enumerate(rows, 2)])
        for name in ("step", "images_seen", *names)
    }
    known = ~np.isnan(table["images_seen"])
    if not known.any():
        return {}
    seen, step = table["images_seen"].copy(), table["step"]
    both = known & ~np.isnan(step)
    if both.any():
        seen[~known] = _at_step(step[~known], step[both], seen[both])
    curves = {name: _series(seen, table[name]) for name in names}
    return {name: series for name, series in curves.items() if len(series.value)}


def read_scores(folder: Path, protocol: str, network: str) -> Scores | None:
    """Reads scores/<protocol>.<network>.npz, or returns None where it is missing.

    Raises:
        DataError: If arrays are missing, of unequal length or not finite, or one kind of pair is missing.
    """
    path = folder / "scores" / f"{protocol}.{network}.npz"
    if path.resolve().parent != (folder / "scores").resolve():
        raise DataError(f"{folder / 'results.json'}: protocol {protocol!r} is not a plain name; rename it")
    if not path.is_file():
        return None
    arrays = _npz(path, _SCORE_ARRAYS)
    score, same = arrays["score"].astype(np.float64).ravel(), arrays["same"].astype(bool).ravel()
    if len(score) != len(same):
        raise DataError(f"{path}: {len(score)} scores but {len(same)} labels; evaluate the run again")
    if not np.isfinite(score).all():
        raise DataError(
            f"{path}: {int((~np.isfinite(score)).sum())} scores are not finite; evaluate the run again"
        )
    if same.all() or not same.any():
        raise DataError(
            f"{path}: needs genuine and impostor pairs, has only one kind; evaluate the run again"
        )
    return Scores(score, same)


def read_faces(path: Path) -> Faces | None:
    """Reads faces.npz, or returns None where it is missing or holds no face.

    Raises:
        DataError: If arrays are missing or of unequal length.
    """
    if not path.is_file():
        return None
    arrays = _npz(path, ("base", "variation", *_FACE_COSINES))
    base = arrays["base"]
    shapes_fit = base.ndim == 4 and base.shape[1] == 3 and arrays["variation"].shape == base.shape
    if not shapes_fit or any(arrays[name].shape != base.shape[:1] for name in _FACE_COSINES):
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise DataError(f"{path}: shapes do not fit each other ({shapes}); train or evaluate the run again")
    if not len(base):
        return None
    return Faces(
        base.astype(np.uint8), arrays["variation"].astype(np.uint8), *(arrays[n] for n in _FACE_COSINES)
    )


def _series(seen: np.ndarray, value: np.ndarray) -> Series:
    known = ~np.isnan(value) & ~np.isnan(seen)
    seen, value = seen[known], value[known]
    # A resumed run has logged a row again if a later row has the same or less progress.
    later = np.append(np.minimum.accumulate(seen[::-1])[::-1][1:], np.inf) if len(seen) else seen
    last = seen < later
    return Series(seen[last], value[last])


def _at_step(step: np.ndarray, known_step: np.ndarray, known_seen: np.ndarray) -> np.ndarray:
    order = np.argsort(known_step, kind="stable")
    return np.interp(step, known_step[order], known_seen[order])


def _cell(text: str | None, path: Path, line: int) -> float:
    if text is None or text == "":
        return math.nan
    try:
        return float(text)
    except ValueError:
        raise DataError(
            f"{path}, line {line}: {text!r} is not a number; correct or delete the line"
        ) from None


def _npz(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The arrays of a file that must have all of `names`."""
    try:
        arrays = read_npz(path, names)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} cannot be read ({error}); delete it and run the command that writes it"
        ) from None
    lacking = [name for name in names if name not in arrays]
    if lacking:
        raise DataError(
            f"{path} has no array {', '.join(lacking)}; delete it and run the command that writes it"
        )
    if odd := [name for name, array in arrays.items() if array.dtype.kind not in "biuf"]:
        raise DataError(f"{path}: {odd[0]} holds no numbers; delete it and run the command that writes it")
    return arrays
