"""The ways to run a student change nothing beyond rounding, but where they say so; here is by how much."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from facedistill.models.backbones import MobileFaceNet, TinyFaR
from facedistill.models.execution import Execution, as_built

IMAGES = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def _student(norm=True):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8) if norm else nn.Identity(), nn.PReLU(8)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 6)).train()


def _step(run, network, images=IMAGES):
    """Embeddings, and the gradients of a loss of all pairs of the batch."""
    network.zero_grad()
    embeddings = run(images)
    unit = nn.functional.normalize(embeddings)
    (unit @ unit.T).pow(3).sum().backward()
    return embeddings.detach(), {name: p.grad.clone() for name, p in network.named_parameters()}


def _gap(ours, theirs):
    """Relative distance of the embeddings, or of the whole gradient, whichever is larger."""
    gradients = [torch.cat([g.double().flatten() for g in side[1].values()]) for side in (ours, theirs)]
    pairs = [(ours[0].double(), theirs[0].double()), gradients]
    return max(float((a - b).norm() / b.norm()) for a, b in pairs)


def test_parts_without_batch_norm_are_the_full_batch_even_for_a_loss_of_pairs():
    student, plain = _student(norm=False), _student(norm=False)
    Execution(parts=4).prepare(student)
    assert _gap(_step(student, student), _step(plain, plain)) < 1e-6


def test_parts_with_batch_norm_are_the_parts_one_after_the_other():
    student, plain = _student(), _student()
    Execution(parts=2).prepare(student)
    ours = _step(student, student)
    theirs = _step(lambda images: torch.cat([plain(part) for part in images.chunk(2)]), plain)
    assert _gap(ours, theirs) < 1e-6
    for (name, moved), expected in zip(student.named_buffers(), plain.buffers(), strict=True):
        assert torch.allclose(moved, expected, atol=1e-6), name  # embedding a part again moves nothing


def test_only_training_runs_compiled(monkeypatch):
    fast = lambda images: images.sum()  # noqa: E731
    monkeypatch.setattr("facedistill.models.execution.compiled", lambda *given, **named: fast)
    student = Execution(compile="auto").prepare(_student())
    assert student(IMAGES).shape == ()
    assert student.eval()(IMAGES).shape == (8, 6)


def test_only_what_learns_is_parted():
    student = _student()
    seen = []
    student[0].register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    Execution(parts=4).prepare(student)
    with torch.no_grad():
        student.eval()(IMAGES)
    assert seen == [8]
    student.train()(IMAGES)
    assert seen == [8, 2, 2, 2, 2]


def test_parts_repeat_what_is_random():
    torch.manual_seed(0)
    student = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(768, 6))
    plain = copy.deepcopy(student)
    Execution(parts=2).prepare(student)
    torch.manual_seed(3)
    ours = _step(student, student)
    torch.manual_seed(3)
    theirs = _step(lambda images: torch.cat([plain(part) for part in images.chunk(2)]), plain)
    assert _gap(ours, theirs) < 1e-6


@pytest.mark.parametrize("network", [lambda: TinyFaR("c"), lambda: MobileFaceNet()])
def test_channels_last_is_rounding(network):
    faces = torch.randn(4, 3, 112, 112, generator=torch.Generator().manual_seed(2))
    torch.manual_seed(0)
    plain = network().train()
    student = Execution().prepare(copy.deepcopy(plain))
    reference = copy.deepcopy(plain).double()
    Execution(channels_last=False).prepare(plain)
    exact = _step(reference, reference, faces.double())
    gaps = [_gap(_step(net, net, faces), exact) for net in (student, plain)]
    assert max(gaps) < 5e-3  # either layout is float64 up to rounding, magnified by a random network


def test_half_weights_give_float32_embeddings_and_leave_statistics_alone():
    student, plain = _student(), _student()
    Execution(half=True).prepare(student)
    assert student[0].weight.dtype == torch.bfloat16
    assert student[1].running_mean.dtype == student[1].weight.dtype == torch.float32
    ours = _step(student, student)
    assert ours[0].dtype == torch.float32
    assert 1e-4 < _gap(ours, _step(plain, plain)) < 0.05
    back = as_built(student)
    assert {p.dtype for p in back.parameters()} == {torch.float32}
    assert back(IMAGES).dtype == torch.float32


def test_everything_together_can_be_undone():
    student = _student()
    names = list(student.state_dict())
    Execution(parts=2, half=True, synchronized=True).prepare(student)
    assert list(student.state_dict()) == names
    as_built(student)
    assert not [module for module in student.modules() if "forward" in vars(module)]


@pytest.mark.slow
@pytest.mark.parametrize("parts", [1, 2])
def test_a_compiled_student_is_the_student(parts):
    student, plain = _student(), _student()
    Execution(compile=True, parts=parts).prepare(student)
    ours = _step(student, student)
    theirs = _step(lambda images: torch.cat([plain(part) for part in images.chunk(parts)]), plain)
    assert _gap(ours, theirs) < 1e-5
    for (name, moved), expected in zip(student.named_buffers(), plain.named_buffers(), strict=True):
        assert torch.allclose(moved, expected[1], atol=1e-6), name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("compile", [True, "reduce-overhead"])
def test_a_student_that_is_compiled_for_a_gpu_learns_what_an_uncompiled_one_does(compile):
    def losses(compile):
        student = Execution(compile=compile).prepare(_student().cuda())
        optimizer = torch.optim.AdamW(student.parameters(), lr=1e-2, fused=True)
        target, seen = torch.randn(8, 6, device="cuda", generator=torch.Generator("cuda").manual_seed(2)), []
        for step in range(30):
            images = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(step)).cuda()
            loss = (student(images) - target).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            seen.append(loss.detach().clone())
        return torch.stack(seen)

    eager = losses(False)
    assert eager[-1] < 0.9 * eager[0]
    torch.testing.assert_close(losses(compile), eager, rtol=0.02, atol=0)
