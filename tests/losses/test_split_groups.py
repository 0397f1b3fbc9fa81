"""GKD with identities split over processes: the loss and the gradient of one process with all of them."""

from __future__ import annotations

import pytest
import torch

from facedistill.distributed.partition import Partition
from facedistill.losses.grouping import Grouping, group_thresholds
from facedistill.losses.groups import gkd
from tests.distributed.processes import in_processes

RULES = [
    Grouping(rule, size=size, mass=mass, step=3, ranked_by=network)
    for rule, size, mass in [
        ("top_n", 1, 0.5),
        ("top_n", 6, 0.5),
        ("top_n", 99, 0.5),
        ("batch_mass", 1, 0.8),
        ("sample_mass", 1, 0.6),
    ]
    for network in ("student", "teacher")
]
K, CUT = 19, 8  # parts of unequal width


def _data(dtype=torch.double):
    seeded = torch.Generator().manual_seed(3)
    student, teacher = (6 * torch.randn(6, K, generator=seeded, dtype=torch.double) for _ in range(2))
    student[1], teacher[1] = 0.0, 1.0  # ties across the parts
    student[2, :CUT] += 60  # the whole group is in one part, the rest 60 below
    return student.to(dtype), teacher.to(dtype), torch.tensor([0, 18, 8, 7, 3, 12])


def _loss(student, teacher, labels, grouping, partition=None, temperature=4.0):
    arguments = {"alpha": 1.5, "beta": 8.0, "lambda_": 0.7, "temperature": temperature}
    return gkd(student, teacher, labels, grouping, **arguments, partition=partition)


def _one_part(rank, temperature, dtype):
    student, teacher, labels = _data(dtype)
    columns = slice(0, CUT) if rank == 0 else slice(CUT, K)
    found = []
    for grouping in RULES:
        local = student[:, columns].clone().requires_grad_()
        partition = Partition(K, columns.start, columns.stop, num_parts=2)
        loss = _loss(local, teacher[:, columns], labels, grouping, partition, temperature)
        loss.mean().backward()
        found.append((loss.detach(), local.grad))
    return found


@pytest.mark.parametrize(
    ("temperature", "dtype"), [(1.0, torch.double), (4.0, torch.double), (4.0, torch.float32)]
)
def test_two_parts_give_the_loss_and_gradient_of_one(temperature, dtype):
    student, teacher, labels = _data(dtype)
    tolerance = 1e-12 if dtype == torch.double else 1e-5
    parts = in_processes(_one_part, temperature, dtype)
    for index, grouping in enumerate(RULES):
        whole = student.clone().requires_grad_()
        loss = _loss(whole, teacher, labels, grouping, temperature=temperature)
        loss.mean().backward()
        for found, _ in (parts[0][index], parts[1][index]):
            assert torch.allclose(found, loss, rtol=tolerance, atol=tolerance), grouping
        gradient = torch.cat([parts[0][index][1], parts[1][index][1]], 1)
        assert torch.allclose(gradient, whole.grad, rtol=tolerance, atol=tolerance), grouping


def _part_of_a_batch(rank):
    student, teacher, labels = _data()
    rows = slice(3 * rank, 3 * rank + 3)
    local = student[rows].clone().requires_grad_()
    grouping = Grouping("batch_mass", mass=0.8, step=3)
    loss = _loss(local, teacher[rows], labels[rows], grouping)
    loss.sum().backward()
    return (
        loss.detach(),
        local.grad,
        group_thresholds(student[rows], labels[rows], grouping, 4.0, Partition.whole(K)),
    )


def test_the_mass_of_a_batch_is_that_of_the_global_batch():
    student, teacher, labels = _data()
    student.requires_grad_()
    grouping = Grouping("batch_mass", mass=0.8, step=3)
    loss = _loss(student, teacher, labels, grouping)
    loss.sum().backward()
    halves = in_processes(_part_of_a_batch)
    assert torch.allclose(torch.cat([half[0] for half in halves]), loss, rtol=1e-12)
    assert torch.allclose(torch.cat([half[1] for half in halves]), student.grad, rtol=1e-12, atol=1e-14)
    alone = [
        group_thresholds(student[rows].detach(), labels[rows], grouping, 4.0, Partition.whole(K))
        for rows in (slice(3), slice(3, 6))
    ]
    assert not torch.equal(torch.cat(alone), torch.cat([half[2] for half in halves]))  # it does matter
