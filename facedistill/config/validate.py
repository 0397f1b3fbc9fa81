"""Finds every problem of a configuration before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from facedistill.config import signature
from facedistill.config import trainer_settings as trainer
from facedistill.errors import ConfigError
from facedistill.types import Traits

_POSITIVE = (
    "images",
    "data.batch_size",
    "data.validation.faces",
    "data.source.pool_images",
    "data.synthetic.identities",
    "data.synthetic.images_per_identity",
    "callbacks.validate_every_images",
    "callbacks.checkpoint_every_images",
    "callbacks.log_every_steps",
)
_NOT_NEGATIVE = (
    "seed",
    "data.num_workers",
    "data.source.rho",
    "data.source.replay",
    "method.identity_weight",
    "method.weight",
)


def validate(config: DictConfig) -> None:
    """Checks values, arguments and combinations, and reports all problems at once.

    Args:
        config: Composed training configuration.

    Raises:
        ConfigError: If there is any problem.
    """
    plain, found = _resolved(config)
    if not found:
        found = [*_numbers(plain), *_arguments(plain), *_combinations(plain)]
        found += trainer.problems(plain, _get(plain, "method._target_"))
    if found:
        raise ConfigError(
            "\n".join([f"{len(found)} problem(s) in the configuration", *(f"  {p}" for p in found)])
        )


def _resolved(config: DictConfig) -> tuple[dict[str, Any], list[str]]:
    """The configuration as plain containers, or what keeps it from being one."""
    try:
        plain: Any = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        unresolved: Any = OmegaConf.to_container(config, resolve=False)
        return {}, _wanting(unresolved) or [str(error).splitlines()[0]]
    return plain, _wanting(plain)


def _wanting(config: Mapping[str, Any]) -> list[str]:
    """A sentence for each key without a value; a file of the user's own is named by what it should be."""
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


def _numbers(config: Mapping[str, Any]) -> list[str]:
    found = []
    for key in (*_POSITIVE, *_NOT_NEGATIVE):
        value = _select(config, key)
        wanted = "> 0" if key in _POSITIVE else ">= 0"
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            found.append(f"{key}: expected a number {wanted}, got {value!r}")
        elif value < 0 or (value == 0 and key in _POSITIVE):
            found.append(f"{key}={value}: must be {wanted}")
    if not found and config["images"] < config["data"]["batch_size"]:
        found.append(
            f"images={config['images']}: less than one batch of data.batch_size={config['data']['batch_size']}"
        )
    return found


def _arguments(config: Mapping[str, Any]) -> list[str]:
    return [problem for key, node in signature.targets(config) for problem in signature.problems(key, node)]


def _combinations(config: Mapping[str, Any]) -> list[str]:
    found = []
    student, teacher = (_select(config, f"{k}.embedding_dim") for k in ("backbone", "teacher"))
    if teacher is not None and student != teacher:
        found.append(
            f"backbone.embedding_dim={student}: the teacher's embeddings have {teacher} dimensions and the student "
            "must match them; leave the key out"
        )
    method, source = (_get(config, key) for key in ("method._target_", "data.source._target_"))
    if method is None or source is None:
        return found
    needs = method.needs_with(config["method"])
    for trait in (field.name for field in fields(needs)):
        if getattr(needs, trait) and not getattr(source.offers, trait):
            found.append(
                f"data: {method.__name__} needs {trait}, and {source.__name__} offers none{_mend(method, trait)}"
            )
    if _select(config, "data.source.resampling") == "dynamic" and not method.reports_agreement:
        found.append(
            f"data.source.resampling=dynamic: {method.__name__} reports no agreement per image; "
            "use data.source.resampling=static"
        )
    return [*found, *_with_head(config, method, needs)]


def _with_head(config: Mapping[str, Any], method: Any, needs: Traits) -> list[str]:
    """What the method, its centers and the head do not share; methods without these attributes take any head."""
    found = []
    name, head = method.__name__, _get(config, "head._target_")
    sharded = hasattr(head, "unaveraged")
    sub_centers = _select(config, "head.sub_centers") or 1
    if getattr(method, "needs_identity_weight", False) and _select(config, "method.identity_weight") == 0:
        found.append(f"method.identity_weight=0: {name} has no loss without the head's; set it above 0")
    if sharded and not getattr(method, "splits_logits", True):
        found.append(
            f"head: {name} needs the logits of all identities in each process, and {head.__name__} splits them; "
            "use head=arcface or head=cosface"
        )
    elif sharded and getattr(method, "needs_all_logits", False) and config["head"].get("sample_rate", 1) < 1:
        found.append(
            f"head.sample_rate={config['head']['sample_rate']}: {name} needs the logits of all identities; set it to 1"
        )
    if sub_centers > 1 and getattr(method, "needs_one_center", False):
        found.append(
            f"head.sub_centers={sub_centers}: {name} takes the teacher's centers, one per identity; set it to 1"
        )
    trained = needs.class_centers and _select(config, "data.centers") == "trained"
    if trained and (sharded or sub_centers > 1):
        found.append(
            "data.centers=trained: needs a head that is not split, with 1 center per identity; set data.centers=mean"
        )
    return found


def _mend(method: Any, trait: str) -> str:
    if trait == "latents":
        return "; use data=stylegan"
    if trait != "labels":
        return "; use data=synthetic_identities, or faces on disk"
    if hasattr(method, "identity_loss") and not method.needs_with({"identity_weight": 0}).labels:
        return "; use data=synthetic_identities, or leave the identity loss out with method.identity_weight=0"
    return "; use data=synthetic_identities, or labelled faces of your own"


def _get(config: Mapping[str, Any], key: str) -> Any:
    path = _select(config, key)
    try:
        return get_object(path) if path else None
    except Exception:  # already reported among the arguments
        return None


def _select(config: Mapping[str, Any], key: str) -> Any:
    node: Any = config
    for name in key.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node
