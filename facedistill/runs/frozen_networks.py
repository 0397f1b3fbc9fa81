"""Loads the networks of a configuration that are not trained, and the pairs made from them."""

from __future__ import annotations

import torch
from omegaconf import DictConfig, OmegaConf

from facedistill.assets import cache_dir, obtain
from facedistill.assets.own_file import card_of
from facedistill.errors import ConfigError
from facedistill.evaluation.generated_pairs import GeneratedPairs, generated_protocol
from facedistill.evaluation.protocols.base import PairsProtocol
from facedistill.models.generators import FrozenGenerator
from facedistill.models.teachers import FrozenTeacher
from facedistill.models.teachers.golden import check_golden
from facedistill.models.teachers.team import Teacher, TeacherTeam
from facedistill.runs.inputs import other_teachers
from facedistill.runs.sources import instantiate
from facedistill.system.devices import default_device, usable_precision
from facedistill.system.machine import vectors_end_at_256_bits
from facedistill.types import InputSpec


def load_teacher(config: DictConfig, device: torch.device | None = None) -> FrozenTeacher:
    """Obtains and loads the frozen teacher of `config.teacher`, the first if there are several; checks it against its card.

    It is on the CPU if `device` is None.
    """
    return _load(config.teacher, "teacher", device)


def load_teachers(config: DictConfig, device: torch.device | None = None) -> Teacher:
    """Obtains, loads and checks the frozen teacher of `config.teacher`, or all of several."""
    first, others = load_teacher(config, device), other_teachers(config)
    if not others:
        return first
    weights = dict(config.teacher.weights)
    (name,) = weights.keys() - others.keys()
    loaded = {other: _load(node, f"teacher.others.{other}", device) for other, node in others.items()}
    return TeacherTeam({name: first, **loaded}, weights)


def _load(node: DictConfig, key: str, device: torch.device | None) -> FrozenTeacher:
    card = card_of(node, key)
    options = {key: node[key] for key in ("precision", "compile") if key in node}
    if "precision" in options:
        options["precision"] = usable_precision(options["precision"], f"{key}.precision", device)
    if options.get("compile") == "auto" and not _compiling_pays(device):
        options["compile"] = False
    teacher = FrozenTeacher(
        instantiate(node.network),
        weights=obtain(card),
        input_spec=InputSpec(**node.input_spec),
        **options,
    )
    if node.get("embedding_dim", teacher.embedding_dim) != teacher.embedding_dim:
        raise ConfigError(
            f"{key}.embedding_dim={node.embedding_dim}: the network's embeddings have {teacher.embedding_dim} "
            f"dimensions; set it to {teacher.embedding_dim}"
        )
    if golden := OmegaConf.select(node, "card.golden"):
        check_golden(teacher, golden, card.name)
    return teacher if device is None else teacher.to(device)


def _compiling_pays(device: torch.device | None) -> bool:
    """Whether a compiled teacher is faster by more than its compiling takes: not on a CPU with AVX2 only, where it saves a
    millisecond of 18 an image and takes 11 to 30 s, then 6 s at each start (benchmarks/results/cpu.md)."""
    return (device or default_device()).type != "cpu" or not vectors_end_at_256_bits()


def load_generator(config: DictConfig, device: torch.device | None = None) -> FrozenGenerator:
    """Obtains and loads the frozen generator of `config.generator`; on the CPU if `device` is None."""
    node, options = config.generator.network, {}
    if "precision" in node:
        key = "generator.network.precision"
        options["precision"] = usable_precision(node.precision, key, device)
    generator = instantiate(node, weights=obtain(card_of(config.generator, "generator")), **options)
    return generator if device is None else generator.to(device)


def generated_pairs(config: DictConfig, generator: FrozenGenerator, teacher: FrozenTeacher) -> PairsProtocol:
    """The held-out generated pairs of `config.evaluation`, made once and cached."""
    return generated_protocol(
        generator, teacher, cache_dir(), GeneratedPairs(**config.evaluation.generated_pairs)
    )


def validation_pairs(config: DictConfig, generator: FrozenGenerator, teacher: FrozenTeacher) -> PairsProtocol:
    """The pairs that validation during training uses; they share no face with those that tables report."""
    settings = GeneratedPairs(**config.evaluation.validation_pairs, purpose="validation")
    return generated_protocol(generator, teacher, cache_dir(), settings, purpose="validation")
