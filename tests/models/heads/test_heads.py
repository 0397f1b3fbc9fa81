"""Margin heads: losses as loops, statistics from the global batch, edges."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate

from facedistill.config import compose
from facedistill.errors import ConfigError
from facedistill.models.heads import (
    AdaFaceHead,
    ArcFaceHead,
    CosFaceHead,
    CurricularFaceHead,
    MagFaceHead,
    UniFaceHead,
)
from tests.distributed.processes import in_processes
from tests.helpers.random_tensors import cosine

K, D, N = 5, 4, 6
HEADS = [AdaFaceHead, ArcFaceHead, CosFaceHead, CurricularFaceHead, MagFaceHead, UniFaceHead]


def make(kind, **arguments):
    torch.manual_seed(0)
    return kind(num_identities=K, embedding_dim=D, init_std=1.0, **arguments).double()


def faces(seed=1, norm=15.0):
    draw = torch.Generator().manual_seed(seed)
    embeddings = norm * torch.randn(N, D, dtype=torch.double, generator=draw)
    return embeddings, torch.tensor([0, 4, 2, 2, 1, 3])


def _expected(head, embeddings, labels):
    """Per-image losses in eval mode, from the formulas."""
    losses = []
    for f, y in zip(embeddings, labels.tolist(), strict=True):
        cosines = [cosine(f, w) for w in head.weight]
        theta, a = torch.acos(cosines[y]), f.norm()
        extra = 0.0
        if isinstance(head, AdaFaceHead):
            z = ((a.detach().clamp(1e-3, 100) - 20) / (100 + 1e-3) * 0.333).clamp(-1, 1)
            own = torch.cos(theta - 0.4 * z) - 0.4 - 0.4 * z
        elif isinstance(head, ArcFaceHead | CurricularFaceHead):
            inside = theta.item() + 0.5 < math.pi
            own = torch.cos(theta + 0.5) if inside else cosines[y] - 0.5 * math.sin(0.5)
            if isinstance(head, CurricularFaceHead):
                edge = math.cos(theta.item() + 0.5)
                cosines = [c * (0 + c) if c.item() > edge else c for c in cosines]
        elif isinstance(head, MagFaceHead):
            clipped = a.clamp(10, 110)
            own = (
                torch.cos(theta + 0.45 + 0.35 * (clipped - 10) / 100) if cosines[y].item() > 0 else cosines[y]
            )
            extra = 35 * (clipped / 110**2 + 1 / clipped)
        else:
            own = cosines[y] - 0.4
        logits = 64 * torch.stack([own if j == y else c for j, c in enumerate(cosines)])
        if isinstance(head, UniFaceHead):
            signs = torch.tensor([-1.0 if j == y else 1.0 for j in range(K)])
            losses.append(F.softplus(signs * (logits - head.bias)).sum())
        else:
            losses.append(torch.logsumexp(logits, 0) - logits[y] + extra)
    return torch.stack(losses)


@pytest.mark.parametrize("kind", HEADS)
def test_losses_and_gradients_are_those_of_the_formula(kind):
    head = make(kind).eval()
    embeddings, labels = faces()
    embeddings.requires_grad_()
    found, expected = head(embeddings, labels), _expected(head, embeddings, labels)
    assert torch.allclose(found, expected, rtol=1e-7, atol=1e-5)
    weights = torch.linspace(1, 2, N, dtype=torch.double)
    wanted = [embeddings, *head.parameters()]
    for one, other in zip(
        torch.autograd.grad((weights * found).sum(), wanted),
        torch.autograd.grad((weights * expected).sum(), wanted), strict=True,
    ):  # fmt: skip
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", HEADS)
def test_the_gradient_is_the_derivative(kind):
    head = make(kind, scale=4.0).eval()
    embeddings, labels = faces()
    if kind is not AdaFaceHead:  # whose margin follows the norm without a gradient
        assert torch.autograd.gradcheck(
            lambda f: head(f, labels), (embeddings.clone().requires_grad_(),), atol=1e-5
        )

    def loss(weight):
        return torch.func.functional_call(head, {"weight": weight}, (embeddings, labels))

    assert torch.autograd.gradcheck(loss, (head.weight.detach().clone().requires_grad_(),), atol=1e-5)


@pytest.mark.parametrize("kind", HEADS)
def test_edges_are_finite(kind):
    embeddings, labels = faces()
    embeddings[0] = 0
    embeddings[1] = 1e-20
    for dtype in (torch.float32, torch.bfloat16):
        for number in (N, 1):
            head = make(kind, sub_centers=2).to(torch.float32)
            with torch.no_grad():
                head.weight[2 * labels[2]] = embeddings[2].float()  # a cosine of exactly 1
            given = embeddings[:number].to(dtype).requires_grad_()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
                losses = head(given, labels[:number])
            assert losses.shape == (number,)
            assert losses.dtype == torch.float32
            losses.sum().backward()
            assert torch.isfinite(losses).all()
            assert torch.isfinite(given.grad).all()
            assert all(torch.isfinite(p.grad).all() for p in head.parameters())
            assert all(torch.isfinite(b).all() for b in head.buffers())


def test_the_nearest_of_several_centers_counts():
    head = make(CosFaceHead, sub_centers=3)
    embeddings, _ = faces()
    cosines = head.cosines(embeddings)
    for i in range(N):
        for k in range(K):
            best = max(cosine(embeddings[i], w).item() for w in head.weight[3 * k : 3 * k + 3])
            assert cosines[i, k].item() == pytest.approx(best)
    with pytest.raises(ConfigError, match=r"^head\.sub_centers: an identity needs at least 1 center, got 0$"):
        make(CosFaceHead, sub_centers=0)


def test_adaface_statistics_move_first_and_in_training_only():
    head = make(AdaFaceHead)
    embeddings, labels = faces()
    losses = head(embeddings, labels)
    norms = embeddings.norm(dim=1).clamp(1e-3, 100)
    mean, std = 0.99 * 20 + 0.01 * norms.mean(), 0.99 * 100 + 0.01 * norms.std()
    assert head.norm_mean.item() == pytest.approx(mean.item())
    assert head.norm_std.item() == pytest.approx(std.item())
    assert torch.equal(head.eval()(embeddings, labels), losses)
    assert head.norm_mean.item() == pytest.approx(mean.item())


def test_curricularface_ease_moves_first_and_in_training_only():
    head = make(CurricularFaceHead)
    embeddings, labels = faces()
    losses = head(embeddings, labels)
    own = torch.stack([cosine(f, head.weight[y]) for f, y in zip(embeddings, labels, strict=True)])
    assert head.ease.item() == pytest.approx(0.01 * own.mean().item())
    assert torch.equal(head.eval()(embeddings, labels), losses)


def test_logits_without_labels_have_no_margin():
    head = make(ArcFaceHead)
    embeddings, _ = faces()
    assert torch.equal(head.logits(embeddings), 64 * head.cosines(embeddings))


def test_frozen_centers_take_no_gradient_and_must_fit():
    head = make(ArcFaceHead)
    head.freeze(torch.eye(D, dtype=torch.double).repeat(2, 1)[:K])
    assert not head.weight.requires_grad
    assert torch.equal(head.cosines(torch.eye(D).double())[:, :D], torch.eye(D).double())
    with pytest.raises(ConfigError) as error:
        head.freeze(torch.ones(K, 9))
    assert str(error.value) == (
        "backbone.embedding_dim: the teacher is 9 wide, the student's embedding 4; "
        "set backbone.embedding_dim=9"
    )
    with pytest.raises(
        ConfigError, match=r"^head\.sub_centers: the teacher has 1 center per identity, got 2; set 1$"
    ):
        make(ArcFaceHead, sub_centers=2).freeze(torch.ones(K, D))


def _statistics(rank, world_size):
    found = []
    for kind in (AdaFaceHead, CurricularFaceHead):
        head = make(kind)
        embeddings, labels = faces()
        losses = head(embeddings[rank::world_size], labels[rank::world_size]).detach()
        found.append((losses, {name: value.clone() for name, value in head.named_buffers()}))
    return found


def test_two_processes_keep_the_statistics_of_one():
    alone = _statistics(0, 1)
    for rank, answers in enumerate(in_processes(_statistics, 2)):
        for (losses, buffers), (found, kept) in zip(alone, answers, strict=True):
            assert torch.allclose(found, losses[rank::2], atol=1e-10)
            for name, value in buffers.items():
                assert torch.allclose(kept[name], value, atol=1e-12), name


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("arcface", ArcFaceHead), ("arcface_tface", ArcFaceHead), ("cosface", CosFaceHead), ("adaface", AdaFaceHead),
        ("magface", MagFaceHead), ("curricularface", CurricularFaceHead), ("uniface", UniFaceHead),
    ],
)  # fmt: skip
def test_every_yaml_makes_its_head(name, kind):
    head = instantiate(compose("train", [f"head={name}"]).head, num_identities=K, embedding_dim=D)
    assert type(head) is kind
    assert head.scale == 64
    margin = getattr(head, "margin_rad", None) if kind is ArcFaceHead else None
    assert {"arcface": 0.5, "arcface_tface": 0.4}.get(name) == margin


def test_the_sharded_yaml_makes_the_plain_head_in_one_process():
    torch.manual_seed(0)
    sharded = instantiate(compose("train", ["head=arcface_sharded"]).head, num_identities=K, embedding_dim=D)
    torch.manual_seed(0)
    plain = instantiate(compose("train", ["head=arcface"]).head, num_identities=K, embedding_dim=D)
    embeddings, labels = faces()
    assert torch.allclose(sharded(embeddings, labels), plain(embeddings, labels), rtol=1e-5)
