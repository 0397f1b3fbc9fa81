"""Finds every problem of a configuration before anything is loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from facedistill.config import numbers, signature
from facedistill.config.combinations import combination_problems
from facedistill.config.optimizers import optimizer_problems
from facedistill.config.plain import select
from facedistill.config.trust import targets
from facedistill.errors import ConfigError

# Keys that every configuration has: nodes, then values.
_NODES = (
    "backbone", "data", "data.source", "data.validation", "optimizer", "scheduler", "method", "teacher", "teacher.network",
    "teacher.input_spec", "generator", "generator.network", "callbacks", "evaluation", "logger", "trainer",
)  # fmt: skip
_VALUES = (
    "name", "seed", "images", "runs_dir", "force", "data.batch_size", "data.validation.faces",
    "callbacks.validate_every_images", "callbacks.checkpoint_every_images", "callbacks.log_every_steps",
    "evaluation.protocols", "evaluation.data_dir", "evaluation.batch_size", "evaluation.flip", "trainer.accelerator",
    "trainer.strategy", "trainer.precision", "teacher.embedding_dim",
)  # fmt: skip
_NAME = re.compile(r"(?=.*\S)[^./\\\0][^/\\\0]{0,99}")
_FLIPS = ("none", "sum", "unit_sum")
# Keys of the dictionaries that classes of the package take.
_BALANCED = ("identities", "images")
_LOSS = ("loss", "weight")
MAX_YAW_DEG = 60


def validate(config: DictConfig) -> None:
    """Checks values, arguments and combinations, and reports all problems at once.

    Args:
        config: Composed training configuration.

    Raises:
        ConfigError: If there is any problem.
    """
    plain, found = _resolved(config)
    if not found:
        found = [*_numbers(plain), *_texts(plain), *_arguments(plain), *combination_problems(plain)]
    found = found or optimizer_problems(plain["optimizer"])
    if found:
        raise ConfigError(
            "\n".join([f"{len(found)} problem(s) in the configuration", *(f"  {p}" for p in found)])
        )


def validate_groups(config: DictConfig, groups: Sequence[str]) -> None:
    """Checks values and arguments of some groups only, for commands that use no more.

    Raises:
        ConfigError: If there is a problem in them, the first one.
    """
    chosen = OmegaConf.masked_copy(config, list(groups))
    plain, found = _plain(chosen)
    if not found and select(plain, "teacher.others"):
        found = ["teacher: several teachers are for `facedistill train`; name one"]
    for problem in found or [*numbers.problems(plain), *_yaw(plain), *_arguments(plain)]:
        raise ConfigError(problem)


def _resolved(config: DictConfig) -> tuple[dict[str, Any], list[str]]:
    """The configuration as plain containers, or the problems that prevent it."""
    unresolved: Any = OmegaConf.to_container(config, resolve=False)
    found = _absent(unresolved)
    return ({}, found) if found else _plain(config)


def _plain(config: DictConfig) -> tuple[dict[str, Any], list[str]]:
    """Plain containers of a part of a configuration, or the problems that prevent it."""
    try:
        plain: Any = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        unresolved: Any = OmegaConf.to_container(config, resolve=False)
        return {}, _wanting(unresolved) or [str(error).splitlines()[0]]
    return plain, _wanting(plain)


def _wanting(config: Mapping[str, Any]) -> list[str]:
    """A sentence for each key without a value; a file that the user has to provide is described."""
    found = []
    for key in _missing(config):
        group, _, last = key.rpartition(".")
        name = select(config, f"{group}.name") if last == "file" else None
        wanted = (
            f"{name} needs the path of your own weights; give {key}=/path/to/file"
            if name
            else "needs a value"
        )
        found.append(f"{key}: {wanted}")
    return found


def _missing(node: Any, prefix: str = "") -> list[str]:
    if isinstance(node, dict):
        return [
            key for name, child in node.items() for key in _missing(child, f"{prefix}.{name}".lstrip("."))
        ]
    return [prefix] if node == "???" else []


def _absent(config: Mapping[str, Any]) -> list[str]:
    """A sentence for each required key that is absent, or holds a value where keys belong."""
    found = []
    others = [f"teacher.others.{name}" for name in select(config, "teacher.others") or ()]
    needed = [f"{node}.{key}" for node in others for key in ("network", "input_spec", "embedding_dim")]
    for key in (*_NODES, *_VALUES, *needed):
        value = select(config, key)
        if value is None:
            found.append(f"{key}: is missing; every configuration has it")
        elif (key in _NODES or key.endswith((".network", ".input_spec"))) and not isinstance(value, Mapping):
            found.append(f"{key}: expected keys below it, got {value!r}")
    return found


def _numbers(config: Mapping[str, Any]) -> list[str]:
    found = numbers.problems(config)
    if not found and config["images"] < config["data"]["batch_size"]:
        found.append(
            f"images={config['images']}: less than one batch of data.batch_size={config['data']['batch_size']}"
        )
    return [*found, *_yaw(config)] or _validation_faces(config)


def _yaw(config: Mapping[str, Any]) -> list[str]:
    """Checks the angle to which rendered faces are turned."""
    yaw = select(config, "data.source.yaw")
    if not isinstance(yaw, int | float) or 0 < yaw <= MAX_YAW_DEG:
        return []
    return [
        f"data.source.yaw={yaw}: must be above 0 and at most {MAX_YAW_DEG} degrees, beyond which rendered faces break; "
        "45 is safe, and null turns none"
    ]


def _texts(config: Mapping[str, Any]) -> list[str]:
    """Values that are no numbers, and entries of the dictionaries that classes take."""
    found = []
    name = str(config["name"])
    if not _NAME.fullmatch(name):
        found.append(
            f"name={name!r}: is part of a folder's name; give 1 to 100 characters without / and no . in front"
        )
    for key in ("runs_dir", "data.path", "evaluation.data_dir"):
        value = select(config, key)
        if value is not None and (not isinstance(value, str) or not value.strip()):
            found.append(f"{key}: expected a path, got {value!r}" + (f"; write ./{value}" if value else ""))
    data = config["data"]
    if "path" in data and data["path"] is None and data.get("synthetic") is None:
        found.append("data.path: needs a value")
    if not isinstance(config["force"], bool):
        found.append(f"force: expected true or false, got {config['force']!r}")
    protocols, flip = config["evaluation"]["protocols"], config["evaluation"]["flip"]
    if not isinstance(protocols, list) or not all(isinstance(name, str) for name in protocols):
        found.append(f"evaluation.protocols: expected a list of names, as [lfw], got {protocols!r}")
    if flip not in _FLIPS:
        found.append(f"evaluation.flip: expected {' | '.join(_FLIPS)}, got {flip!r}")
    losses = select(config, "method.losses")
    entries = {f"method.losses.{name}": _LOSS for name in losses} if isinstance(losses, Mapping) else {}
    for key, known in {"data.source.balanced": _BALANCED, **entries}.items():
        node = select(config, key)
        for name in node if isinstance(node, Mapping) else ():
            if name not in known:
                found.append(f"{key}.{name}: no such key; there are {', '.join(known)}")
    return found


def _validation_faces(config: Mapping[str, Any]) -> list[str]:
    """Each process needs a face to validate on; "auto" devices are counted later."""
    faces = select(config, "data.validation.faces")
    devices, nodes = (select(config, f"trainer.{key}") or 1 for key in ("devices", "num_nodes"))
    if (
        faces is None
        or not isinstance(devices, int)
        or not isinstance(nodes, int)
        or faces >= devices * nodes
    ):
        return []
    return [
        f"data.validation.faces={faces}: less than one face for each of the {devices * nodes} processes; "
        f"set data.validation.faces={devices * nodes} or more"
    ]


def _arguments(config: Mapping[str, Any]) -> list[str]:
    return [problem for key, node in targets(config) for problem in signature.problems(key, node)]
