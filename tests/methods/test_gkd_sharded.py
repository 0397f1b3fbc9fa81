"""GKD whose identities are split across processes is GKD with a plain head."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

from facedistill.config import compose
from facedistill.errors import ConfigError
from facedistill.methods.gkd import GKD
from facedistill.models.heads import CosFaceHead, CurricularFaceHead, MagFaceHead, ShardedHead
from facedistill.types import FaceBatch
from tests.distributed.processes import in_processes

K, D, TEACHER_D, N = 9, 6, 5, 8  # nine identities do not divide by two
CASES = [
    (CosFaceHead, {"size": 4}),
    (CosFaceHead, {"size": 4, "margin_in_logits": False, "lambda_": 0.5}),
    (CosFaceHead, {"size": 4, "identity_weight": 0.0, "ranked_by": "teacher"}),
    (CosFaceHead, {"size": 1, "lambda_": 0.5}),
    (CosFaceHead, {}),  # a group of all
    (CosFaceHead, {"grouping": "batch_mass", "mass": 0.7, "step": 2}),
    (CosFaceHead, {"grouping": "sample_mass", "mass": 0.5}),
    (CurricularFaceHead, {"size": 4}),
    (MagFaceHead, {"size": 4}),
]


class Student(nn.Module):
    """Linear, so that processes can be compared."""

    embedding_dim = D

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, D)

    def forward(self, images):
        return 10 * self.layer(images.flatten(1))


def _method(kind, arguments, sharded):
    torch.manual_seed(0)
    made = functools.partial(kind, scale=12.0, init_std=1.0)
    sizes = {"num_identities": K, "embedding_dim": D}
    head = ShardedHead(head=made, **sizes) if sharded else made(**sizes)
    centers = nn.functional.normalize(torch.randn(K, TEACHER_D))
    method = GKD(
        student=Student(), teacher=None, head=head, centers=centers, optimizer=torch.optim.SGD, **arguments
    ).double()
    method.teacher_head.head.double()
    return method.train()


def _batch(rank=0, world_size=1):
    seeded = torch.Generator().manual_seed(1)
    images = torch.randn(N, 3, 2, 2, generator=seeded, dtype=torch.double)
    teacher = torch.randn(N, TEACHER_D, generator=seeded, dtype=torch.double)
    labels = torch.tensor([0, 8, 4, 5, 3, 3, 7, 1])
    balanced = torch.arange(N) >= 6
    whole = (images, labels, balanced, teacher)
    images, labels, balanced, teacher = (values[rank::world_size] for values in whole)
    return FaceBatch(images, labels, balanced=balanced, teacher_embeddings=teacher)


def _two_steps(rank, world_size, kind, arguments, sharded):
    """Losses and terms of two steps, gradients of the second as DDP leaves them, and the state."""
    method = _method(kind, arguments, sharded)
    left_alone = method._ddp_params_and_buffers_to_ignore
    found = []
    for _ in range(2):
        method.zero_grad()
        output = method.distill(_batch(rank, world_size))
        output.loss.backward()
        found.append(
            {"loss": output.loss.item(), **{name: term.item() for name, term in output.terms.items()}}
        )
    gradients = {}
    for name, parameter in method.named_parameters():
        if world_size > 1 and name not in left_alone:
            torch.distributed.all_reduce(parameter.grad)
            parameter.grad /= world_size
        gradients[name] = parameter.grad
    return found, gradients, {key: value.clone() for key, value in method.state_dict().items()}


def _all_cases(rank, world_size):
    return [_two_steps(rank, world_size, *case, True) for case in CASES]


def _saved_and_loaded(rank, world_size):
    """This process's centers' momentum, that in a checkpoint, and that which a resume would load."""
    method = _method(CosFaceHead, {"size": 4}, True)
    learned = [parameter for parameter in method.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learned, lr=0.1, momentum=0.9)
    method.distill(_batch(rank, world_size)).loss.backward()
    optimizer.step()
    checkpoint = {"optimizer_states": [optimizer.state_dict()]}
    method.on_save_checkpoint(checkpoint)
    own = optimizer.state[method.head.share.weight]["momentum_buffer"]
    place = [parameter is method.head.share.weight for parameter in learned].index(True)
    whole = checkpoint["optimizer_states"][0]["state"][place]["momentum_buffer"]
    method.on_load_checkpoint(checkpoint)
    return own, whole, checkpoint["optimizer_states"][0]["state"][place]["momentum_buffer"]


@pytest.mark.slow
def test_a_checkpoint_has_the_momentum_of_all_centers():
    answers = in_processes(_saved_and_loaded, 2)
    momentum = torch.cat([own for own, _, _ in answers])
    assert len(momentum) == K
    for own, whole, loaded in answers:
        assert torch.equal(whole, momentum)
        assert torch.equal(loaded, own)


@pytest.mark.parametrize("world_size", [1, 2])
def test_split_identities_give_the_loss_and_the_gradients_of_a_plain_head(world_size):
    answers = [_all_cases(0, 1)] if world_size == 1 else in_processes(_all_cases, 2)
    for index, (kind, arguments) in enumerate(CASES):
        case = (kind.__name__, arguments)
        terms, gradients, state = _two_steps(0, 1, kind, arguments, False)
        for found, own, kept in (answer[index] for answer in answers):
            for ours, theirs in zip(terms, found, strict=True):
                assert ours == pytest.approx(theirs, rel=1e-10), case
            for name in ("student.layer.weight", "student.layer.bias"):
                assert gradients[name].abs().max() > 0
                assert torch.allclose(own[name], gradients[name], rtol=1e-9, atol=1e-11), case
            for key in ("head.weight", *(key for key in state if key.endswith("ease"))):
                assert torch.allclose(kept[key], state[key], rtol=1e-12), case
        shares = torch.cat([answer[index][1]["head.share.weight"] for answer in answers])
        assert torch.allclose(shares, gradients["head.weight"], rtol=1e-9, atol=1e-11), case


def test_sampled_centers_are_refused_in_one_sentence():
    head = ShardedHead(head=CosFaceHead, num_identities=K, embedding_dim=D, sample_rate=0.5)
    with pytest.raises(ConfigError) as caught:
        GKD(student=Student(), teacher=None, head=head, centers=torch.ones(K, 5), optimizer=torch.optim.SGD)
    assert str(caught.value) == (
        "head.sample_rate: GKD needs the logits of all identities, got 0.5; set head.sample_rate=1"
    )


def test_the_yaml_is_that_of_the_plain_head():
    chosen = ["method=gkd", "data=synthetic_identities"]
    sharded, plain = (compose("train", [*chosen, *more]).head for more in (["head=cosface_sharded"], []))
    assert sharded.head._target_ == plain._target_
    assert (sharded.head.scale, sharded.head.margin_cos) == (plain.scale, plain.margin_cos)
    assert sharded.sample_rate == 1


def _bfloat16(rank, world_size):
    method = _method(CosFaceHead, {"size": 4}, True).float()
    method.teacher_head.head.float()
    batch = _batch(rank, world_size)
    batch = FaceBatch(
        batch.images.float(), batch.labels, teacher_embeddings=batch.teacher_embeddings.bfloat16()
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = method.distill(batch)
    output.loss.backward()
    return output.loss.dtype, all(p.grad.isfinite().all() for p in method.parameters())


@pytest.mark.slow
def test_bfloat16_is_finite_in_two_processes():
    assert in_processes(_bfloat16, 2) == [(torch.float32, True)] * 2
