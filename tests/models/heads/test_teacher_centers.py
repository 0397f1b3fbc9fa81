"""The teacher's head and the centers it is made from."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from facedistill.errors import ConfigError, DataError
from facedistill.models.heads.centers import mean_centers, trained_centers
from facedistill.models.heads.cosface import CosFaceHead
from facedistill.models.heads.sharded import ShardedHead
from facedistill.models.heads.teacher import TeacherHead
from tests.helpers.cosface_logits import cosface_logits

K, D, TEACHER_D = 9, 6, 5


def test_teacher_logits_with_and_without_margin():
    head = CosFaceHead(num_identities=K, embedding_dim=D, scale=12.0)
    centers, embeddings = torch.randn(K, TEACHER_D).double(), torch.randn(6, TEACHER_D).double()
    identities = torch.randint(0, K, (6,))
    teacher = TeacherHead(head, centers)
    for labels, margin in ((identities, 0.4), (None, 0.0)):
        expected = cosface_logits(embeddings, centers, identities, margin)
        assert torch.allclose(teacher(embeddings, labels), expected, rtol=1e-10)
    assert head.weight.shape == (K, D)
    assert head.weight.requires_grad
    assert not teacher(embeddings.requires_grad_()).requires_grad


def test_mean_centers_are_the_mean_of_unit_embeddings():
    seeded = torch.Generator().manual_seed(0)
    embeddings, labels = torch.randn(20, 4, generator=seeded), torch.arange(20) % 3
    centers = mean_centers(embeddings, labels, 3)
    for identity in range(3):
        total = torch.zeros(4)
        for embedding, label in zip(embeddings, labels, strict=True):
            if label == identity:
                total += embedding / embedding.norm()
        assert torch.allclose(centers[identity], total / total.norm(), atol=1e-6)
    order = torch.randperm(20, generator=seeded)
    assert torch.equal(mean_centers(embeddings[order], labels[order], 3), centers)


def test_trained_centers_are_repeatable_and_better_than_means():
    seeded = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 5
    embeddings = torch.randn(5, TEACHER_D, generator=seeded)[labels] + 1.0 * torch.randn(
        60, TEACHER_D, generator=seeded
    )

    def train(epochs, progress=None):
        torch.manual_seed(torch.seed())
        head = CosFaceHead(num_identities=5, embedding_dim=TEACHER_D, scale=12.0)
        return trained_centers(embeddings, labels, 5, head, epochs=epochs, batch_size=16, progress=progress)

    def loss(centers):
        return F.cross_entropy(cosface_logits(embeddings, centers, labels, 0.4), labels).item()

    seen = []
    centers = train(5, lambda done, steps, value: seen.append((done, steps)))
    assert seen == [(done, 20) for done in range(1, 21)]
    assert torch.equal(centers, train(5))
    assert torch.allclose(centers.norm(dim=1), torch.ones(5))
    assert torch.allclose(train(0), mean_centers(embeddings, labels, 5), atol=1e-6)
    assert loss(centers) < loss(train(0)) - 0.02


def _sharded():
    return ShardedHead(head=CosFaceHead, num_identities=K, embedding_dim=D)


@pytest.mark.parametrize(("attempt", "error", "message"), [
    (lambda: trained_centers(torch.ones(3, D), torch.arange(3), K, _sharded()), ConfigError,
     "data.centers=trained: needs a plain head with 1 center per identity, got ShardedHead; set data.centers=mean"),
    (lambda: TeacherHead(CosFaceHead(num_identities=K, embedding_dim=D), torch.ones(4, D)), ConfigError,
     "teacher centers: the head has 9 identities, and there are 4 centers; make them from the same training set"),
    (lambda: mean_centers(torch.ones(3, 2), torch.tensor([0, 0, 2]), 4), DataError,
     "teacher centers: 2 of 4 identities have no usable teacher embedding, the first is 1; leave them out of the "
     "training set"),
])  # fmt: skip
def test_messages(attempt, error, message):
    with pytest.raises(error) as caught:
        attempt()
    assert str(caught.value) == message
