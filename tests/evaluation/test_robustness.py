"""Accuracy under corruptions: which pairs and faces are measured, and the figures by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from facedistill.evaluation.benchmark import score_pairs
from facedistill.evaluation.protocols.base import PairsProtocol
from facedistill.evaluation.protocols.images import ArrayImages, ChangedImages
from facedistill.evaluation.robustness import changed_protocols, fingerprint, robustness_figures, some_pairs
from tests.evaluation.protocols.miniature_benchmark import Averages


@pytest.fixture
def protocol() -> PairsProtocol:
    """200 pairs of 100 faces in 10 folds, kinds in turn."""
    drawn = torch.Generator().manual_seed(1)
    faces = torch.randint(256, (100, 3, 112, 112), dtype=torch.uint8, generator=drawn)
    left, right = torch.randint(100, (2, 200), generator=drawn)
    number = torch.arange(200)
    return PairsProtocol("some", ArrayImages(faces), left, right, number % 2 == 0, number // 20)


def darker(images: Tensor, indices: Tensor) -> Tensor:
    return images - indices.view(-1, 1, 1, 1) / 50


def test_pairs_are_drawn_evenly_and_keep_their_faces(protocol: PairsProtocol) -> None:
    part = some_pairs(protocol, 80, seed=3)
    assert [int((part.fold[part.same] == fold).sum()) for fold in range(10)] == [4] * 10
    assert [int((part.fold[~part.same] == fold).sum()) for fold in range(10)] == [4] * 10
    full = {
        (protocol.image_set.faces[a, 0].sum().item(), protocol.image_set.faces[b, 0].sum().item(), s, f)
        for a, b, s, f in zip(protocol.left, protocol.right, protocol.same.tolist(), protocol.fold.tolist(), strict=True)
    }  # fmt: skip
    chosen = [
        (part.image_set.faces[a, 0].sum().item(), part.image_set.faces[b, 0].sum().item(), s, f)
        for a, b, s, f in zip(part.left, part.right, part.same.tolist(), part.fold.tolist(), strict=True)
    ]  # fmt: skip
    assert len(set(chosen)) == 80
    assert set(chosen) <= full
    assert some_pairs(protocol, 80, seed=3).fingerprint == part.fingerprint
    assert some_pairs(protocol, 80, seed=4).fingerprint != part.fingerprint
    assert some_pairs(protocol, None, seed=3).fingerprint == some_pairs(protocol, 500, seed=5).fingerprint


def test_a_face_is_changed_alike_in_every_batch(protocol: PairsProtocol) -> None:
    images = ChangedImages(protocol.image_set, darker, "darker/1")
    together = torch.cat(list(images.batches(64)))
    assert torch.equal(torch.cat(list(images.batches(7, range(30, 50)))), together[30:50])
    assert torch.equal(together[0], protocol.image_set.faces[0])
    assert (together[99].float() - protocol.image_set.faces[99].float()).mean() < -20
    assert images.fingerprint() != ChangedImages(protocol.image_set, darker, "darker/2").fingerprint()


def test_figures_of_every_condition(protocol: PairsProtocol) -> None:
    protocols = changed_protocols(protocol, {"darker": (darker, "darker/1")})
    wrong = protocol.fold == 2  # half of the pairs of one fold, where the condition turns the decision over

    def score(one: PairsProtocol) -> Tensor:
        same = one.same.float()
        return same if one is protocol else torch.where(wrong & one.same, 0.0, same)

    figures = robustness_figures(protocols, score)
    assert {key: figures[key] for key in ("protocol", "pairs", "genuine", "impostor", "faces")} == {
        "protocol": "some", "pairs": 200, "genuine": 100, "impostor": 100, "faces": 100,
    }  # fmt: skip
    plain, dark = figures["conditions"]["plain"], figures["conditions"]["darker"]
    assert plain.keys() == {"accuracy", "accuracy_ci"}
    assert (plain["accuracy"], dark["accuracy"]) == (1.0, pytest.approx(0.95))
    assert dark["loss"] == pytest.approx(0.05)
    # Nine folds lose nothing and one a half: mean 0.05, standard error 0.05, t(9) = 2.262.
    assert dark["loss_ci"] == pytest.approx([0.05 - 2.262 * 0.05, 0.05 + 2.262 * 0.05], abs=1e-4)
    assert figures["fingerprint"] == fingerprint(protocols)
    assert figures["fingerprint"] != fingerprint(
        changed_protocols(protocol, {"darker": (darker, "darker/2")})
    )


def test_cached_scores_are_those_of_the_changed_faces(protocol: PairsProtocol, tmp_path: object) -> None:
    network = Averages()
    protocols = changed_protocols(some_pairs(protocol, 40, 0), {"darker": (darker, "darker/1")})
    first = [score_pairs(network, one, cache=tmp_path) for one in protocols.values()]
    calls = network.calls
    again = [score_pairs(network, one, cache=tmp_path) for one in protocols.values()]
    assert network.calls == calls
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1])
