"""`facedistill backbones`: every network has its row, and its figures are the network's own."""

from __future__ import annotations

import json

import pytest
import torch

from facedistill.cli.backbones import backbone_names, backbone_row, main
from facedistill.errors import ConfigError
from facedistill.models import cost as backbone_cost
from facedistill.models.backbones import Backbone, MixFaceNet
from facedistill.models.cost import latency_of
from facedistill.types import InputSpec


class Sleeper(Backbone):
    """Takes a second of the clock for each face, which is none of the processor's."""

    embedding_dim = 2
    input_spec = InputSpec(size_px=8)

    def __init__(self, clock: list[float]) -> None:
        super().__init__()
        self.clock = clock

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.clock[0] += len(images)
        return images.flatten(1)[:, :2]


def test_a_row_is_the_network() -> None:
    row = backbone_row("mixfacenet_xs", ["backbone.shuffle=true"])
    network = MixFaceNet("xs", 512)
    assert row.size.params == sum(p.numel() for p in network.parameters())
    counters = sum(1 for key in network.state_dict() if key.endswith("num_batches_tracked"))
    statistics = sum(b.numel() for key, b in network.named_buffers() if "running" in key)
    assert row.size.weights_mb * 1e6 == 4 * (row.size.params + statistics) + 8 * counters
    assert row.latency is None


def test_the_median_is_of_what_the_clock_says(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(backbone_cost.time, "perf_counter", lambda: clock[0])
    latency = latency_of(Sleeper(clock), batch_size=5)
    assert (latency.one_ms, latency.batch_ms, latency.batch_size) == (1000.0, 5000.0, 5)
    assert latency.share < 0.5


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    arguments = ["mixfacenet_xs", "timm", "backbone.name=test_efficientnet", "--json"]
    with pytest.raises(ConfigError):  # name is no option of MixFaceNet
        main(arguments)
    assert main([*arguments[1:], "--measure", "--batch", "2", "--threads", "1"]) == 0
    torch.set_num_threads(threads)
    printed = json.loads(capsys.readouterr().out)
    (row,) = printed["backbones"]
    assert row["name"] == "timm"
    assert row["batch_size"] == 2
    assert row["one_ms"] > 0
    assert printed["measured"]["processor"].endswith("1 threads")


def test_the_table_is_printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["tinyfar_c"]) == 0
    out = capsys.readouterr().out
    assert [*out.split("─")[-1].split()[:5]] == ["tinyfar_c", "512", "1.832", "38.2", "7.4"]
    assert "ms at" not in out


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
