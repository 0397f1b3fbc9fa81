"""Verification figures of a run, of a student file, or of a teacher."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from torch import nn

from facedistill.assets import cache_dir
from facedistill.config import compose
from facedistill.errors import ConfigError, UserError
from facedistill.evaluation.benchmark import run_protocols
from facedistill.evaluation.protocols.base import Protocol
from facedistill.evaluation.protocols.places import Absent, open_protocols, read_places, search_dirs
from facedistill.export import load_student
from facedistill.models.cost import count_macs, count_params
from facedistill.runs.assembly import generated_pairs, load_generator, load_teacher
from facedistill.runs.folder import RunFolder, read_json, write_text
from facedistill.runs.salvage import export_unfinished, is_unfinished

_ADMITTED_LOSS = 0.005  # of accuracy, between the card's faces and the user's


def against_card(name: str, expected: Mapping[str, Any], results: Mapping[str, Any], flip: str) -> str | None:
    """Measured accuracy of a teacher beside the one that its card expects; None where that protocol was not run alike.

    Args:
        name: The teacher's.
        expected: `protocol`, `flip` and `value`, a fraction, of its card.
        results: Of `facedistill evaluate`.
        flip: How the embeddings were made.

    Raises:
        ConfigError: If it is lower by more than 0.5 points of a hundred.
    """
    measured = results["teacher"]["protocols"].get(expected["protocol"])
    if measured is None or flip != expected["flip"]:
        return None
    found, wanted = float(measured["accuracy"]), float(expected["value"])
    said = f"{expected['protocol']} accuracy {100 * found:.2f} %, its card expects {100 * wanted:.2f} %"
    if found < wanted - _ADMITTED_LOSS:
        raise ConfigError(
            f"teacher {name}: {said}; teacher.input_spec, the weights or the faces' alignment are not the card's"
        )
    return f"teacher {name}: {said}"


def evaluate_run(folder: RunFolder, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Measures student and teacher of a run; writes results.json and the scores.

    Of a run that was cut short this is the student of its last checkpoint, which is said on stderr and stands in the
    results as `unfinished`.

    Args:
        folder: Of a run.
        overrides: Changes to the `evaluation` part of its configuration. Figures with another `flip` than the run's
            are returned and not written, since tables compare runs by what is in results.json.

    Returns:
        The contents of results.json.

    Raises:
        UserError: If the run has no student yet.
    """
    if is_unfinished(folder) and (said := export_unfinished(folder)):
        Console(stderr=True).print(said, highlight=False, markup=False, soft_wrap=True)
    if not folder.student.exists():
        raise UserError(
            f"{folder.path} has no student.safetensors yet; finish it with the command in its run.json"
        )
    config = folder.config()
    assert config is not None
    keep = True
    if overrides:
        changed = compose("train", overrides).evaluation
        keep = changed.flip == config.evaluation.flip
        config.evaluation = changed
    device = _device()
    teacher, student = load_teacher(config).to(device), load_student(folder.student)
    generated = generated_pairs(config, load_generator(config).to(device), teacher)
    found, absent = find_protocols(config)
    results: dict[str, Any] = {"images_seen": folder.record().get("images_seen")}
    if is_unfinished(folder):
        results["unfinished"] = folder.record().get("unfinished")
    for role, network in (("student", student), ("teacher", teacher)):
        plain = teacher.network if role == "teacher" else student
        cost = {"params": count_params(plain), "macs": count_macs(plain)}
        results[role] = {
            **cost,
            "protocols": _run(role, network, [generated, *found], config, folder.path if keep else None),
        }
    results["absent"] = {item.name: item.reason for item in absent}
    if not keep:
        return results
    write_text(folder.results, json.dumps(results, indent=2) + "\n")
    return read_json(folder.results)


def find_protocols(config: DictConfig) -> tuple[list[Protocol], list[Absent]]:
    """Opens the protocols of `config.evaluation`, and names those whose files are not here.

    Raises:
        ConfigError: If the settings of the evaluation cannot be run.
    """
    settings = config.evaluation
    if settings.flip not in ("none", "sum", "unit_sum"):
        raise ConfigError(f"evaluation.flip: must be none, sum or unit_sum, got {settings.flip!r}")
    places = read_places(OmegaConf.to_container(settings.places, resolve=True))  # type: ignore[arg-type]
    return open_protocols(settings.protocols, search_dirs(settings.data_dir), places)


def evaluate_network(role: str, network: nn.Module, config: DictConfig) -> dict[str, Any]:
    found, absent = find_protocols(config)
    protocols = _run(role, network, found, config, None)
    return {role: {"protocols": protocols}, "absent": {item.name: item.reason for item in absent}}


def _run(
    role: str,
    network: nn.Module,
    protocols: Sequence[Protocol],
    config: DictConfig,
    run_dir: Path | None,
) -> dict[str, Any]:
    settings = config.evaluation
    return run_protocols(
        network.to(_device()).to(memory_format=torch.channels_last),
        protocols,
        role=role,  # type: ignore[arg-type]
        scores_dir=run_dir / "scores" if run_dir else None,
        worst_dir=run_dir / "worst" if run_dir else None,
        cache=cache_dir() / "scores" if role == "teacher" else None,
        batch_size=settings.batch_size,
        device=_device(),
        flip=settings.flip,
        resamples=settings.resamples,
    )


def _device() -> torch.device:
    return (
        torch.device("cuda", torch.cuda.current_device())
        if torch.cuda.is_available()
        else torch.device("cpu")
    )
