"""Promises that every network of conf/backbone keeps; a new yaml is held to them without a line added here."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from facedistill.config import compose
from facedistill.export import check_parity, export_onnx, load_student, save_student
from facedistill.models.backbones import Backbone
from facedistill.models.teachers.golden import draw_faces
from facedistill.runs.assembly import build_method
from facedistill.runs.method_cost import GivenTeacher
from facedistill.types import FaceBatch, InputSpec
from tests.contracts.backbone_cards import NAMES, QUICK, trained

D = 32


def cards(quick: set[str]) -> list:
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]


@pytest.fixture(scope="module")
def faces() -> torch.Tensor:
    return draw_faces(4)


@pytest.fixture(scope="module", params=cards(QUICK))
def backbone(request: pytest.FixtureRequest, faces: torch.Tensor) -> Backbone:
    return trained(request.param, D, faces)


@pytest.fixture(scope="module")
def cosine() -> DictConfig:
    return compose("train", ["method=cosine"])


def test_declares_its_width_and_input(backbone: Backbone, faces: torch.Tensor) -> None:
    assert backbone.embedding_dim == D
    assert backbone.input_spec == InputSpec(size_px=112, color="RGB", mean=127.5, std=127.5)
    with torch.no_grad():
        embeddings = backbone(faces)
    assert embeddings.shape == (4, D)
    assert not torch.allclose(embeddings.norm(dim=1), torch.ones(4), atol=0.05)


def test_batch_of_one_equals_its_row_of_a_batch(backbone: Backbone, faces: torch.Tensor) -> None:
    with torch.no_grad():
        together = backbone(faces)
        alone = torch.cat([backbone(face[None]) for face in faces[:2]])
    scale = together.abs().max()
    torch.testing.assert_close(alone / scale, together[:2] / scale, rtol=1e-3, atol=1e-4)


def test_a_file_holds_all_of_it(backbone: Backbone, faces: torch.Tensor, tmp_path: Path) -> None:
    save_student(backbone, tmp_path / "student.safetensors", {})
    again = load_student(tmp_path / "student.safetensors")
    assert type(again) is type(backbone)
    with torch.no_grad():
        assert torch.equal(again(faces[:2]), backbone(faces[:2]))


def test_every_parameter_gets_a_gradient(backbone: Backbone, faces: torch.Tensor) -> None:
    # In eval mode: while batch norms follow the batch, a bias before one gets no gradient at all.
    backbone.zero_grad()
    directions = torch.randn(4, D, generator=torch.Generator().manual_seed(2))
    (backbone(faces) * directions).sum().backward()
    idle = [n for n, p in backbone.named_parameters() if p.grad is None or not p.grad.abs().max() > 1e-4]
    backbone.zero_grad()
    assert idle == []


def test_is_finite_in_bf16(backbone: Backbone, faces: torch.Tensor) -> None:
    student = copy.deepcopy(backbone).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embeddings = student(faces[:2])  # slow on a CPU without bfloat16
    embeddings.float().square().mean().backward()
    assert embeddings.isfinite().all()
    assert all(p.grad.isfinite().all() for p in student.parameters() if p.grad is not None)


def test_learns_by_one_step_of_a_method(backbone: Backbone, faces: torch.Tensor, cosine: DictConfig) -> None:
    student = copy.deepcopy(backbone)
    method = build_method(cosine, student=student, teacher=GivenTeacher(len(faces), D)).train()
    batch = FaceBatch(images=faces)
    before = method.distill(batch).loss
    before.backward()
    norm = torch.cat([p.grad.flatten() for p in student.parameters() if p.grad is not None]).norm()
    with torch.no_grad():
        for parameter in student.parameters():
            if parameter.grad is not None:
                parameter -= 1e-3 / norm**2 * parameter.grad  # lowers the loss by 0.001 where it is straight
    assert method.distill(batch).loss < before


@pytest.mark.parametrize("name", cards({"timm"}))  # an export takes some ten seconds
def test_onnx_embeds_alike_at_any_batch(name: str, faces: torch.Tensor, tmp_path: Path) -> None:
    many = faces.repeat(16, 1, 1, 1)
    many = (many + 0.2 * torch.randn(many.shape, generator=torch.Generator().manual_seed(3))).clamp(-1, 1)
    backbone = trained(
        name, D, many
    )  # statistics of other images would amplify float32's rounding with random weights
    export_onnx(backbone, tmp_path / "student.onnx", {})
    for batch in (many[:3], many):  # as one, and one by one
        assert check_parity(backbone, tmp_path / "student.onnx", batch) > 0.99999
