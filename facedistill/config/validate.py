"""Finds every problem of a configuration before anything is loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from facedistill.config import numbers, signature
from facedistill.config import trainer_settings as trainer
from facedistill.config.trust import find_class, targets
from facedistill.errors import ConfigError
from facedistill.types import Requirements

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
        found = [*_numbers(plain), *_texts(plain), *_arguments(plain), *_combinations(plain)]
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
    if not found and _select(plain, "teacher.others"):
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
        name = _select(config, f"{group}.name") if last == "file" else None
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
    others = [f"teacher.others.{name}" for name in _select(config, "teacher.others") or ()]
    needed = [f"{node}.{key}" for node in others for key in ("network", "input_spec", "embedding_dim")]
    for key in (*_NODES, *_VALUES, *needed):
        value = _select(config, key)
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
    yaw = _select(config, "data.source.yaw")
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
        value = _select(config, key)
        if value is not None and (not isinstance(value, str) or not value.strip()):
            found.append(f"{key}: expected a path, got {value!r}" + (f"; write ./{value}" if value else ""))
    if not isinstance(config["force"], bool):
        found.append(f"force: expected true or false, got {config['force']!r}")
    protocols, flip = config["evaluation"]["protocols"], config["evaluation"]["flip"]
    if not isinstance(protocols, list) or not all(isinstance(name, str) for name in protocols):
        found.append(f"evaluation.protocols: expected a list of names, as [lfw], got {protocols!r}")
    if flip not in _FLIPS:
        found.append(f"evaluation.flip: expected {' | '.join(_FLIPS)}, got {flip!r}")
    losses = _select(config, "method.losses")
    entries = {f"method.losses.{name}": _LOSS for name in losses} if isinstance(losses, Mapping) else {}
    for key, known in {"data.source.balanced": _BALANCED, **entries}.items():
        node = _select(config, key)
        for name in node if isinstance(node, Mapping) else ():
            if name not in known:
                found.append(f"{key}.{name}: no such key; there are {', '.join(known)}")
    return found


def _validation_faces(config: Mapping[str, Any]) -> list[str]:
    """Each process needs a face to validate on; "auto" devices are counted later."""
    faces = _select(config, "data.validation.faces")
    devices, nodes = (_select(config, f"trainer.{key}") or 1 for key in ("devices", "num_nodes"))
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


def _combinations(config: Mapping[str, Any]) -> list[str]:
    method, source, head = (_class(config, f"{key}._target_") for key in ("method", "data.source", "head"))
    settings, split = config["trainer"], is_split(head)
    if method is None or source is None:
        return trainer.problems(settings, split)
    if not isinstance(getattr(method, "requirements", None), Requirements):
        base = "facedistill.methods.base.DistillationMethod"
        return [f"method._target_: {method.__name__} is no distillation method; derive it from {base}"]
    name, required = method.__name__, method.requirements_with(config["method"])
    return [
        *_several_teachers(config, name, required),
        *_widths(config, name, required),
        *(_not_offered(method, source, need) for need in required.missing(source.offers)),
        *_resampling(config, name, required),
        *_head(config, name, required, head),
        *_quantization(config, name, required, source),
        *trainer.problems(settings, split, reads_maps=name if required.feature_maps else None),
    ]


def _several_teachers(config: Mapping[str, Any], method: str, required: Requirements) -> list[str]:
    """Checks that the method can learn from more than one teacher, and their weights."""
    others, weights = (_select(config, f"teacher.{key}") for key in ("others", "weights"))
    if others is None and weights is None:
        return []
    if not required.several_teachers:
        return [
            f"teacher: {method} learns from one teacher; name one, or use a method that compares embeddings or relations, "
            "such as method=cosine or method=rkd"
        ]
    named = isinstance(weights, Mapping) and isinstance(others, Mapping)
    if not named or len(set(weights) - set(others)) != 1 or set(others) - set(weights):
        return [
            "teacher.weights: needs a weight for each teacher; write teacher=[a,b], and then teacher.weights.a=2"
        ]
    if not any(weights.values()):
        return ["teacher.weights: are all 0; give one teacher a weight above 0"]
    return []


def _widths(config: Mapping[str, Any], method: str, required: Requirements) -> list[str]:
    """Checks what student and teacher of different width cannot do."""
    student, teacher = (_select(config, f"{network}.embedding_dim") for network in ("backbone", "teacher"))
    if (
        teacher is None or student is None or student == teacher
    ):  # a network of the user's says it when it is built
        return []
    several = (
        _select(config, "teacher.others") is not None
    )  # each then has a projection of the student's embedding
    if required.equal_widths and several:
        return []
    if required.equal_widths:
        return [
            f"backbone.embedding_dim={student}: {method} compares the student's embeddings with the teacher's, which "
            f"have {teacher} dimensions; leave the key out, or use a method that compares relations or logits, such as "
            "method=rkd"
        ]
    if required.reports_agreement and _select(config, "data.source.resampling") == "dynamic":
        return [
            f"data.source.resampling=dynamic: {method} reports no agreement per image where student and teacher differ in "
            "width; use data.source.resampling=static"
        ]
    return []


def _not_offered(method: Any, source: Any, name: str) -> str:
    fix = "use data=synthetic_identities, or faces on disk"
    if name == "latents":
        fix = "use data=stylegan"
    elif name == "labels" and not method.requirements.labels:  # only the identity loss needs them
        fix = "use data=synthetic_identities, or leave the identity loss out with method.identity_weight=0"
    elif name == "labels":
        fix = "use data=synthetic_identities, or labelled faces of your own"
    return f"data: {method.__name__} needs {name}, and {source.__name__} offers none; {fix}"


def _resampling(config: Mapping[str, Any], method: str, required: Requirements) -> list[str]:
    if required.reports_agreement or _select(config, "data.source.resampling") != "dynamic":
        return []
    return [
        f"data.source.resampling=dynamic: {method} reports no agreement per image; use data.source.resampling=static"
    ]


def _quantization(config: Mapping[str, Any], method: str, required: Requirements, source: Any) -> list[str]:
    """Checks what a student in 8 bits cannot do."""
    scheme, student = (_select(config, f"quantization.{key}") for key in ("scheme", "student"))
    if scheme is None:
        return [] if student is None else ["quantization.student: is only read by quantization=qat; add it"]
    if scheme != "int8":
        return [f"quantization.scheme={scheme}: must be int8, or null for a student in floating point"]
    if not isinstance(student, str) or not student.strip():
        return [f"quantization.student: expected a run folder or a student.safetensors, got {student!r}"]
    found, settings = [], config["trainer"]
    for key, value in (("precision", "32-true"), ("compile", False)):
        if settings.get(key, value) != value:
            found.append(
                f"trainer.{key}={settings[key]}: a student in 8 bits is computed in float32, eagerly; set "
                f"trainer.{key}={str(value).lower()}"
            )
    if settings["strategy"] == "fsdp":
        found.append("strategy=fsdp: a student in 8 bits is not split over processes; use strategy=ddp")
    if required.feature_maps:
        found.append(
            f"quantization=qat: {method} reads feature maps, which the quantized student has not; use method=cosine"
        )
    if source.stores_images and _select(config, "data.synthetic") is None:
        found.append("quantization=qat: its ranges are found on rendered faces; use data=stylegan")
    return found


def _head(config: Mapping[str, Any], method: str, required: Requirements, head: Any) -> list[str]:
    found = []
    sub_centers, sample_rate = _select(config, "head.sub_centers") or 1, _select(config, "head.sample_rate")
    if required.identity_loss and _select(config, "method.identity_weight") == 0:
        found.append(f"method.identity_weight=0: {method} has no loss without the head's; set it above 0")
    if is_split(head) and required.unsplit_logits:
        found.append(
            f"head: {method} needs the logits of all identities in each process, and {head.__name__} splits them; "
            "use head=arcface or head=cosface"
        )
    elif required.all_logits and sample_rate is not None and sample_rate < 1:
        found.append(
            f"head.sample_rate={sample_rate}: {method} needs the logits of all identities; set it to 1"
        )
    if sub_centers > 1 and required.one_center:
        found.append(
            f"head.sub_centers={sub_centers}: {method} takes the teacher's centers, one per identity; set it to 1"
        )
    trained = required.class_centers and _select(config, "data.centers") == "trained"
    if trained and (is_split(head) or sub_centers > 1):
        found.append(
            "data.centers=trained: needs a head that is not split, with 1 center per identity; set data.centers=mean"
        )
    return found


def is_split(head: Any) -> bool:
    """Whether a head's class splits the identities over the processes; a user's own head may leave that out."""
    return bool(getattr(head, "is_split", False))


def _class(config: Mapping[str, Any], key: str) -> Any:
    path = _select(config, key)
    try:
        return find_class(path) if path else None
    except ConfigError:  # already reported among the arguments
        return None


def _select(config: Mapping[str, Any], key: str) -> Any:
    node: Any = config
    for name in key.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node
