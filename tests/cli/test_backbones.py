"""`facedistill backbones`: every network has its row, and its figures are the network's own."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
import torch

from facedistill.cli.backbones import backbone_row, main
from facedistill.errors import ConfigError
from facedistill.models.backbones import Backbone, MixFaceNet
from facedistill.runs.cost import backbone_names, random_backbone


def test_a_row_is_the_network() -> None:
    row = backbone_row("mixfacenet_xs", ["backbone.shuffle=true"])
    network = MixFaceNet("xs", 512)
    assert row.size.params == sum(p.numel() for p in network.parameters())
    counters = sum(1 for key in network.state_dict() if key.endswith("num_batches_tracked"))
    statistics = sum(b.numel() for key, b in network.named_buffers() if "running" in key)
    assert row.size.weights_mb * 1e6 == 4 * (row.size.params + statistics) + 8 * counters


def test_a_network_that_needs_numbers_is_measured_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes_only = backbone_row("tinyfar_c")

    def build(name: str, overrides: Sequence[str]) -> Backbone:
        float(torch.ones(1))  # cannot be computed on the meta device
        return random_backbone(name, overrides)

    monkeypatch.setattr("facedistill.runs.cost.random_backbone", build)
    assert backbone_row("tinyfar_c") == shapes_only


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["mixfacenet_xs", "timm", "--json", "backbone.name=test_efficientnet"]
    with pytest.raises(ConfigError):  # name is no option of MixFaceNet
        main(arguments)
    assert main(arguments[1:]) == 0
    (row,) = json.loads(capsys.readouterr().out)["backbones"]
    assert row["name"] == "timm"
    assert row["params"] > 0


def test_the_table_is_printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["tinyfar_c"]) == 0
    out = capsys.readouterr().out
    assert [*out.split("─")[-1].split()[:5]] == ["tinyfar_c", "512", "1.832", "38.2", "7.4"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["tinyfar"], "backbones tinyfar: no such network; choose from "),
        (["timm"], "backbones timm: which network of timm? add backbone.name=resnet18"),
        (
            ["tinyfar_c", "method=ekd"],
            "backbones method=ekd: only keys below backbone can be set; write backbone.key=value",
        ),
        (["tinyfar_c", "+backbone.head=gdc"], "backbone.head: TinyFaR has no such argument"),
    ],
)
def test_mistakes_are_one_sentence(arguments: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        main(arguments)
    assert str(caught.value).startswith(sentence)


def test_all_are_listed() -> None:
    assert {"tinyfar_a", "iresnet50", "ghostfacenet_s1", "timm"} <= set(backbone_names())
