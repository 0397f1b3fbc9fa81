"""Graphs of frozen networks: which calls are replayed, and that a replay reads the present inputs and parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from facedistill.models.cuda_graphs import Captured, GraphedRun
from facedistill.models.generators import FaceGenerator
from tests.models.generators.tiny_generator import LATENT_DIM, write_tiny_generator

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class Recorded:
    """A function that counts its calls, and a capture for it that works on a CPU."""

    def __init__(self) -> None:
        self.calls = self.captures = self.replays = 0

    def run(self, x: Tensor, scale: Tensor | None) -> Tensor:
        self.calls += 1
        return 2 * x if scale is None else x * scale

    def capture(self, run: Any, arguments: tuple[Any, ...]) -> Captured:
        self.captures += 1
        inputs = [one.clone() for one in arguments if one is not None]
        output = torch.zeros_like(inputs[0])

        def replay() -> None:
            self.replays += 1
            output.copy_(2 * inputs[0] if len(inputs) == 1 else inputs[0] * inputs[1])

        return inputs, replay, output

    def graphed(self) -> GraphedRun:
        return GraphedRun(self.run, what="teacher", device_type="cpu", capture=self.capture)


@torch.no_grad()
def test_the_fifth_call_of_a_shape_and_those_after_it_are_replays_of_their_own_inputs() -> None:
    recorded = Recorded()
    graphed = recorded.graphed()
    results = [graphed(torch.full((2,), float(number)), None) for number in range(7)]
    assert [one.tolist() for one in results] == [[2.0 * number] * 2 for number in range(7)]
    assert (recorded.calls, recorded.captures, recorded.replays) == (4, 1, 3)
    assert graphed(torch.ones(3), torch.full((3,), 5.0)).tolist() == [5.0] * 3  # another shape runs as usual
    assert recorded.calls == 5
    graphed.forget()
    graphed(torch.ones(2), None)
    assert (recorded.calls, recorded.replays) == (6, 3)


def test_calls_with_gradients_and_counted_operations_run_as_usual() -> None:
    recorded = Recorded()
    graphed = recorded.graphed()
    for _ in range(6):
        graphed(torch.ones(2), None)
    with torch.no_grad(), FlopCounterMode(display=False):
        for _ in range(6):
            graphed(torch.ones(2), None)
    assert (recorded.calls, recorded.captures) == (12, 0)


@torch.no_grad()
def test_a_function_that_cannot_be_captured_runs_as_usual_and_says_so_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(run: Any, arguments: tuple[Any, ...]) -> Captured:
        raise RuntimeError("out of memory\nand more")

    graphed = GraphedRun(lambda x: 2 * x, what="teacher", device_type="cpu", capture=fails)
    assert [graphed(torch.ones(1)).item() for _ in range(8)] == [2.0] * 8
    sentence = "teacher: runs without a CUDA graph, which cannot be captured here (out of memory)"
    assert capsys.readouterr().err.splitlines() == [sentence]


@needs_gpu
@torch.no_grad()
def test_a_graph_on_a_gpu_gives_what_the_function_gives() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()).cuda().eval()
    graphed = GraphedRun(network, what="network")
    for seed in range(8):
        torch.manual_seed(seed)
        images = torch.randn(4, 3, 8, 8, device="cuda")
        torch.testing.assert_close(graphed(images), network(images))
    assert graphed._graphs


@needs_gpu
def test_a_generator_that_moved_is_captured_again(tmp_path: Path) -> None:
    weights = write_tiny_generator(tmp_path)
    eager = FaceGenerator(weights, exit=64, micro_batch=2).cuda()
    fast = FaceGenerator(weights, exit=64, micro_batch=2, compile=True).cuda()
    for move in (lambda network: network, lambda network: network.cpu().cuda()):
        fast = move(fast)
        for seed in range(8):
            w = eager.map(torch.randn(3, LATENT_DIM, generator=torch.Generator().manual_seed(seed)).cuda())
            torch.testing.assert_close(fast.render(w), eager.render(w), atol=1e-3, rtol=0)
