"""Several teachers: the combined objective by hand, what each is shown, and which methods take them."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from facedistill.losses.relations import pkt_loss
from facedistill.methods.cosine import Cosine
from facedistill.methods.embedding_mse import EmbeddingMSE
from facedistill.methods.pkt import PKT
from facedistill.methods.synthdistill import SynthDistill
from facedistill.models.teachers import frozen
from facedistill.models.teachers.team import TeacherTeam, lead_of
from facedistill.models.weights import write_weights
from facedistill.types import InputSpec
from tests.contracts import test_every_method as contracts
from tests.distributed.processes import in_processes
from tests.methods.small_methods import D, SmallStudent, faces, overfit, share

WIDTHS = {"lead": D, "same": D, "wide": 9}
WEIGHTS = {"lead": 2.0, "same": 1.0, "wide": 1.0}
SPECS = {"lead": InputSpec(size_px=8), "same": InputSpec(8, "BGR", 100.0, 50.0), "wide": InputSpec(size_px=4)}


@functools.cache
def _member(name: str) -> frozen.FrozenTeacher:
    import tempfile
    from pathlib import Path

    class Flat(nn.Sequential):
        embedding_dim = WIDTHS[name]

    Flat.__module__ = "facedistill.models.teachers.flat"
    with torch.random.fork_rng(), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(list(WIDTHS).index(name))
        network = Flat(nn.Flatten(), nn.Linear(3 * SPECS[name].size_px ** 2, WIDTHS[name]))
        path = Path(folder) / "weights.safetensors"
        write_weights(path, network.state_dict(), {})
        return frozen.FrozenTeacher(network, path, SPECS[name])


def _team(*names: str, **weights: float) -> TeacherTeam:
    return TeacherTeam({name: _member(name) for name in names}, WEIGHTS | weights)


def _method(kind, team, student=None, **arguments):
    torch.manual_seed(3)
    sgd = functools.partial(torch.optim.SGD, lr=0.05)
    return kind(student=student or SmallStudent(), teacher=team, optimizer=sgd, **arguments).train()


def test_each_member_sees_the_faces_as_it_expects_them_and_the_order_of_the_others_changes_nothing():
    team, images = _team("lead", "wide", "same"), faces().images
    assert team.names == ("lead", "same", "wide")
    assert team.weights == (0.5, 0.25, 0.25)
    expected = [_member(name)(images) for name in team.names]
    assert torch.equal(team(images), torch.cat(expected, 1))
    assert all(
        torch.equal(ours, theirs) for ours, theirs in zip(team.split(team(images)), expected, strict=True)
    )
    assert (
        team.fingerprint
        == _team("lead", "same", "wide").fingerprint
        != _team("same", "lead", "wide").fingerprint
    )
    assert lead_of(team) is _member("lead")
    assert not team.state_dict()
    assert not list(team.parameters())


def test_cosines_of_the_joined_embeddings_are_the_weighted_means_of_the_members():
    team = _team("lead", "same", "wide")
    embeddings = team(faces().images)
    joined = team.joined(embeddings)
    cosines = [F.normalize(part) @ F.normalize(part).T for part in team.split(embeddings)]
    expected = sum(weight * cosine for weight, cosine in zip(team.weights, cosines, strict=True))
    assert torch.allclose(joined @ joined.T, expected, atol=1e-6)


@pytest.mark.parametrize("kind", [Cosine, EmbeddingMSE, SynthDistill])
def test_the_first_teacher_is_followed_directly_and_the_others_through_a_map(kind):
    team, batch = _team("lead", "same", "wide"), faces()
    method = _method(kind, team)
    output = method.distill(batch)
    student, maps = method.student(batch.images), method.projections.maps
    assert isinstance(maps[0], nn.Identity)
    ours = [student, student @ maps[1].weight.T, student @ maps[2].weight.T]
    theirs = [_member(name)(batch.images) for name in team.names]
    rms = theirs[0].square().mean(1).sqrt()  # of the first; the others are scaled to it, face by face
    theirs[1:] = [one / one.square().mean(1, keepdim=True).sqrt() * rms[:, None] for one in theirs[1:]]
    cosines = [torch.cosine_similarity(a, b) for a, b in zip(ours, theirs, strict=True)]
    errors = [(a - b).square().mean(1) for a, b in zip(ours, theirs, strict=True)]
    parts = [1 - cosine for cosine in cosines] if kind is Cosine else errors
    expected = sum(w * part.mean() for w, part in zip(team.weights, parts, strict=True))
    assert output.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, cosine in zip(team.names, cosines, strict=True):
        assert output.terms[f"cosine_{name}"].item() == pytest.approx(cosine.mean().item(), abs=1e-6)
    agreement = sum(w * cosine for w, cosine in zip(team.weights, cosines, strict=True))
    assert torch.allclose(output.agreement, agreement, atol=1e-6)
    assert not output.agreement.requires_grad
    output.loss.backward()
    assert all(p.grad.any() for p in method.parameters() if p.requires_grad)
    saved = [key for key in method.state_dict() if not key.startswith("student.")]
    assert saved == ["projections.maps.1.weight", "projections.maps.2.weight"]


def test_a_student_learns_from_both_and_a_weight_of_zero_leaves_one_out():
    batch = faces()
    first, last = overfit(_method(Cosine, _team("lead", "wide")), 60, batch)
    assert last < 0.5 * first
    alone = _method(Cosine, _member("lead")).distill(batch)
    assert _method(Cosine, _team("lead", "same", same=0.0)).distill(batch).loss.item() == alone.loss.item()
    assert set(alone.terms) == {"cosine_distance"}


def test_a_student_of_another_width_has_a_map_to_each_teacher():
    student = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
    student.embedding_dim = 5
    output = _method(Cosine, _team("lead", "wide"), student).distill(faces())
    assert output.loss.isfinite()
    assert output.agreement is not None


def test_relations_are_those_of_the_joined_embeddings_and_each_gap_is_logged():
    team, batch = _team("lead", "wide"), faces()
    method = _method(PKT, team, identity_weight=0.0, weight=3.0)
    output = method.distill(batch)
    student, teacher = method.student(batch.images), team(batch.images)
    assert output.loss.item() == pytest.approx(3 * pkt_loss(student, team.joined(teacher)).item(), rel=1e-5)
    assert method.projections is None
    assert output.agreement.shape == (len(batch.images),)
    unit = F.normalize(student)
    for name in team.names:
        other = F.normalize(_member(name)(batch.images))
        gap = (unit @ unit.T - other @ other.T).abs().mean()
        assert output.terms[f"cosine_gap_{name}"].item() == pytest.approx(gap.item(), rel=1e-5)


def test_kept_embeddings_of_all_are_used_and_those_of_the_first_alone_are_not():
    team, batch = _team("lead", "wide"), faces()
    method, right = _method(Cosine, team), team(batch.images)
    assert torch.equal(method.teach(replace(batch, teacher_embeddings=right + 1)), right + 1)
    first = team.split(right)[0]
    assert torch.equal(method.teach(replace(batch, teacher_embeddings=first)), right)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cosine", "pkt"])
def test_resume_is_exact(name, tmp_path, monkeypatch):
    monkeypatch.setattr(contracts, "Teacher", lambda: _team("lead", "wide"))
    contracts.test_resume_is_exact(name, tmp_path)


def _gradients(rank: int, world_size: int):
    found = []
    for kind in (Cosine, SynthDistill, PKT):
        arguments = {} if kind is SynthDistill else {"identity_weight": 0.0}
        method = _method(kind, _team("lead", "wide"), **arguments, **({"weight": 1.0} if kind is PKT else {}))
        output = method.distill(share(faces(), rank, world_size))
        output.loss.backward()
        gradients = {name: p.grad for name, p in method.named_parameters() if p.requires_grad}
        for gradient in gradients.values() if world_size > 1 else ():
            torch.distributed.all_reduce(gradient)
            gradient /= world_size
        found.append(({name: term.item() for name, term in output.terms.items()}, gradients))
    return found


@pytest.mark.slow
def test_two_processes_are_one():
    alone = _gradients(0, 1)
    for answers in in_processes(_gradients, 2):
        for (terms, gradients), (expected_terms, expected) in zip(answers, alone, strict=True):
            assert terms == pytest.approx(expected_terms, rel=1e-4, abs=1e-6)
            for name, gradient in gradients.items():
                assert torch.allclose(gradient, expected[name], rtol=1e-3, atol=1e-5), name
