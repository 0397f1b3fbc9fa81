"""The sharded head is the plain head, in one process and in several."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from facedistill.distributed.collectives import global_mean
from facedistill.distributed.partition import Partition
from facedistill.errors import ConfigError
from facedistill.models.heads import (
    AdaFaceHead,
    ArcFaceHead,
    CosFaceHead,
    CurricularFaceHead,
    MagFaceHead,
    ShardedHead,
    UniFaceHead,
)
from tests.distributed.processes import in_processes

K, D, N = 7, 4, 6  # seven identities do not divide by two
HEADS = [AdaFaceHead, ArcFaceHead, CosFaceHead, CurricularFaceHead, MagFaceHead, UniFaceHead]


def _plain(kind, dtype=torch.double, **arguments):
    torch.manual_seed(0)
    return kind(num_identities=K, embedding_dim=D, init_std=1.0, **arguments).to(dtype)


def _sharded(kind, dtype=torch.double, *, sample_rate=1.0, **arguments):
    torch.manual_seed(0)
    made = functools.partial(kind, init_std=1.0, **arguments)
    return ShardedHead(head=made, num_identities=K, embedding_dim=D, sample_rate=sample_rate).to(dtype)


def _faces(dtype=torch.double):
    draw = torch.Generator().manual_seed(1)
    return 10 * torch.randn(N, 3, generator=draw, dtype=torch.double).to(dtype), torch.tensor(
        [0, 6, 2, 2, 4, 3]
    )


class Network(nn.Module):
    """A linear backbone under a head, as DDP sees a method."""

    def __init__(self, head, dtype):
        super().__init__()
        self.head = head
        self.backbone = nn.Linear(3, D, bias=False, dtype=dtype)
        with torch.no_grad():
            self.backbone.weight.copy_(torch.linspace(-1, 1, 3 * D).view(D, 3))
        self._ddp_params_and_buffers_to_ignore = [f"head.{name}" for name in getattr(head, "unaveraged", ())]

    def forward(self, images, labels):
        return global_mean(self.head(self.backbone(images), labels))


def _run(rank, kind, arguments, sharded, world_size, dtype=torch.double):
    """Two steps of plain gradient descent: losses, backbone gradient, and the state dict at the end."""
    network = Network((_sharded if sharded else _plain)(kind, dtype, **arguments), dtype)
    called = DistributedDataParallel(network) if world_size > 1 else network
    images, labels = _faces(dtype)
    losses, gradients = [], []
    for _ in range(2):
        network.zero_grad()
        loss = called(images[rank::world_size], labels[rank::world_size])
        loss.backward()
        losses.append(loss.item())
        gradients.append(network.backbone.weight.grad.clone())
        with torch.no_grad():
            for parameter in network.parameters():
                parameter -= 0.01 * parameter.grad
    return losses, gradients, {key: value.clone() for key, value in network.state_dict().items()}


def _same(found, expected, tolerance):
    assert found[0] == pytest.approx(expected[0], rel=tolerance)
    for one, other in zip(found[1], expected[1], strict=True):
        assert torch.allclose(one, other, rtol=tolerance, atol=tolerance * float(other.abs().max()))
    assert {*expected[2]} == {*found[2]} - {"head.draws"}
    for key, value in expected[2].items():
        assert torch.allclose(found[2][key], value, rtol=tolerance, atol=tolerance), key


def _all_heads(rank, world_size):
    found = {kind.__name__: _run(rank, kind, {}, True, world_size) for kind in HEADS}
    found["sub-centers"] = _run(rank, ArcFaceHead, {"sub_centers": 2}, True, world_size)
    found["float32"] = _run(rank, ArcFaceHead, {}, True, world_size, torch.float32)
    return found


@pytest.mark.parametrize("world_size", [1, 2])
def test_loss_gradients_and_trained_centers_are_those_of_the_plain_head(world_size):
    answers = [_all_heads(0, 1)] if world_size == 1 else in_processes(_all_heads, 2)
    for found in answers:
        for kind in HEADS:
            _same(found[kind.__name__], _run(0, kind, {}, False, 1), 1e-9)
        _same(found["sub-centers"], _run(0, ArcFaceHead, {"sub_centers": 2}, False, 1), 1e-9)
        _same(found["float32"], _run(0, ArcFaceHead, {}, False, 1, torch.float32), 2e-6)


def _reload(rank, state):
    head = _sharded(AdaFaceHead)
    head.load_state_dict(state)
    rows = head.share.weight.detach().clone()
    return rows, head.state_dict(), head.joined(head.split(torch.arange(K)))


def test_a_state_survives_a_change_of_the_number_of_processes():
    plain = _plain(AdaFaceHead)
    plain.norm_mean.fill_(3.0)
    state = plain.state_dict()
    answers = in_processes(_reload, state)
    assert [len(rows) for rows, _, _ in answers] == [4, 3]
    assert torch.equal(torch.cat([rows for rows, _, _ in answers]), plain.weight)
    for _, saved, counted in answers:
        assert torch.equal(saved["weight"], plain.weight)
        assert saved["norm_mean"].item() == 3.0
        assert counted.tolist() == list(range(K))
        alone = _sharded(AdaFaceHead)
        alone.load_state_dict(saved)
        assert torch.equal(alone.share.weight, plain.weight)
        plain.load_state_dict({key: value for key, value in saved.items() if key != "draws"})


def _frozen(rank, centers):
    head = _sharded(CosFaceHead)
    head.freeze(centers)
    return head.share.weight.detach(), head.share.weight.requires_grad


def test_frozen_centers_are_split_too():
    centers = torch.randn(K, D, dtype=torch.double)
    (first, learns), (second, _) = in_processes(_frozen, centers)
    assert torch.equal(torch.cat([first, second]), centers)
    assert not learns


def test_a_sampled_step_keeps_the_identities_of_the_batch_and_draws_the_rest():
    images, labels = _faces()
    embeddings = (images @ torch.ones(3, D, dtype=torch.double)).requires_grad_()
    head, plain = _sharded(CosFaceHead, sample_rate=0.5), _plain(CosFaceHead)
    drawn = torch.zeros(K)
    for step in range(40):
        assert int(head.draws) == step
        head.zero_grad()
        losses = head(embeddings, labels)
        losses.sum().backward()
        touched = head.share.weight.grad.abs().sum(1) > 0
        assert touched[labels].all()
        drawn += touched
        logits = plain.logits(embeddings, labels)[:, touched]
        own = plain.logits(embeddings, labels).gather(1, labels[:, None]).squeeze(1)
        assert torch.allclose(losses, logits.logsumexp(1) - own)
    absent = [1, 5]  # from the batch
    assert all(8 < drawn[identity] < 32 for identity in absent)
    assert torch.allclose(head.eval()(embeddings, labels), plain.eval()(embeddings, labels))


def _sampled_run(rank, world_size):
    return _run(rank, ArcFaceHead, {"sample_rate": 0.5}, True, world_size)


def test_the_draw_does_not_depend_on_the_number_of_processes():
    expected = _sampled_run(0, 1)
    for found in in_processes(_sampled_run, 2):
        assert found[0] == pytest.approx(expected[0], rel=1e-9)
        for key, value in expected[2].items():
            assert torch.allclose(found[2][key], value, rtol=1e-9), key


def test_centers_split_over_a_block_of_draws(monkeypatch):
    head = ShardedHead(head=CosFaceHead, num_identities=K, embedding_dim=D, sample_rate=0.5)
    monkeypatch.setattr("facedistill.models.heads.sharded._BLOCK", 2)
    whole = head._draw()
    head.share.partition = Partition(K, 3, 6, num_parts=2)
    assert torch.equal(head._draw(), whole[3:6])


def test_a_sampled_draw_continues_after_a_resume():
    images, labels = _faces()
    embeddings = images @ torch.ones(3, D, dtype=torch.double)
    head = _sharded(CosFaceHead, sample_rate=0.8)
    whole = [head(embeddings, labels).detach() for _ in range(4)]
    first, second = _sharded(CosFaceHead, sample_rate=0.8), _sharded(CosFaceHead, sample_rate=0.8)
    parts = [first(embeddings, labels).detach() for _ in range(2)]
    second.load_state_dict(first.state_dict())
    parts += [second(embeddings, labels).detach() for _ in range(2)]
    assert all(torch.equal(one, other) for one, other in zip(whole, parts, strict=True))


def test_a_wrong_sample_rate_is_named():
    with pytest.raises(ConfigError, match=r"^head.sample_rate: expected a fraction in \(0, 1\], got 0.0$"):
        _sharded(ArcFaceHead, sample_rate=0.0)
