"""Methods that keep something by hand: memory banks, centers, mined triplets."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from facedistill.errors import ConfigError
from facedistill.methods.coupleface import CoupleFace
from facedistill.methods.crd import CRD
from facedistill.methods.triplet_distillation import TripletDistillation
from facedistill.models.memory_bank import MemoryBank, draw_indices
from facedistill.types import FaceBatch
from tests.methods.small_methods import IDENTITIES, NUM_IMAGES, faces, overfit, small

CRD_SMALL = {"num_images": NUM_IMAGES, "dim": 5, "num_negatives": 7, "identity_weight": 0, "seed": 3}
CENTERS = F.normalize(torch.randn(IDENTITIES, 6, generator=torch.Generator().manual_seed(8)))


@pytest.mark.parametrize("negatives", ["shared", "per_image"])
def test_crd_is_the_released_formula(negatives):
    method, batch = small(CRD, negatives=negatives, **CRD_SMALL), faces()
    method.images_seen = 40
    student_bank, teacher_bank = method.student_bank.vectors.clone(), method.teacher_bank.vectors.clone()
    output = method.distill(batch)
    s = method.project_student(method.student(batch.images))
    t = method.project_teacher(method.teacher(batch.images))
    s, t = s / s.norm(dim=1, keepdim=True), t / t.norm(dim=1, keepdim=True)
    for name, view, bank in (("student_nce", s, teacher_bank), ("teacher_nce", t, student_bank)):
        x = torch.zeros(8, 8)
        for i in range(8):
            counter = 40 + (i if negatives == "per_image" else 0)
            drawn = draw_indices(3, "crd", torch.tensor([counter]), 7, NUM_IMAGES)[0].tolist()
            for j, index in enumerate([int(batch.indices[i]), *drawn]):
                x[i, j] = math.exp(float(view[i] @ bank[index]) / 0.07)
        z, noise = float(x.mean()) * NUM_IMAGES, 7 / NUM_IMAGES
        x = x / z
        expected = -torch.log(x[:, 0] / (x[:, 0] + noise)) - torch.log(noise / (x[:, 1:] + noise)).sum(1)
        assert output.terms[name].item() == pytest.approx(expected.mean().item(), rel=1e-4)
        kept = method.log_z[0 if name == "student_nce" else 1]
        assert kept.item() == pytest.approx(math.log(z), rel=1e-4)
    assert output.loss.item() == pytest.approx(0.8 * sum(float(v) for v in output.terms.values()), rel=1e-5)
    before = method.log_z.clone()
    method.distill(faces(seed=1))
    assert torch.equal(method.log_z, before)  # of the first batch, for good


def test_the_bank_moves_by_its_momentum_and_only_in_training():
    bank = MemoryBank(num_images=4, dim=3, momentum=0.5, seed=1)
    before = bank.vectors.clone()
    assert before.abs().max() <= 1
    views = F.normalize(torch.randn(3, 3))
    bank.update(torch.tensor([2, 0, 2]), views)
    for index, view in ((0, views[1]), (2, (views[0] + views[2]) / 2)):
        moved = 0.5 * before[index] + 0.5 * view
        assert torch.allclose(bank.vectors[index], moved / moved.norm(), atol=1e-6)
    assert torch.equal(bank.vectors[[1, 3]], before[[1, 3]])

    method = small(CRD, **CRD_SMALL).eval()
    before = {name: buffer.clone() for name, buffer in method.named_buffers()}
    assert method.distill(faces()).loss.isfinite()
    for name, buffer in method.named_buffers():
        assert torch.equal(buffer.nan_to_num(), before[name].nan_to_num()), name


def test_crd_draws_at_most_all_images():
    single = small(CRD, **{**CRD_SMALL, "num_negatives": 10**6})
    assert single.num_negatives == NUM_IMAGES
    assert single.distill(faces(images=1)).loss.isfinite()


def test_crd_asks_for_a_finite_set():
    with pytest.raises(ConfigError) as error:
        small(CRD, **{**CRD_SMALL, "num_images": None})
    assert str(error.value) == "method: crd stores a vector per image and needs a finite set; use data=faces"
    assert CRD.requirements_with({"identity_weight": 0}).indices
    assert not CRD.requirements_with({"identity_weight": 0}).labels


def test_draws_depend_on_seed_stream_and_counter_only():
    drawn = draw_indices(1, "a", torch.tensor([5, 6]), 1000, 10)
    assert torch.equal(drawn[1], draw_indices(1, "a", torch.tensor([6]), 1000, 10)[0])
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], draw_indices(2, "a", torch.tensor([5]), 1000, 10)[0])
    assert torch.bincount(drawn.flatten(), minlength=10).min() > 150  # 200 each on average


def test_coupleface_by_hand():
    method, batch = small(CoupleFace, centers=2 * CENTERS, num_relations=2, identity_weight=0), faces()
    assert torch.allclose(method.centers, CENTERS)
    output = method.distill(batch)
    feature, relation = [], []
    units = {}
    for image, label in zip(batch.images, batch.labels.tolist(), strict=True):
        s, t = method.student(image[None])[0], method.teacher(image[None])[0]
        s, t = s / s.norm(), t / t.norm()
        others = sorted((k for k in range(IDENTITIES) if k != label), key=lambda k: -float(t @ CENTERS[k]))[
            :2
        ]
        feature.append(((s - t) ** 2).sum())
        relation.append(sum(torch.relu(CENTERS[k] @ s - CENTERS[k] @ t - 0.03) for k in others) / 2)
        units.setdefault(label, []).append(t)
    assert output.terms["feature"].item() == pytest.approx(float(sum(feature)) / 8, rel=1e-4)
    assert output.terms["relation"].item() == pytest.approx(float(sum(relation)) / 8, rel=1e-4)
    own = torch.autograd.grad(output.loss, list(method.student.parameters()))
    by_hand = torch.autograd.grad((sum(feature) + sum(relation)) / 8, list(method.student.parameters()))
    for one, other in zip(own, by_hand, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    for label in range(IDENTITIES):
        expected = F.normalize(sum(units[label]), dim=0) if label in units else CENTERS[label]
        assert torch.allclose(method.centers[label], expected, atol=1e-5)
    assert "centers" in method.state_dict()
    method.eval()
    before = method.centers.clone()
    method.distill(faces(seed=1))
    assert torch.equal(method.centers, before)


def test_coupleface_needs_labels_even_without_identity_loss():
    needs = CoupleFace.requirements_with({"identity_weight": 0})
    assert needs.labels
    assert needs.class_centers
    lonely = small(CoupleFace, centers=CENTERS[:1], identity_weight=0)
    batch = faces(images=1)
    assert lonely.distill(
        FaceBatch(images=batch.images, labels=torch.zeros(1, dtype=torch.long))
    ).loss.isfinite()


def test_triplets_are_mined_and_learned():
    method, batch = small(TripletDistillation, reach=4.0, identity_weight=0), faces(images=16)
    output = method.distill(batch)
    assert set(output.terms) == {"triplet"}
    first, last = overfit(method, 150, batch)
    assert last < 0.6 * first
    assert TripletDistillation.requirements_with({"identity_weight": 0}).labels


def test_without_a_triplet_the_term_is_absent():
    alone = faces(images=1)
    output = small(TripletDistillation, identity_weight=0).distill(alone)
    assert output.terms == {}
    output.loss.backward()
    assert output.loss.item() == 0
    with_head = small(TripletDistillation, head=True).distill(alone)
    assert set(with_head.terms) == {"identity"}
