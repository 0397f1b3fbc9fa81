"""`facedistill evaluate`: verification figures of a run, of a student file, or of a teacher."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from facedistill.errors import UserError, reason

if TYPE_CHECKING:
    from facedistill.reporting.record import Results

_KEYS = tuple(
    f"evaluation.{key}" for key in ("protocols", "data_dir", "batch_size", "flip", "resamples", "places")
)


def main(arguments: Sequence[str]) -> int:
    """Evaluates a run, a student or a teacher and prints a table."""
    parser = argparse.ArgumentParser(prog="facedistill evaluate", description=__doc__)
    parser.add_argument(
        "what", help="a run folder, a student.safetensors, or the name of a teacher in conf/teacher"
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],  # or argparse calls them required
        help="of the configuration, for instance evaluation.protocols=[lfw] evaluation.flip=sum",
    )
    parsed = parser.parse_args(arguments)
    path, expected = Path(parsed.what), None
    is_run = (path / "run.json").is_file()
    if not is_run and not path.is_file():
        _demand_teacher(parsed.what, parsed.overrides)
    if not is_run:
        _demand_effect(parsed.what, parsed.overrides, is_teacher=not path.is_file())
    if path.is_file() and path.suffix == ".onnx":
        raise UserError(f"{path}: evaluate takes the student.safetensors next to it; `embed` takes .onnx")
    from omegaconf import OmegaConf

    from facedistill.config import compose
    from facedistill.config.numbers import demand_numbers
    from facedistill.export import load_student
    from facedistill.reporting.table.results import as_text, results_table
    from facedistill.runs.evaluate import against_card, evaluate_network
    from facedistill.runs.frozen_networks import load_teacher

    if is_run:
        results = _of_run(path, parsed.overrides)
    elif path.is_file():
        config = compose("train", parsed.overrides)
        demand_numbers(config)
        results = evaluate_network("student", load_student(path), config)
    else:
        config = compose("train", [f"teacher={parsed.what}", *parsed.overrides])
        demand_numbers(config)
        results = evaluate_network("teacher", load_teacher(config), config)
        expected = OmegaConf.select(config, "teacher.card.accuracy")
    blocks = results_table(results)
    if not blocks:
        raise _nothing(results)
    print(as_text(blocks), *results.absent.values(), sep="\n")
    if expected is not None:
        sentence = against_card(parsed.what, expected, results, config.evaluation.flip)
        print(*filter(None, [sentence]), sep="\n", end="\n" if sentence else "")
    return 0


def _of_run(path: Path, overrides: Sequence[str]) -> Results:
    """Evaluates a run; the absent protocols are those of this evaluation, the figures also earlier ones."""
    from facedistill.runs.evaluate import changed_evaluation, evaluate_run
    from facedistill.runs.folder import RunFolder
    from facedistill.runs.inputs import evaluates_generated_pairs

    folder = RunFolder(path)
    with folder.held(), _incomplete(path / "config.yaml"):
        if (config := folder.config()) is None:
            raise UserError(f"{path}: has no config.yaml; restore it from a copy")
        if overrides:
            config.evaluation = changed_evaluation(config, overrides)
        results = evaluate_run(folder, config.evaluation)
        asked = set(config.evaluation.protocols)
        results.absent = {name: why for name, why in results.absent.items() if name in asked}
        if asked == results.absent.keys() and not evaluates_generated_pairs(config):
            raise _nothing(results)
    return results


def _nothing(results: Results) -> UserError:
    lacks = (
        "; ".join(results.absent.values())
        or "evaluation.protocols is empty; name some, or evaluation=default"
    )
    return UserError(f"nothing was measured: {lacks}")


def _demand_effect(what: str, overrides: Sequence[str], is_teacher: bool) -> None:
    """Refuses keys that change nothing in the evaluation of one network."""
    known = (*_KEYS, "teacher") if is_teacher else _KEYS
    for text in overrides:
        key = text.lstrip("+~").split("=")[0]
        if key not in ("evaluation", "hydra.searchpath") and not any(
            key == one or key.startswith(f"{one}.") for one in known
        ):
            raise UserError(
                f"{text}: has no effect on the evaluation of {what}; the keys with an effect are evaluation, "
                f"{', '.join(known)}"
            )


@contextmanager
def _incomplete(path: Path) -> Iterator[None]:
    """Turns what OmegaConf says of keys that a run's configuration lacks into one sentence."""
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except OmegaConfBaseException as error:
        raise UserError(f"{path}: {reason(error)}; restore it from a copy") from error


def _demand_teacher(name: str, overrides: Sequence[str]) -> None:
    """Refuses a name that is no teacher, with what it may have been meant to be."""
    from facedistill.config.files import options

    path, teachers = Path(name), options("train", overrides, "teacher")
    if name in teachers:
        return
    if path.is_dir():
        raise UserError(f"{path}: is a folder without a run.json, so it is no run; give a run folder")
    if path.suffix or "/" in name:
        raise UserError(f"{path}: there is no such run folder or student file")
    near = difflib.get_close_matches(name, teachers, n=1)
    meant = f"did you mean {near[0]}? There are" if near else "there are"
    raise UserError(
        f"{name}: is no run folder and no student file here, and no teacher; {meant} {', '.join(teachers)}"
    )
