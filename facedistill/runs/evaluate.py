"""Verification figures of a run, of a student file, or of a teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from facedistill.assets import cache_dir
from facedistill.assets.archive import sha256_of
from facedistill.config import compose
from facedistill.config.numbers import demand_numbers
from facedistill.errors import ConfigError, UserError
from facedistill.evaluation.benchmark import Role, run_protocols, score_pairs
from facedistill.evaluation.protocols.base import PairsProtocol, Protocol
from facedistill.evaluation.protocols.find import Absent
from facedistill.evaluation.protocols.titles import protocol_title
from facedistill.evaluation.robustness import fingerprint, robustness_figures
from facedistill.evaluation.thresholds import thresholds_from_results
from facedistill.evaluation.yaw import yaw_figures
from facedistill.export import load_student, read_metadata, read_thresholds, write_thresholds
from facedistill.models.cost import count_macs, count_params
from facedistill.models.fingerprint import state_fingerprint
from facedistill.reporting.record import Results
from facedistill.runs.export import exported_files
from facedistill.runs.folder import RunFolder
from facedistill.runs.frozen_networks import generated_pairs, load_generator, load_teacher
from facedistill.runs.inputs import GENERATED, evaluates_generated_pairs, protocol_places
from facedistill.runs.protocols import open_configured_protocols
from facedistill.runs.robustness import corrupted_protocols
from facedistill.runs.salvage import export_last_checkpoint, is_unfinished
from facedistill.runs.yaw import protocol_yaws
from facedistill.system.devices import default_device
from facedistill.system.messages import print_message

_ADMITTED_LOSS = 0.005  # of accuracy


def against_card(name: str, expected: Mapping[str, Any], results: Results, flip: str) -> str | None:
    """Compares the measured accuracy of a teacher with the one on its card.

    Args:
        name: The teacher's.
        expected: `protocol`, `flip` and `value`, a fraction, of its card.
        results: Of `evaluate_network`.
        flip: How the embeddings were made.

    Returns:
        Both figures in a sentence; None if the protocol or the flip is another one.

    Raises:
        ConfigError: If the measured accuracy is lower by more than 0.5 percentage points.
    """
    measured = results.teacher.protocols.get(expected["protocol"])
    if measured is None or flip != expected["flip"]:
        return None
    found, wanted = float(measured["accuracy"]), float(expected["value"])
    sentence = f"{expected['protocol']} accuracy {100 * found:.2f} %, its card expects {100 * wanted:.2f} %"
    if found < wanted - _ADMITTED_LOSS:
        raise ConfigError(
            f"teacher {name}: {sentence}; teacher.input_spec, the weights or the faces' alignment are not the card's"
        )
    return f"teacher {name}: {sentence}"


def changed_evaluation(config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """The `evaluation` part of a run's configuration with some keys changed.

    Args:
        config: Of the run; it stays as it is.
        overrides: `evaluation.<key>=<value>`; `evaluation=<choice>` takes all keys from conf/evaluation instead.

    Raises:
        ConfigError: If an override names another part, or an unknown key.
    """
    keys = [text.lstrip("+").split("=")[0] for text in overrides]
    for text, key in zip(overrides, keys, strict=True):
        if key != "evaluation" and not key.startswith("evaluation."):
            raise ConfigError(
                f"{text}: a run is evaluated as it was trained; change keys under evaluation only"
            )
    chosen = compose("train", overrides)
    demand_numbers(chosen)
    if "evaluation" in keys:
        return chosen.evaluation
    changed = OmegaConf.create({"evaluation": config.evaluation})
    for key in keys:
        OmegaConf.update(changed, key, OmegaConf.select(chosen, key), merge=False)
    return changed.evaluation


def evaluate_run(folder: RunFolder, evaluation: DictConfig | None = None) -> Results:
    """Measures student and teacher of a run; writes results.json and the scores.

    Protocols that were measured before and are not asked for now keep their figures as long as the student is the same
    file. An interrupted run is measured with the student of its last checkpoint; stderr and results.json say so. The
    caller holds the folder's lock.

    Args:
        folder: Of a run.
        evaluation: In place of the `evaluation` part of its configuration. Figures with another `flip` than the run's
            are returned and not written, since tables compare runs by what is in results.json.

    Raises:
        UserError: If the run has no student yet.
    """
    if is_unfinished(folder) and (sentence := export_last_checkpoint(folder)):
        print_message(sentence)
    if not folder.student.exists():
        raise UserError(
            f"{folder.path} has no student.safetensors yet; finish it with the command in its run.json"
        )
    config = folder.config()
    assert config is not None
    is_written = evaluation is None or evaluation.flip == config.evaluation.flip
    if evaluation is not None:
        config.evaluation = evaluation
    teacher, student = load_teacher(config).to(default_device()), load_student(folder.student)
    found, absent = open_configured_protocols(config)
    if evaluates_generated_pairs(config):
        found = [generated_pairs(config, load_generator(config).to(default_device()), teacher), *found]
    results = _earlier_results(folder, student) if is_written else Results()
    record = folder.record()
    results.images_seen, results.unfinished = record.images_seen, _unfinished(folder)
    networks: tuple[tuple[Role, nn.Module, nn.Module], ...] = (
        ("student", student, student),
        ("teacher", teacher, teacher.network),
    )
    corrupted = corrupted_protocols(config.evaluation, found)
    turned = protocol_yaws(config.evaluation, found)
    for role, network, plain in networks:
        own = results.network(role)
        own.params, own.macs = count_params(plain), count_macs(plain)
        own.protocols |= _run(role, network, found, config, folder.path if is_written else None)
        own.robustness = _robustness(own.robustness, role, network, corrupted, config)
        if turned and is_written:
            own.yaw = _yaw(folder, role, *turned)
    results.student.quantization = OmegaConf.select(config, "quantization.scheme")
    results.student.weights, results.student.sha256 = state_fingerprint(student), None
    _name(results, config, found, absent)
    if is_written:
        _write_thresholds(results, folder)
        results.save(folder.results)
    return results


def _write_thresholds(results: Results, folder: RunFolder) -> None:
    """Puts the thresholds of the student into its files, so that they travel with it; names exported files without them."""
    thresholds = thresholds_from_results(results.student.protocols)
    stale = [file.name for file in exported_files(folder) if file != folder.onnx]
    if stale and read_thresholds(folder.student) != thresholds:
        print_message(
            f"{', '.join(stale)}: written before this evaluation, so with other thresholds or none; export again"
        )
    for file in filter(Path.is_file, (folder.student, folder.onnx)):
        write_thresholds(file, thresholds)


def _unfinished(folder: RunFolder) -> dict[str, int]:
    """How far the student got, if it was exported before the end of its budget; see `export_last_checkpoint`."""
    return read_metadata(folder.student)["metadata"].get("unfinished", {})


def _earlier_results(folder: RunFolder, network: nn.Module) -> Results:
    """What results.json holds; figures and scores of another student are dropped, and those of the teacher stay."""
    results, record = Results.load(folder.results), folder.record()
    student = results.student
    if student.weights:
        same = student.weights == state_fingerprint(network)
    elif student.sha256:
        same = student.sha256 == sha256_of(folder.student)
    else:  # version 1 has neither; a run's training is deterministic
        same = (results.images_seen, results.unfinished) == (record.images_seen, _unfinished(folder))
    if not same:
        student.protocols, student.robustness, student.yaw = {}, {}, {}
        for file in (*folder.path.glob("scores/*.student.npz"), *folder.path.glob("worst/*.student.jpg")):
            file.unlink()
    return results


def _name(results: Results, config: DictConfig, found: Sequence[Protocol], absent: Sequence[Absent]) -> None:
    """Adds the titles of all measured protocols, and why others were not measured."""
    for protocol in found:
        results.absent.pop(protocol.name, None)
    results.absent |= {item.name: item.reason for item in absent}
    places = protocol_places(config.evaluation)
    measured = {*results.student.protocols, *results.teacher.protocols, *results.absent}
    known = {name: place.title for name, place in places.items()}
    titles = {name: protocol_title(name, known) for name in sorted(measured)}
    results.titles |= {name: title for name, title in titles.items() if title != name}


def evaluate_network(role: Role, network: nn.Module, config: DictConfig) -> Results:
    """Measures a student or a teacher on the protocols of `config.evaluation`.

    Raises:
        ConfigError: If `generated` is among them: its pairs belong to a run.
    """
    if GENERATED in config.evaluation.protocols:
        raise ConfigError(
            f"evaluation.protocols: {GENERATED} pairs belong to a run; evaluate the run's folder"
        )
    found, absent = open_configured_protocols(config)
    results = Results()
    results.network(role).protocols = _run(role, network, found, config, None)
    _name(results, config, found, absent)
    return results


def _run(
    role: Role,
    network: nn.Module,
    protocols: Sequence[Protocol],
    config: DictConfig,
    run_dir: Path | None,
) -> dict[str, Any]:
    return run_protocols(
        network.to(default_device()).to(memory_format=torch.channels_last),
        protocols,
        role=role,
        scores_dir=run_dir / "scores" if run_dir else None,
        worst_dir=run_dir / "worst" if run_dir else None,
        resamples=config.evaluation.resamples,
        **_embedding(role, config),
    )


def _robustness(
    earlier: dict[str, Any],
    role: Role,
    network: nn.Module,
    protocols: Mapping[str, PairsProtocol],
    config: DictConfig,
) -> dict[str, Any]:
    """Accuracy under each corruption; earlier figures if nothing is to be measured, or the same was."""
    flip = config.evaluation.flip
    if not protocols or (earlier.get("fingerprint"), earlier.get("flip")) == (fingerprint(protocols), flip):
        return earlier
    network = network.to(default_device()).to(memory_format=torch.channels_last)
    score = partial(score_pairs, network, **_embedding(role, config))
    return {**robustness_figures(protocols, score), "flip": flip}


def _yaw(
    folder: RunFolder, role: Role, protocol: PairsProtocol, yaws: Tensor, edges: list[float]
) -> dict[str, Any]:
    """Accuracy by yaw, from the scores that the evaluation has just written."""
    with np.load(folder.path / "scores" / f"{protocol.name}.{role}.npz", allow_pickle=False) as arrays:
        return yaw_figures(torch.from_numpy(arrays["score"]), protocol, yaws, edges)


def _embedding(role: Role, config: DictConfig) -> dict[str, Any]:
    """How a network embeds faces; the scores of a frozen teacher are cached."""
    settings = config.evaluation
    return {
        "cache": cache_dir() / "scores" if role == "teacher" else None,
        "batch_size": settings.batch_size,
        "device": default_device(),
        "flip": settings.flip,
    }
