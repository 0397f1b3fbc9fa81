"""Batch norm over two processes is plain batch norm on the joined batch: output, gradients, running statistics."""

from __future__ import annotations

import copy

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from facedistill.errors import ConfigError
from facedistill.models.backbones import TinyFaR
from facedistill.models.batch_norm import synchronize, undo_synchronize
from tests.distributed.processes import in_processes

KINDS = [
    (nn.BatchNorm2d, {}, (5, 3)),
    (nn.BatchNorm2d, {"affine": False, "momentum": 0.3}, (5, 3)),
    (nn.BatchNorm2d, {"momentum": None}, (4, 2)),
    (nn.BatchNorm2d, {"track_running_stats": False}, (4, 2)),
    (nn.BatchNorm1d, {"eps": 1e-2}, ()),
    (BatchNormAct2d, {"act_layer": nn.SiLU}, (3, 3)),
]
N, C = 6, 4


def _run(kind, options, size, rank=0, world_size=1, dtype=torch.double, sync=True):
    """Two steps, the second of which sees the statistics of the first: outputs, gradients, state."""
    torch.manual_seed(0)
    module = kind(C, **options).to(dtype)
    if options.get("affine", True):
        nn.init.normal_(module.weight)
    if sync:
        synchronize(module)
    found = []
    for _ in range(2):
        whole = (3 + 2 * torch.randn(N, C, *size, dtype=torch.double)).to(dtype)
        target = torch.randn(N, C, *size, dtype=torch.double).to(dtype)
        share = whole[rank::world_size].requires_grad_()
        module.zero_grad()
        output = module(share)
        # as everywhere, the loss is a global mean, so a process's part of it has W times the gradient
        (output * target[rank::world_size]).sum().mul(world_size).backward()
        for parameter in module.parameters():
            if world_size > 1:
                torch.distributed.all_reduce(parameter.grad)
            parameter.grad /= world_size
        gradients = {name: parameter.grad.clone() for name, parameter in module.named_parameters()}
        found.append((output.detach(), share.grad / world_size, gradients))
    module.eval()
    found.append((module(whole.detach()).detach(), torch.zeros(()), {}))
    return found, dict(module.named_buffers())


def _all(rank, world_size):
    return [_run(*case, rank, world_size) for case in KINDS]


@pytest.fixture(scope="module")
def two_processes():
    return in_processes(_all, 2)


@pytest.mark.parametrize("number", range(len(KINDS)))
def test_two_processes_are_the_joined_batch(number, two_processes):
    expected, buffers = _run(*KINDS[number], sync=False)
    for rank, answers in enumerate(two_processes):
        found, kept = answers[number]
        for step, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
            mine = slice(rank, None, 2) if step < 2 else slice(None)
            assert torch.allclose(ours[0], theirs[0][mine], atol=1e-12)
            assert torch.allclose(ours[1], theirs[1][mine] if step < 2 else theirs[1], atol=1e-12)
            for name, gradient in theirs[2].items():
                assert torch.allclose(ours[2][name], gradient, atol=1e-12), name
        assert kept.keys() == buffers.keys()
        for name, value in buffers.items():
            assert torch.allclose(kept[name], value, atol=1e-12), name


def _half(rank):
    torch.manual_seed(0)
    module = nn.BatchNorm2d(C)
    synchronize(module)
    whole = (3 + 2 * torch.randn(N, C, 5, 3)).bfloat16()
    share = whole[rank::2].requires_grad_()
    output = module(share)
    output.float().square().sum().backward()
    return output.detach(), share.grad, module.running_mean


def test_half_precision_is_normalized_in_float32():
    torch.manual_seed(0)
    module = nn.BatchNorm2d(C)
    whole = (3 + 2 * torch.randn(N, C, 5, 3)).bfloat16()
    expected = module(whole)
    for rank, (output, gradient, mean) in enumerate(in_processes(_half)):
        assert output.dtype == gradient.dtype == torch.bfloat16
        assert torch.allclose(output, expected[rank::2], atol=0.02)
        assert gradient.isfinite().all()
        assert torch.allclose(mean, module.running_mean, atol=1e-6)


def test_one_process_is_left_alone_and_the_change_can_be_undone():
    torch.manual_seed(0)
    network = TinyFaR("c").train()
    plain = copy.deepcopy(network)
    images = torch.randn(2, 3, 112, 112)
    synchronize(network)
    assert network.state_dict().keys() == plain.state_dict().keys()
    assert torch.equal(network(images), plain(images))
    undo_synchronize(network)
    assert not [module for module in network.modules() if "forward" in vars(module)]


def test_an_unknown_kind_is_refused():
    class Odd(nn.BatchNorm2d): ...

    with pytest.raises(ConfigError) as error:
        synchronize(nn.Sequential(nn.Conv2d(1, 1, 1), Odd(1)))
    assert str(error.value) == (
        "trainer.sync_batchnorm: 1 is a Odd, which cannot be synchronized; set trainer.sync_batchnorm=false, and each "
        "process normalizes by its own share"
    )
