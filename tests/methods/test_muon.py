"""Muon: its step against a singular value decomposition, its AdamW part against torch's, and a restart."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from facedistill.config import compose
from facedistill.config.combinations import combination_problems
from facedistill.methods import muon
from facedistill.methods.cosine import Cosine
from facedistill.methods.muon import Muon, orthogonal
from facedistill.methods.mutual import Mutual
from tests.methods.small_methods import SmallHead, SmallStudent, small


@pytest.mark.parametrize("shape", [(8, 32), (16, 16)])
@pytest.mark.parametrize("half", [False, True])
def test_singular_vectors_stay_and_singular_values_become_about_one(shape, half, monkeypatch):
    monkeypatch.setattr(muon, "cpu_has_bfloat16", lambda: half)
    u, _, v = torch.linalg.svd(
        torch.randn(shape, generator=torch.Generator().manual_seed(0)), full_matrices=False
    )
    before = torch.linspace(0.1, 3.0, min(shape))
    after = u.T @ orthogonal((u * before @ v)[None])[0] @ v.T
    assert after.diag().min() > 0.6
    assert after.diag().max() < 1.3
    assert (after - after.diag().diag()).abs().max() < (0.05 if half else 1e-4)


def test_a_step_is_momentum_made_orthogonal_of_the_size_of_adamws(monkeypatch):
    """Jordan et al.'s Nesterov momentum, Liu et al.'s factor 0.2 sqrt(max(m, n)), and decoupled weight decay."""
    monkeypatch.setattr(muon, "cpu_has_bfloat16", lambda: False)
    weight = nn.Parameter(torch.randn(6, 3, 2, 2))
    optimizer = Muon([weight], lr=0.01, weight_decay=0.1, momentum=0.9)
    expected, momentum = weight.detach().clone(), torch.zeros(6, 12)
    for _ in range(3):
        weight.grad = torch.randn_like(weight)
        gradient = weight.grad.flatten(1)
        momentum = 0.9 * momentum + 0.1 * gradient
        direction = orthogonal((0.1 * gradient + 0.9 * momentum)[None])[0].view_as(weight)
        expected = expected * (1 - 0.01 * 0.1) - 0.01 * 0.2 * 12**0.5 * direction
        optimizer.step()
    torch.testing.assert_close(weight.detach(), expected)


def test_wide_tall_and_channels_last_matrices_of_one_shape_move_as_each_alone(monkeypatch):
    monkeypatch.setattr(muon, "cpu_has_bfloat16", lambda: False)
    torch.manual_seed(0)
    starts = [torch.randn(4, 12), torch.randn(12, 4), torch.randn(12, 2, 2, 1), torch.randn(4, 3, 2, 2)]
    starts[3] = starts[3].to(memory_format=torch.channels_last)
    together, alone = ([nn.Parameter(start.clone()) for start in starts] for _ in range(2))
    gradients = [torch.randn_like(start) for start in starts]
    for parameters, groups in ((together, [together]), (alone, [[one] for one in alone])):
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        for group in groups:
            Muon(group, lr=0.1).step()
    for one, other, start, gradient in zip(together, alone, starts, gradients, strict=True):
        torch.testing.assert_close(one, other)
        moved = (start * (1 - 0.1 * 0.05) - one.detach()).flatten(1)
        assert torch.linalg.svdvals(moved).min() > 0.6 * 0.1 * 0.2 * 12**0.5
        assert (moved * gradient.flatten(1)).sum() > 0


def _three_kinds() -> nn.ParameterDict:
    torch.manual_seed(0)
    shapes = {"bias": (4,), "depthwise": (4, 1, 3, 3), "matrix": (4, 5)}
    return nn.ParameterDict({name: torch.randn(shape) for name, shape in shapes.items()})


def _train(optimizer, parameters: nn.ParameterDict, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for parameter in parameters.values():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


def test_all_but_matrices_move_as_with_adamw():
    ours, theirs = _three_kinds(), _three_kinds()
    _train(Muon(ours.values(), lr=0.01), ours, range(3))
    _train(torch.optim.AdamW(theirs.values(), lr=0.01, weight_decay=0.05), theirs, range(3))
    for name in ("bias", "depthwise"):
        assert torch.equal(ours[name], theirs[name])
    assert not torch.equal(ours["matrix"], theirs["matrix"])


def test_a_restart_from_a_file_goes_on_bit_for_bit(tmp_path):
    whole, parts = _three_kinds(), _three_kinds()
    _train(Muon(whole.values()), whole, range(4))
    first = Muon(parts.values())
    _train(first, parts, range(2))
    torch.save(first.state_dict(), tmp_path / "state.pt")
    resumed = Muon(parts.values(), lr=9.0)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    _train(resumed, parts, range(2, 4))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_class_centers_are_no_layer():
    student, head = SmallStudent(), SmallHead()
    method = Cosine(
        student=student,
        teacher=copy.deepcopy(student),
        head=head,
        identity_weight=1.0,
        optimizer=partial(Muon),
    )
    optimizer = method.build_optimizer()
    gradient = {name: torch.randn_like(p) for name, p in method.named_parameters() if p.requires_grad}
    for name, parameter in method.named_parameters():
        parameter.grad = gradient.get(name)
    optimizer.step()
    orthogonalized = {name for name, p in method.named_parameters() if "momentum" in optimizer.state[p]}
    assert orthogonalized == {"student.first.weight", "student.second.0.weight", "student.last.weight"}


def test_a_peer_learns_as_the_student_does():
    method = small(Mutual, head=True, peer=SmallStudent(seed=5))
    method.make_optimizer = Muon
    optimizer = method.build_optimizer()
    for parameter in method.parameters():
        parameter.grad = torch.randn_like(parameter) if parameter.requires_grad else None
    optimizer.step()
    orthogonalized = {name for name, p in method.named_parameters() if "momentum" in optimizer.state[p]}
    layers = ("first.weight", "second.0.weight", "last.weight")
    assert orthogonalized == {f"{network}.{layer}" for network in ("student", "peer") for layer in layers}


def test_fsdp_is_refused_because_it_splits_matrices():
    config = OmegaConf.to_container(compose("train", ["experiment=demo", "strategy=fsdp"]), resolve=True)
    assert [one for one in combination_problems(config) if "muon" in one] == [
        "optimizer=muon: needs whole matrices, and fsdp splits them; use strategy=ddp, or optimizer=adamw"
    ]
    config["optimizer"] = {"_target_": "torch.optim.AdamW", "_partial_": True}
    assert not [one for one in combination_problems(config) if "matrices" in one]
