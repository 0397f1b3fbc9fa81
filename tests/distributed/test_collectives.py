"""A loss on gathered tensors has one value everywhere, and averaged gradients are those of one process."""

from __future__ import annotations

import torch

from facedistill.distributed.collectives import gather, gather_constant, global_mean, rank, world_size
from tests.distributed.processes import in_processes


def _pairwise(embeddings):
    unit = torch.nn.functional.normalize(embeddings)
    return ((unit @ unit.T) ** 3).sum()


def _gathered_gradient(rank_, data):
    weight = torch.linspace(-1, 1, 12, dtype=torch.double).view(4, 3).requires_grad_()
    loss = _pairwise(gather(data[rank_ * 3 : rank_ * 3 + 3] @ weight))
    loss.backward()
    torch.distributed.all_reduce(weight.grad)
    return loss.item(), weight.grad / 2


def test_a_gathered_loss_has_the_gradient_of_one_process():
    data = torch.randn(6, 4, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    weight = torch.linspace(-1, 1, 12, dtype=torch.double).view(4, 3).requires_grad_()
    loss = _pairwise(gather(data @ weight))
    loss.backward()
    for found, gradient in in_processes(_gathered_gradient, data):
        assert abs(found - loss.item()) < 1e-12
        assert torch.allclose(gradient, weight.grad, atol=1e-12)


def _uneven_mean(rank_, values):
    scale = torch.tensor(2.0, requires_grad=True)
    mean = global_mean(scale * values[rank_])
    mean.backward()
    torch.distributed.all_reduce(scale.grad)
    nobody = global_mean(torch.empty(0))
    labels = gather_constant(torch.tensor([rank_]))
    return mean.item(), scale.grad.item() / 2, nobody.item(), labels.tolist(), rank(), world_size()


def test_a_global_mean_counts_every_value_once_however_they_are_dealt_out():
    values = [torch.tensor([1.0, 2.0, 6.0]), torch.tensor([11.0])]
    for number, (mean, gradient, nobody, labels, own, size) in enumerate(in_processes(_uneven_mean, values)):
        assert mean == 10.0
        assert gradient == 5.0
        assert nobody == 0.0
        assert labels == [0, 1]
        assert (own, size) == (number, 2)


def test_one_process_is_left_alone():
    values = torch.arange(4.0, requires_grad=True)
    assert gather(values) is values
    assert global_mean(values).item() == 1.5
    assert global_mean(values[:0]).item() == 0.0
