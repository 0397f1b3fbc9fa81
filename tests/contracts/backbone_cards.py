"""Builds the networks of conf/backbone without Hydra."""

from __future__ import annotations

import importlib
from typing import Any

import yaml

from facedistill.models.backbones import Backbone
from facedistill.system.paths import config_dir

NAMES = sorted(path.stem for path in (config_dir() / "backbone").glob("*.yaml"))
# One of each family, small enough for the fast tests; the others are slow.
QUICK = {
    "edgeface_xxs",
    "fastvit",
    "ghostfacenet_s2",
    "iresnet18",
    "mixfacenet_xs",
    "mobilefacenet",
    "mobilenetv2",
    "timm",
    "tinyfar_c",
    "vargfacenet",
}
CHOSEN = {"timm": {"name": "test_efficientnet"}}  # what a card leaves to the user


def build(name: str, **overrides: object) -> Backbone:
    settings = _settings(name) | CHOSEN.get(name, {}) | overrides
    if "asset" in settings:
        settings["asset"] = None
    module, _, kind = settings.pop("_target_").rpartition(".")
    return getattr(importlib.import_module(module), kind)(**settings)


def _settings(name: str) -> dict[str, Any]:
    own = yaml.safe_load((config_dir() / "backbone" / f"{name}.yaml").read_text())
    parents = [parent for parent in own.pop("defaults", []) if parent != "_self_"]
    return {key: value for parent in parents for key, value in _settings(parent).items()} | own
