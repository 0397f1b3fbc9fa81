"""Every student: published size, declared width, a gradient everywhere, low precision, batch of one."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import timm
import torch
import yaml
from drawn_faces import draw_faces
from torch import nn

from facedistill.errors import AssetError, ConfigError
from facedistill.metrics.cost import count_macs, count_params
from facedistill.models.backbones import Backbone, MobileFaceNet, MobileNetV2, TinyFaR
from facedistill.models.backbones.mobilenetv2 import convert
from facedistill.paths import config_dir
from facedistill.types import InputSpec

CARDS = sorted((config_dir() / "backbone").glob("*.yaml"))


def build(path: Path, **overrides: object) -> Backbone:
    settings = {**yaml.safe_load(path.read_text()), **overrides}
    if "asset" in settings:
        settings["asset"] = None
    module, _, name = settings.pop("_target_").rpartition(".")
    return getattr(importlib.import_module(module), name)(**settings)


@pytest.fixture(params=CARDS, ids=lambda path: path.stem)
def card(request: pytest.FixtureRequest) -> Path:
    torch.manual_seed(1)
    return request.param


# Millions of params, and MMACs at 112 px, of the released networks at 512-D.
PUBLISHED = {
    "tinyfar_a": (5.563, 126.8),
    "tinyfar_b": (3.105, 75.5),
    "tinyfar_c": (1.832, 38.2),
    "mobilefacenet": (1.199, 221),
    "mobilefacenet_insightface": (2.060, 438),
    "mobilenetv2": (
        2.880,
        81.6,
    ),  # torchvision: 3,504,872 params less its classifier's 1,281,000, and our linear layer's
}


def test_every_published_network_has_a_configuration() -> None:
    assert {path.stem for path in CARDS} >= PUBLISHED.keys()


@pytest.mark.parametrize("name", PUBLISHED)
def test_costs_what_was_published(name: str) -> None:
    backbone = build(config_dir() / "backbone" / f"{name}.yaml", embedding_dim=512)
    params, mmacs = PUBLISHED[name]
    assert round(count_params(backbone) / 1e6, 3) == params
    measured = count_macs(backbone) / 1e6
    assert round(measured, 1) == mmacs if isinstance(mmacs, float) else round(measured) == mmacs


def test_declares_its_width_and_input(card: Path) -> None:
    backbone = build(card, embedding_dim=48).eval()
    assert backbone.embedding_dim == 48
    assert backbone.input_spec == InputSpec(size_px=112, color="RGB", mean=127.5, std=127.5)
    assert backbone(draw_faces(2)).shape == (2, 48)


def test_its_arguments_build_it_again(card: Path) -> None:
    backbone = build(card, embedding_dim=32)
    again = type(backbone)(**backbone.arguments)
    again.load_state_dict(backbone.state_dict())
    faces = draw_faces(2)
    assert torch.equal(again.eval()(faces), backbone.eval()(faces))


def test_every_parameter_gets_a_gradient(card: Path) -> None:
    # Batch norms first learn this batch's statistics, then hold still: while they follow the batch, a bias
    # that only shifts what the next batch norm centers gets no gradient at all.
    backbone = build(card, embedding_dim=32).train()
    faces = draw_faces(4)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        backbone(faces)
    (backbone.eval()(faces) * torch.randn(4, 32)).sum().backward()
    idle = [n for n, p in backbone.named_parameters() if p.grad is None or not p.grad.abs().max() > 1e-3]
    assert idle == []


def test_batch_of_one_equals_its_row_of_a_batch(card: Path) -> None:
    backbone = build(card, embedding_dim=32).eval()
    faces = draw_faces(3)
    with torch.no_grad():
        rows = torch.cat([backbone(face[None]) for face in faces])
        torch.testing.assert_close(rows, backbone(faces), rtol=1e-4, atol=1e-5)


def test_is_finite_in_bf16(card: Path) -> None:
    backbone = build(card, embedding_dim=32).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embeddings = backbone(draw_faces(4))
    embeddings.float().square().mean().backward()
    assert embeddings.isfinite().all()
    assert all(p.grad.isfinite().all() for p in backbone.parameters() if p.grad is not None)


def test_embedding_is_not_normalized(card: Path) -> None:
    with torch.no_grad():
        norms = build(card, embedding_dim=32).train()(draw_faces(4)).norm(dim=1)
    assert not torch.allclose(norms, torch.ones_like(norms), atol=0.05)


def test_tinyfar_is_timm_and_one_linear_layer() -> None:
    backbone = TinyFaR("c", embedding_dim=16).eval()
    reference = timm.create_model("tinynet_c", num_classes=16).eval()
    state = {key.removeprefix("trunk."): value for key, value in backbone.state_dict().items()}
    reference.load_state_dict({key.replace("linear.", "classifier."): value for key, value in state.items()})
    faces = draw_faces(2)
    with torch.no_grad():
        torch.testing.assert_close(backbone(faces), reference(faces))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (TinyFaR, "backbone.variant: TinyFaR has no variant 'z'; choose a, b or c"),
        (MobileFaceNet, "backbone.variant: MobileFaceNet has no variant 'z'; choose tface or insightface"),
    ],
)
def test_refuses_an_unknown_variant(kind: type[Backbone], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        kind(variant="z")
    assert str(caught.value) == message


def test_says_when_imagenet_weights_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(AssetError) as caught:
        TinyFaR("b", pretrained=True)
    assert str(caught.value) == (
        "backbone.pretrained: timm cannot fetch the ImageNet weights of tinynet_b (ConnectionError); "
        "connect to the Hugging Face hub once, or set backbone.pretrained=false to start from scratch"
    )


def test_mobilenetv2_starts_where_torchvision_left_off(tmp_path: Path) -> None:
    import torchvision

    published = torchvision.models.mobilenet_v2()
    torch.save(published.state_dict(), tmp_path / "weights.pth")
    backbone = MobileNetV2(16)
    backbone.trunk.load_state_dict(convert({"weights.pth": tmp_path / "weights.pth"}))
    images = torch.rand(2, 3, 112, 112)
    features = published.eval().features(images).mean((2, 3))
    assert torch.equal(backbone.eval()(images), backbone.linear(features))


def test_a_pickle_that_is_no_state_dict_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2, 3], tmp_path / "weights.pth")
    with pytest.raises(AssetError) as caught:
        convert({"weights.pth": tmp_path / "weights.pth"})
    assert str(caught.value) == "weights.pth is not torchvision's MobileNetV2 state dict; obtain it again"
