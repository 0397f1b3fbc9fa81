"""A run's identity: a short hash of whatever can change its result."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from omegaconf import DictConfig, OmegaConf

# What a run is called, where it is written and how it is watched does not change what it learns.
_WITHOUT_EFFECT = ("name", "runs_dir", "run_dir", "force", "logger", "callbacks", "hydra", "evaluation")


def result_relevant(config: DictConfig) -> dict[str, Any]:
    """Returns the resolved configuration without the keys that cannot change the trained student."""
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    kept = OmegaConf.create({key: value for key, value in plain.items() if key not in _WITHOUT_EFFECT})
    resolved = OmegaConf.to_container(kept, resolve=True)
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


def identity(config: DictConfig, asset_hashes: dict[str, str]) -> str:
    """Hashes the configuration together with the weights it names.

    Args:
        config: Composed configuration.
        asset_hashes: sha256 of every asset's members, by asset name: another teacher file is another run.

    Returns:
        Eight hexadecimal digits.
    """
    content = {"config": result_relevant(config), "assets": asset_hashes}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
