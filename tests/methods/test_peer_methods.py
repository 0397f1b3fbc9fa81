"""Methods whose target moves: a peer, or a teacher that is drawn towards its student."""

from __future__ import annotations

import pytest
import torch

from facedistill.errors import ConfigError
from facedistill.methods.mutual import Mutual
from facedistill.methods.refo import ReFO
from facedistill.models.heads import CosFaceHead, ShardedHead
from facedistill.types import FaceBatch
from tests.methods.small_methods import SmallStudent, at_progress, faces, overfit, small


def _mutual(**arguments):
    return small(Mutual, head=True, peer=SmallStudent(seed=5), **arguments)


def _posteriors(network, head, batch):
    unit = torch.nn.functional.normalize(network(batch.images))
    return (4 * unit @ torch.nn.functional.normalize(head.weight).T).softmax(1)


def test_peers_learn_from_labels_and_from_each_other():
    method, batch = _mutual(weight=2.0), faces()
    output = method.distill(batch)
    p, q = _posteriors(method.student, method.head, batch), _posteriors(method.peer, method.peer_head, batch)
    divergence = sum((b.detach() * (b.detach() / a).log()).sum() for a, b in zip(p, q, strict=True)) / 8
    back = sum((a.detach() * (a.detach() / b).log()).sum() for a, b in zip(p, q, strict=True)) / 8
    own = method.head(method.student(batch.images), batch.labels).mean()
    other = method.peer_head(method.peer(batch.images), batch.labels).mean()
    expected = {"identity": own, "peer_identity": other, "divergence": divergence, "peer_divergence": back}
    assert output.terms.keys() == expected.keys()
    for name, term in expected.items():
        assert output.terms[name].item() == pytest.approx(term.item(), rel=1e-4), name
    parameters = list(method.parameters())
    found = torch.autograd.grad(output.loss, parameters)
    by_hand = torch.autograd.grad(own + other + 2 * (divergence + back), parameters)
    for one, two in zip(found, by_hand, strict=True):
        assert torch.allclose(one, two, atol=1e-5)


def test_the_peer_is_another_network_with_another_head():
    method = _mutual()
    assert not torch.equal(method.head.weight, method.peer_head.weight)
    assert float(method.peer_head.weight.detach().std() / method.head.weight.detach().std()) == pytest.approx(
        1, abs=0.6
    )
    assert {"peer.first.weight", "peer_head.weight", "student.first.weight"} < set(method.state_dict())
    assert method.requirements_with({"identity_weight": 1.0}).labels
    first, last = overfit(method, 200, faces())
    assert last < 0.6 * first
    method.peer.eval()
    method.on_fit_start()
    assert method.peer.training


def test_images_of_the_balanced_half_are_left_out_for_both():
    method, batch = _mutual(weight=0.0), faces()
    balanced = torch.arange(8) >= 4
    mixed = FaceBatch(images=batch.images, labels=batch.labels, balanced=balanced)
    half = FaceBatch(images=batch.images[:4], labels=batch.labels[:4])
    for name in ("identity", "peer_identity"):
        assert method.distill(mixed).terms[name].item() == pytest.approx(
            method.distill(half).terms[name].item(), rel=1e-5
        )


def test_mutual_learning_without_labels_is_refused():
    with pytest.raises(ConfigError) as error:
        small(Mutual, peer=SmallStudent(), identity_weight=0)
    assert str(error.value) == (
        "method.identity_weight=0: mutual learning compares identity logits, which need a head; set it above 0"
    )


def _refo(fraction, **arguments):
    return at_progress(small(ReFO, **arguments), fraction)


def _gradients(method, batch):
    method.phase_of_step = method.phase
    output = method.distill(batch)
    output.loss.backward()
    method.on_before_optimizer_step(None)
    moving = {name.split(".")[0] for name, p in method.named_parameters() if p.grad is not None}
    return output, moving


def test_the_three_phases_of_refo():
    batch = faces()
    for fraction, phase, learns in ((0.0, 1, "student"), (0.35, 2, "adapter"), (0.4, 3, "student")):
        method = _refo(fraction, reverse_weight=3.0)
        with torch.no_grad():
            method.adapter.weight.mul_(1.5)
        student, teacher = method.student(batch.images), method.teacher(batch.images)
        adapted = method.adapter(teacher)
        output, moving = _gradients(method, batch)
        assert method.phase == phase
        assert moving == {learns}
        assert method.student.training == (phase != 2)
        expected = {
            1: lambda s=student, t=teacher, a=adapted: ((s - t) ** 2).mean(),
            2: lambda s=student, t=teacher, a=adapted: 3 * ((a - s) ** 2).mean() + ((a - t) ** 2).mean(),
            3: lambda s=student, t=teacher, a=adapted: ((s - a) ** 2).mean(),
        }[phase]()
        assert output.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    fresh = _refo(0.0)
    assert torch.allclose(fresh.adapter(teacher), teacher)


def test_the_adapter_comes_between_teacher_and_student():
    method, batch = _refo(0.35), faces()
    optimizer = torch.optim.Adam(method.adapter.parameters(), lr=3e-2)
    for _ in range(100):
        optimizer.zero_grad()
        method.distill(batch).loss.backward()
        optimizer.step()
    with torch.no_grad():
        student, teacher = method.student(batch.images), method.teacher(batch.images)
        adapted = method.adapter(teacher)
    whole = (student - teacher).square().mean()
    assert (adapted - student).square().mean() < 0.6 * whole
    assert (adapted - teacher).square().mean() < 0.6 * whole


@pytest.mark.parametrize(("meet_at", "return_at"), [(0.0, 0.5), (0.5, 0.5), (0.6, 0.5), (0.5, 1.0)])
def test_phases_out_of_order_are_refused(meet_at, return_at):
    with pytest.raises(ConfigError) as error:
        small(ReFO, meet_at=meet_at, return_at=return_at)
    assert str(error.value) == (
        f"method.meet_at={meet_at}, method.return_at={return_at}: phases must end in this order, "
        "both between 0 and 1"
    )


def test_a_sharded_head_has_no_logits_to_compare():
    head = ShardedHead(head=CosFaceHead, num_identities=5, embedding_dim=6)
    with pytest.raises(ConfigError) as caught:
        small(Mutual, head=head, peer=SmallStudent(seed=5))
    assert str(caught.value) == (
        "head: Mutual needs the logits of all identities in each process, and ShardedHead splits them; choose another "
        "head, such as head=arcface"
    )
