"""KD, DKD and GKD as methods: the written-out objective, the ramp, the teacher's classifier, two processes."""

from __future__ import annotations

import copy
import functools
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from facedistill.config import compose
from facedistill.errors import ConfigError
from facedistill.methods.dkd import DKD
from facedistill.methods.gkd import GKD
from facedistill.methods.kd import KD
from facedistill.models.heads.cosface import CosFaceHead
from facedistill.models.heads.curricularface import CurricularFaceHead
from facedistill.models.heads.sharded import ShardedHead
from facedistill.models.heads.uniface import UniFaceHead
from facedistill.types import FaceBatch
from tests.distributed.processes import in_processes
from tests.helpers.cosface_logits import cosface_logits
from tests.methods.small_methods import overfit

K, D, TEACHER_D = 9, 6, 5


class Student(nn.Module):
    """Linear, without batch statistics, so that processes can be compared."""

    embedding_dim = D

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3 * 7 * 7, D)

    def forward(self, images):
        return self.layer(F.avg_pool2d(images, 16).flatten(1))


def _method(kind, *, head=CosFaceHead, centers_dim=TEACHER_D, **arguments):
    torch.manual_seed(0)
    made = head(num_identities=K, embedding_dim=D, scale=12.0)
    centers = F.normalize(torch.randn(K, centers_dim))
    optimizer = functools.partial(torch.optim.SGD, lr=0.1)
    method = kind(
        student=Student(), teacher=None, head=made, centers=centers, optimizer=optimizer, **arguments
    ).double()
    method.teacher_head.head.double()  # it follows its parent's device, never its dtype
    return method


def _batch(n=6):
    seeded = torch.Generator().manual_seed(1)
    images = torch.rand(n, 3, 112, 112, generator=seeded, dtype=torch.double) * 2 - 1
    teacher = torch.randn(n, TEACHER_D, generator=seeded)
    labels = torch.randint(0, K, (n,), generator=seeded)
    return FaceBatch(images, labels, teacher_embeddings=teacher.double())


def _divergence(p, q):
    return sum((b * (b / a).log() for a, b in zip(p, q, strict=True)), torch.zeros(()).double())


def _expected(kind, z, u, label, t, size):
    p, q = (z / t).softmax(0), (u / t).softmax(0)
    if kind is KD:
        return t**2 * _divergence(p, q)
    others = sorted((j for j in range(K) if j != label), key=lambda j: -z[j].item())
    inside, outside = [label, *others[: size - 1]], others[size - 1 :]
    mass, teacher_mass = p[inside].sum(), q[inside].sum()
    binary = _divergence([mass, 1 - mass], [teacher_mass, 1 - teacher_mass]) if outside else 0
    if kind is DKD:
        return t**2 * (binary + 8 * _divergence(p[outside] / p[outside].sum(), q[outside] / q[outside].sum()))
    return t**2 * (binary + 8 * _divergence(p[inside] / mass, q[inside] / teacher_mass))


@pytest.mark.parametrize("margin", [True, False])
@pytest.mark.parametrize(("kind", "arguments", "size"), [
    (KD, {}, 0), (DKD, {}, 1), (GKD, {"size": 4}, 4), (GKD, {"size": K}, K), (GKD, {}, 10_000),
])  # fmt: skip
def test_the_objective_is_the_formula(kind, arguments, size, margin):
    method = _method(
        kind, margin_in_logits=margin, weight=0.5, identity_weight=2.0, temperature=3.0, **arguments
    )
    batch = _batch()
    output = method.distill(batch)
    embeddings = method.student(batch.images)
    students = cosface_logits(embeddings, method.head.weight, batch.labels, 0.4 * margin)
    teachers = cosface_logits(
        batch.teacher_embeddings, method.teacher_head.head.weight, batch.labels, 0.4 * margin
    )
    identity = F.cross_entropy(
        cosface_logits(embeddings, method.head.weight, batch.labels, 0.4), batch.labels
    )
    distances = [
        _expected(kind, z, u, label, 3.0, size)
        for z, u, label in zip(students, teachers, batch.labels.tolist(), strict=True)
    ]
    expected = 2 * identity + 0.5 * torch.stack(distances).mean()
    assert torch.allclose(output.terms["identity"], identity)
    assert output.loss.item() == pytest.approx(expected.item(), rel=1e-10)
    parameters = list(method.parameters())
    found = torch.autograd.grad(output.loss, parameters)
    for own, other in zip(found, torch.autograd.grad(expected, parameters), strict=True):
        assert torch.allclose(own, other, rtol=1e-8, atol=1e-10)


def test_the_ramp_rises_by_epochs_and_starts_without_distillation():
    method = _method(GKD, ramp=0.5, ramp_steps=10)
    data = SimpleNamespace(num_steps=20, batch_size=10)
    method._trainer = SimpleNamespace(datamodule=data)
    heights = []
    for seen in range(0, 201, 5):  # an epoch is ten images
        method.images_seen = seen
        heights.append(method.rise)
    epochs = [min(seen // 10 / 10, 1) for seen in range(0, 201, 5)]
    assert heights == pytest.approx(epochs)
    method.images_seen = 9
    output = method.distill(_batch())
    assert output.loss.item() == output.terms["identity"].item()
    assert output.terms["primary"].item() > 0
    method.ramp_steps = 0
    method.images_seen = 25
    assert method.rise == pytest.approx(0.25)
    method.ramp = 0.0
    assert method.rise == 1


def test_dkds_ramp_is_a_twentieth_in_the_first_of_240_epochs_and_full_in_the_20th():
    """mdistiller: min(epoch / 20, 1) with epochs from 1."""
    recipe = compose("train", ["experiment=baselines", "method=dkd", "data.path=x"]).method
    method = _method(DKD, ramp=recipe.ramp, ramp_steps=recipe.ramp_steps, ramp_first=recipe.ramp_first)
    method._trainer = SimpleNamespace(datamodule=SimpleNamespace(num_steps=240, batch_size=10))
    for within in (0, 5, 9):  # an epoch is ten images
        heights = []
        for epoch in range(30):
            method.images_seen = epoch * 10 + within
            heights.append(method.rise)
        assert heights == pytest.approx([min((epoch + 1) / 20, 1) for epoch in range(30)])


def test_the_teachers_classifier_is_frozen_and_in_no_checkpoint():
    method = _method(KD, head=CurricularFaceHead)
    before = method.teacher_head.head.weight.clone()
    method.train()
    method.distill(_batch()).loss.backward()
    assert not any(name.startswith("teacher_head") for name in method.state_dict())
    assert not any(name.startswith("teacher_head") for name, _ in method.named_parameters())
    assert not any(name.startswith("teacher_head") for name, _ in method.named_buffers())
    assert torch.equal(method.teacher_head.head.weight, before)
    assert method.teacher_head.head.weight.grad is None
    assert method.teacher_head.head.ease == 0  # the teacher's copy keeps its state
    assert not method.teacher_head.head.training


def test_a_head_with_statistics_moves_them_once_per_step():
    method, other = (_method(GKD, head=CurricularFaceHead) for _ in range(2))
    batch = _batch()
    method.train().distill(batch)
    other.head.train()(other.student(batch.images), batch.labels)
    assert method.head.ease != 0
    assert method.head.ease.item() == pytest.approx(other.head.ease.item(), rel=1e-12)


@pytest.mark.parametrize("kind", [KD, DKD, GKD])
def test_no_identity_loss_still_trains_the_head(kind):
    method = _method(kind, identity_weight=0.0)
    output = method.distill(_batch())
    output.loss.backward()
    assert "identity" not in output.terms
    assert method.head.weight.grad.abs().sum() > 0
    assert method.requirements_with({"identity_weight": 0.0}).labels


@pytest.mark.parametrize(("kind", "arguments"), [(KD, {}), (DKD, {}), (GKD, {"size": 4})])
def test_it_overfits_six_faces(kind, arguments):
    """Without the identity loss, which pulls elsewhere when the teacher is invented."""
    method = _method(kind, temperature=2.0, identity_weight=0.0, **arguments)
    first, last = overfit(method, 150, _batch(), lr=0.03)
    assert last < 0.05 * first


CASES = [
    {"size": 4, "lambda_": 0.5},
    {"grouping": "batch_mass", "mass": 0.7, "step": 2},
    {"grouping": "sample_mass", "mass": 0.5, "ranked_by": "teacher"},
]


def _steps(rank):
    whole, found = _batch(), []
    rows = slice(3 * rank, 3 * rank + 3)
    batch = FaceBatch(
        whole.images[rows], whole.labels[rows], teacher_embeddings=whole.teacher_embeddings[rows]
    )
    for arguments in CASES:
        method = _method(GKD, **arguments)
        output = method.distill(batch)
        output.loss.backward()
        for parameter in method.parameters():
            torch.distributed.all_reduce(parameter.grad)
        found.append((output.loss.item(), [parameter.grad / 2 for parameter in method.parameters()]))
    return found


@pytest.mark.slow
def test_two_processes_are_one():
    answers = in_processes(_steps)
    for index, arguments in enumerate(CASES):
        method = _method(GKD, **arguments)
        output = method.distill(_batch())
        output.loss.backward()
        for loss, gradients in (answer[index] for answer in answers):
            assert loss == pytest.approx(output.loss.item(), rel=1e-10), arguments
            for parameter, gradient in zip(method.parameters(), gradients, strict=True):
                assert torch.allclose(gradient, parameter.grad, rtol=1e-9, atol=1e-12), arguments


def test_bfloat16_embeddings_are_finite():
    method = _method(GKD, size=3).float()
    batch = _batch()
    batch = FaceBatch(
        batch.images.float(), batch.labels, teacher_embeddings=batch.teacher_embeddings.bfloat16()
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = method.distill(batch)
    output.loss.backward()
    assert output.loss.dtype == torch.float32
    assert all(parameter.grad.isfinite().all() for parameter in method.parameters())


@pytest.mark.parametrize("kind", [KD, DKD, GKD])
def test_images_of_a_balanced_part_are_in_the_divergence_only(kind):
    method, batch = _method(kind), _batch()
    balanced = torch.tensor([False, True, False, False, True, True])
    terms = method.distill(replace(batch, balanced=balanced)).terms
    embeddings = method.student(batch.images)
    general = cosface_logits(embeddings, method.head.weight, batch.labels, 0.4)[~balanced]
    assert torch.allclose(terms["identity"], F.cross_entropy(general, batch.labels[~balanced]))
    for name, whole in method.distill(batch).terms.items():
        assert (terms[name].item() == whole.item()) == (name != "identity")
    alone = method.distill(replace(batch, balanced=torch.ones(6, dtype=torch.bool)))
    assert alone.terms["identity"].item() == 0
    assert alone.loss.isfinite()


def test_a_teacher_has_one_center_per_identity_whatever_the_student_has():
    method = _method(KD, head=functools.partial(CosFaceHead, sub_centers=3))
    batch = _batch()
    assert method.head.weight.shape == (3 * K, D)
    teachers = method.teacher_head(batch.teacher_embeddings, batch.labels)
    expected = cosface_logits(batch.teacher_embeddings, method.teacher_head.head.weight, batch.labels, 0.4)
    assert torch.allclose(teachers, expected, rtol=1e-10)
    assert method.distill(batch).loss.isfinite()


def _sharded(**arguments):
    return ShardedHead(head=CosFaceHead, num_identities=K, embedding_dim=D)


@pytest.mark.parametrize(("attempt", "error", "message"), [
    (lambda: _method(GKD, temperature=0), ConfigError,
     "method.temperature: expected a number above 0, got 0"),
    (lambda: _method(KD, ramp=2), ConfigError,
     "method.ramp: expected a fraction of the budget in [0, 1], got 2"),
    (lambda: _method(DKD, head=_sharded), ConfigError,
     "head: DKD needs the logits of all identities in each process, and ShardedHead splits them; choose another "
     "head, such as head=cosface"),
])  # fmt: skip
def test_messages(attempt, error, message):
    with pytest.raises(error) as caught:
        attempt()
    assert str(caught.value) == message


def test_a_copy_of_the_method_can_be_made():
    method = _method(GKD)
    assert torch.equal(copy.deepcopy(method).teacher_head.head.weight, method.teacher_head.head.weight)


def test_every_parameter_takes_part_without_the_heads_loss():
    method = _method(KD, head=UniFaceHead, identity_weight=0.0)
    method.distill(_batch()).loss.backward()
    assert not [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None]
    assert method.head.bias.grad.item() == 0
