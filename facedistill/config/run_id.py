"""The run id: a short hash of everything that can change a run's result."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from omegaconf import DictConfig, OmegaConf

from facedistill.config import signature
from facedistill.config import trainer_settings as trainer
from facedistill.config.class_names import with_published_names
from facedistill.config.trust import find_class

# A run's name, its folder and its loggers do not change what it learns.
_WITHOUT_EFFECT = (
    "name",
    "runs_dir",
    "run_dir",
    "force",
    "logger",
    "callbacks",
    "launcher",
    "sweep",
    "evaluation",
)
# A face set is identified by its fingerprint, not by its path.
_WITHOUT_EFFECT_IN_DATA = ("path", "num_workers")
# Options that were added later, with the value that changes nothing; the run id leaves them out at this value.
_WITHOUT_EFFECT_IN_SOURCE = {"teacher_view": "same", "yaw": None}
_WITHOUT_EFFECT_IN_WEIGHTS = ("file", "sha256", "card")  # a card checks a teacher and does not change it


def result_relevant(config: DictConfig) -> dict[str, Any]:
    """Returns the resolved configuration without the keys that cannot change the trained student."""
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    resolved = {key: value for key, value in plain.items() if key not in _WITHOUT_EFFECT}
    if "head" in resolved and not _uses_head(resolved["method"]["_target_"]):
        del resolved["head"]
    for group in ("teacher", "generator"):  # identified by the file's hash, not by its path
        if isinstance(resolved.get(group), dict):
            resolved[group] = _without_files(resolved[group])
            if others := resolved[group].get("others"):
                resolved[group]["others"] = {name: _without_files(node) for name, node in others.items()}
    if isinstance(resolved.get("trainer"), dict):
        resolved["trainer"] = {k: v for k, v in resolved["trainer"].items() if trainer.has_effect(k, v)}
    if isinstance(quantization := resolved.pop("quantization", None), dict) and quantization["scheme"]:
        resolved["quantization"] = {"scheme": quantization["scheme"]}  # its student is identified by its hash
    if isinstance(resolved.get("data"), dict):
        resolved["data"] = {k: v for k, v in resolved["data"].items() if k not in _WITHOUT_EFFECT_IN_DATA}
        if isinstance(source := resolved["data"].get("source"), dict):
            own = {k: v for k, v in source.items() if _WITHOUT_EFFECT_IN_SOURCE.get(k, ...) != v}
            if "yaw" not in own:
                own.pop("yaw_share", None)
            resolved["data"]["source"] = own
    return {str(key): value for key, value in with_published_names(resolved).items()}


def _without_files(node: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key not in _WITHOUT_EFFECT_IN_WEIGHTS}


def _uses_head(method: str) -> bool:
    return "head" in signature.accepted(find_class(method))


def make_run_id(config: DictConfig, asset_hashes: dict[str, str]) -> str:
    """Hashes the configuration together with the weights it names.

    Args:
        config: Composed configuration.
        asset_hashes: sha256 of every asset's members, by asset name, and the fingerprint of faces on disk:
            another teacher file is another run, and so are other faces.

    Returns:
        Eight hexadecimal digits.
    """
    content = {"config": result_relevant(config), "assets": asset_hashes}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
