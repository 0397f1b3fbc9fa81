"""Params and macs against hand counts and torch's own counter."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from facedistill.models import cost
from facedistill.models.cost import count_macs, count_params, latency_of


def small() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.PReLU(8),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Flatten(),
        nn.Linear(8 * 2 * 2, 5),
    )


def test_by_hand() -> None:
    # 8x8 image -> 4x4 -> 2x2; conv 3·9 macs an output, depthwise 9, linear 32.
    assert count_macs(small(), (3, 8, 8)) == 8 * 16 * 27 + 8 * 4 * 9 + 5 * 32
    assert count_params(small()) == 8 * 27 + 8 * 2 + 8 + (8 * 9 + 8) + (32 * 5 + 5)


@pytest.mark.parametrize("size_px", [8, 9])
def test_twice_the_macs_are_torch_flops(size_px: int) -> None:
    network = nn.Sequential(*list(small())[:4], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, size_px, size_px))
    assert 2 * count_macs(network, (3, size_px, size_px)) == counter.get_total_flops()


def test_counts_a_shared_layer_each_time_it_runs_but_its_params_once() -> None:
    layer = nn.Linear(4, 4)
    network = nn.Sequential(nn.Flatten(), layer, layer)
    assert count_macs(network, (1, 2, 2)) == 32
    assert count_params(network) == 20


def test_leaves_modes_state_and_hooks_as_they_were() -> None:
    network = small().train()
    network[1].eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    count_macs(network, (3, 8, 8))
    assert [module.training for module in network] == [True, False, True, True, True, True]
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_latency_is_what_the_clock_says(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, passes = [0.0], iter([1, 1, 1, 1, 1, 1, 3])  # seconds of each face; the first pass is not counted

    def run(images: torch.Tensor) -> None:
        clock[0] += len(images) * next(passes, 2)

    monkeypatch.setattr(cost.time, "perf_counter", lambda: clock[0])
    latency = latency_of(run, torch.zeros(5, 1), threads=2, seconds=0, fewest=6)
    assert (latency.one_ms, latency.one_p95_ms) == (1000.0, 3000.0)
    assert (latency.batch_ms, latency.batch_size) == (10_000.0, 5)
    assert latency.share < 0.5
