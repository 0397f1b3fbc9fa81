"""A backbone is found by its base class and its package."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from facedistill.export import load_student, save_student
from facedistill.models import backbones, generators, teachers

THIN = """
from torch import nn

from facedistill.models.backbones.base import Backbone
from facedistill.types import InputSpec


class Thin(Backbone):
    def __init__(self, embedding_dim: int = 4) -> None:
        super().__init__()
        self.embedding_dim, self.input_spec = embedding_dim, InputSpec()
        self.arguments = {"embedding_dim": embedding_dim}
        self.linear = nn.Linear(3, embedding_dim)

    def forward(self, images):
        return self.linear(images.mean((2, 3)))


class _Hidden(Backbone):
    pass
"""


def test_a_module_in_the_package_is_all_that_a_new_backbone_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "thin.py").write_text(THIN)
    monkeypatch.setattr(backbones, "__path__", [*backbones.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "facedistill.models.backbones.thin", raising=False)
    assert set(backbones.backbone_classes()) >= {"Thin", "TinyFaR", "Timm"}
    assert not {"Backbone", "_Hidden", "SqueezeExcite"} & set(backbones.backbone_classes())
    save_student(backbones.Thin(8), tmp_path / "thin.safetensors", {})
    assert type(load_student(tmp_path / "thin.safetensors")) is backbones.Thin
    sys.modules.pop("facedistill.models.backbones.thin")


def test_published_paths_name_classes_and_nothing_else() -> None:
    assert teachers.IResNet is backbones.IResNet
    assert teachers.EdgeFace is not backbones.EdgeFace
    assert issubclass(generators.FaceGenerator, generators.FrozenGenerator)
    for name in ("timm_network", "Nothing", "_Block", "nn"):
        with pytest.raises(AttributeError, match=f"'facedistill.models.backbones' has no attribute '{name}'"):
            getattr(backbones, name)
