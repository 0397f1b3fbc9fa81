"""EKD as a method: scaling, what it says once, state, and two processes equal to one."""

from __future__ import annotations

import contextlib
import copy
import functools
import io

import pytest
import torch

from facedistill.errors import ConfigError
from facedistill.losses.ranks import rank_losses, score_pairs
from facedistill.methods.ekd import EKD
from facedistill.types import FaceBatch
from tests.distributed.processes import in_processes
from tests.helpers.random_tensors import random_batch
from tests.helpers.tiny_networks import PlainHead, PlainStudent, TinyTeacher


def _method(**arguments):
    torch.manual_seed(0)
    arguments = {"identity_weight": 0, "temperature": 0.1, "num_impostors": 9, **arguments}
    head = PlainHead(num_identities=4, embedding_dim=6) if arguments["identity_weight"] else None
    adam = functools.partial(torch.optim.Adam, lr=1e-2)
    method = EKD(student=PlainStudent(), teacher=TinyTeacher(), optimizer=adam, head=head, **arguments)
    return method.double()


def _said(method, batch):
    with contextlib.redirect_stderr(io.StringIO()) as printed:
        method.distill(batch)
    return printed.getvalue().splitlines()


def _gradient(method, batch):
    output = method.distill(batch)
    output.loss.backward()
    return output, method.student.layers[2].weight.grad


def test_the_objective_is_the_weighted_sum_after_the_thresholds_moved():
    method, batch = _method(identity_weight=0.5, genuine_weight=3.0, impostor_weight=7.0), random_batch()
    balanced = FaceBatch(batch.images, batch.labels, balanced=torch.arange(8) >= 4)
    output, _ = _gradient(method, balanced)
    student, teacher = method.student(batch.images), method.teacher(batch.images)
    pairs = score_pairs(student, teacher, batch.labels)
    hardest = pairs.impostor_scores(pairs.student).argsort(descending=True)[:9]
    expected = rank_losses(
        pairs, hardest, method.thresholds.student, method.thresholds.teacher, temperature=0.1
    )
    identity = method.head(student[:4], batch.labels[:4]).mean()  # the general half
    assert method.thresholds.student.any()
    assert set(output.terms) == {"identity", "genuine", "impostor"}
    total = 0.5 * identity + 3 * expected[0] + 7 * expected[1]
    assert output.loss.item() == pytest.approx(total.item(), abs=1e-10)
    assert torch.allclose(output.agreement, torch.cosine_similarity(student, teacher))
    assert not output.agreement.requires_grad


@pytest.mark.parametrize("processes", [2, 3, 8])
def test_released_scaling_is_exactly_the_number_of_processes(processes):
    exact, gradient = _gradient(_method(), random_batch())
    released, scaled = _gradient(_method(scaling="released", released_processes=processes), random_batch())
    assert released.loss.item() == exact.loss.item()
    assert torch.allclose(scaled, processes * gradient, rtol=1e-10, atol=1e-15)
    if processes != 3:
        assert torch.equal(scaled, processes * gradient)
    _, alone = _gradient(_method(scaling="released"), random_batch())
    assert torch.equal(alone, gradient)


def test_unresolved_thresholds_are_reported_once():
    method = _method()
    sentence = (
        "EKD cannot resolve FAR 0.01, 0.001, 0.0001, 1e-05, 1e-06 with 23 impostor pairs: their thresholds follow the"
        " highest impostor score; raise the batch size or method.impostor_queue."
    )
    assert _said(method, random_batch()) == [sentence]
    assert _said(method, random_batch()) == []
    assert _said(_method(fars=[0.1]), random_batch()) == []


def test_a_queue_is_judged_when_it_is_full():
    method = _method(fars=[0.1, 0.01], impostor_queue=16)
    assert [len(_said(method, random_batch(seed=step))) for step in range(4)] == [0] * 4
    method = _method(fars=[0.01, 0.001], impostor_queue=16)
    assert [len(_said(method, random_batch(seed=step))) for step in range(4)] == [0, 0, 1, 0]


def test_no_genuine_pair_is_reported_once_and_is_no_nan():
    method = _method(fars=[0.1])
    sentence = (
        "EKD got a batch without a genuine pair; its genuine term is left out; draw several images per identity, or"
        " set method.genuine_weight=0."
    )
    assert _said(method, random_batch()) == []
    assert _said(method, random_batch(labels=(0, 1, 2, 3, 4))) == [sentence]
    assert _said(method, random_batch(labels=(0, 1, 2, 3, 4))) == []
    method.zero_grad()
    output, gradient = _gradient(method, random_batch(labels=(0, 1, 2, 3, 4)))
    assert output.terms["genuine"].item() == 0
    assert output.loss.isfinite()
    assert gradient.isfinite().all()
    assert gradient.any()


@pytest.mark.parametrize("labels", [(0,), (2, 2, 2)])
def test_batches_without_an_impostor_leave_the_thresholds(labels):
    method = _method(impostor_queue=0)
    output, gradient = _gradient(method, random_batch(labels=labels))
    assert output.terms["impostor"].item() == 0
    assert output.loss.isfinite()
    assert gradient.isfinite().all()
    assert not method.thresholds.student.any()


def test_thresholds_and_queue_move_in_training_only_and_are_in_the_state():
    method = _method(impostor_queue=12, warm_start=True)
    _gradient(method, random_batch())
    state = copy.deepcopy(method.state_dict())
    assert state["thresholds.student"].any()
    assert int(state["thresholds.updates"]) == 1
    method.eval()
    method.distill(random_batch(seed=1))
    assert all(torch.equal(method.state_dict()[name], value) for name, value in state.items())
    resumed = _method(impostor_queue=12, warm_start=True)
    resumed.load_state_dict(state)
    method.train()
    for one in (method, resumed):
        one.zero_grad()
    (_, first), (_, second) = (
        _gradient(method, random_batch(seed=2)),
        _gradient(resumed, random_batch(seed=2)),
    )
    assert torch.equal(first, second)
    assert all(torch.equal(method.state_dict()[name], value) for name, value in resumed.state_dict().items())


def test_rates_are_fractions():
    with pytest.raises(ConfigError) as error:
        _method(fars=[0.1, 2])
    assert str(error.value) == "method.fars: [0.1, 2] are not rates; give fractions between 0 and 1"


def test_labels_are_needed_even_without_an_identity_loss():
    assert EKD.requirements_with({"identity_weight": 0}) == EKD.requirements
    assert EKD.requirements.labels


def _share(rank, scaling):
    method = _method(identity_weight=1.0, impostor_queue=20, scaling=scaling)
    losses = []
    for step in range(3):
        whole = random_batch(seed=step)
        part = slice(rank, None, 2)  # as the sources divide a batch
        method.zero_grad()
        output, gradient = _gradient(method, FaceBatch(whole.images[part], whole.labels[part]))
        losses.append(output.loss.item())
    torch.distributed.all_reduce(gradient)
    return losses, gradient / 2, dict(method.thresholds.named_buffers())


@pytest.mark.parametrize("scaling", [pytest.param("exact", marks=pytest.mark.slow), "released"])
def test_two_processes_equal_one(scaling):
    method = _method(identity_weight=1.0, impostor_queue=20, scaling=scaling, released_processes=2)
    losses = []
    for step in range(3):
        method.zero_grad()
        output, gradient = _gradient(method, random_batch(seed=step))
        losses.append(output.loss.item())
    for found, share, buffers in in_processes(_share, scaling):
        assert found == pytest.approx(losses, abs=1e-12)
        assert torch.allclose(share, gradient, atol=1e-12)
        for name, value in method.thresholds.named_buffers():
            assert torch.allclose(buffers[name], value, atol=1e-14), name
