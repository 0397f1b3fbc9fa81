"""Builds the networks of conf/backbone without Hydra."""

from __future__ import annotations

import importlib
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from facedistill.models.backbones import Backbone
from facedistill.system.paths import config_dir

NAMES = sorted(path.stem for path in (config_dir() / "backbone").glob("*.yaml"))
# One of each family, small enough for the fast tests; the others are slow.
QUICK = {
    "edgeface_xxs",
    "facelivtv2_xs",
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


def trained(name: str, embedding_dim: int, faces: Tensor, **overrides: object) -> Backbone:
    """The network of a card, its batch norms used to the faces, and at 1 the scales that start at 1e-6 or 0."""
    torch.manual_seed(1)
    backbone = build(name, embedding_dim=embedding_dim, **overrides).train()
    with torch.no_grad():
        for module in backbone.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.momentum = 1.0
                if module.weight is not None and not module.weight.any():
                    module.weight.fill_(1.0)
        for key, parameter in backbone.named_parameters():
            if "gamma" in key.rpartition(".")[2]:
                parameter.fill_(1.0)
        backbone(faces)
    return backbone.eval()


def _settings(name: str) -> dict[str, Any]:
    own = yaml.safe_load((config_dir() / "backbone" / f"{name}.yaml").read_text())
    parents = [parent for parent in own.pop("defaults", []) if parent != "_self_"]
    return {key: value for parent in parents for key, value in _settings(parent).items()} | own
