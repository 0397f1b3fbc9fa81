"""What single networks promise; what all of them do is in tests/contracts/test_every_backbone.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

from facedistill.errors import AssetError, ConfigError
from facedistill.models.backbones import (
    Backbone,
    GhostFaceNet,
    MixFaceNet,
    MobileFaceNet,
    MobileNetV2,
    Timm,
    TinyFaR,
)
from facedistill.models.backbones.embedding import embedding_layers
from facedistill.models.backbones.mobilenetv2 import convert
from facedistill.models.teachers.golden import draw_faces


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


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (MixFaceNet, {"size": "l"}, "backbone.size: MixFaceNet has no size 'l'; choose xs, s or m"),
        (GhostFaceNet, {"width": 0.0}, "backbone.width=0.0: must be > 0; 1.3 is the published one"),
        (GhostFaceNet, {"first_stride": 4}, "backbone.first_stride=4: GhostFaceNet has stride 1 or 2"),
        (
            GhostFaceNet,
            {"head": "gap"},
            "backbone.head: no head is named 'gap'; choose one of gdc, fc_bn, linear, gap_linear",
        ),
        (
            Timm,
            {"name": "resnet_18"},
            f"backbone.name=resnet_18: timm {timm.__version__} has no such network; did you mean resnet18, ",
        ),
        (
            Timm,
            {"name": "test_vit", "head": "gdc"},
            "backbone.head=gdc: test_vit ends in (50, 64), not in a feature map; use backbone.head=own",
        ),
        (
            Timm,
            {"name": "vit_tiny_patch16_224", "first_stride": 8},
            "backbone.first_stride=8: vit_tiny_patch16_224 has no stem of this stride with a 14 x 14 output; set it to null",
        ),
    ],
)
def test_refuses_what_a_network_cannot_have(
    kind: type[Backbone], arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        kind(**arguments)
    assert str(caught.value).startswith(message)


def test_heads_are_what_they_are_called() -> None:
    torch.manual_seed(0)
    maps = torch.randn(2, 3, 4, 4)
    places = maps.flatten(2)

    gdc = embedding_layers("gdc", 3, 4, 5).eval()
    weighted = (places * gdc[0].weight.reshape(3, 16)).sum(-1)
    rest = (1 + 1e-5) ** -0.5  # of each fresh batch norm
    torch.testing.assert_close(gdc(maps), weighted * rest @ gdc[3].weight.T * rest)

    fc = embedding_layers("fc_bn", 3, 4, 5).eval()
    torch.testing.assert_close(fc(maps), (maps.flatten(1) * rest @ fc[2].weight.T + fc[2].bias) * rest)

    linear = embedding_layers("linear", 3, 4, 5)
    torch.testing.assert_close(linear(maps), maps.flatten(1) @ linear[1].weight.T + linear[1].bias)

    pooled = embedding_layers("gap_linear", 3, 4, 5)
    torch.testing.assert_close(pooled(maps), places.mean(-1) @ pooled[2].weight.T + pooled[2].bias)


@pytest.mark.parametrize(
    ("name", "stride", "side"),
    [
        ("test_resnet", None, 4),
        ("test_resnet", 1, 7),  # 112 px: the stem no longer halves
        ("test_convnext", None, 3),  # 4 x 4 patches, then three halvings that drop what is left over
        ("test_convnext", 2, 7),
        ("fastvit_t8", 1, 7),  # three parallel convolutions read the image
        ("test_byobnet", 1, 7),
    ],
)
def test_first_stride_of_a_timm_network(name: str, stride: int | None, side: int) -> None:
    backbone = Timm(name, 8, head="gdc", first_stride=stride).eval()
    assert backbone.head[0].kernel_size == (side, side)
    assert backbone(torch.zeros(1, 3, 112, 112)).shape == (1, 8)


def test_the_own_head_of_a_timm_network_is_timms() -> None:
    backbone = Timm("test_efficientnet", 8).eval()
    reference = timm.create_model("test_efficientnet", num_classes=8).eval()
    reference.load_state_dict(
        {key.removeprefix("trunk."): value for key, value in backbone.state_dict().items()}
    )
    faces = draw_faces(2)
    with torch.no_grad():
        torch.testing.assert_close(backbone(faces), reference(faces))


def test_a_network_of_fixed_input_size_is_built_for_112_px() -> None:
    assert Timm("test_vit", 8).eval()(torch.zeros(1, 3, 112, 112)).shape == (1, 8)


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
    assert str(caught.value) == "weights.pth is not torchvision's MobileNetV2 state dict; download it again"
