"""Feature maps: where they are tapped, and the methods on them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from facedistill.errors import ConfigError
from facedistill.methods.at import AttentionTransfer
from facedistill.methods.fitnet import FitNet
from facedistill.models.backbones.mobilefacenet import MobileFaceNet
from facedistill.models.feature_maps import FeatureMapTap, Layer, read_teacher, teacher_tap
from facedistill.models.teachers import ArcFaceMobileFaceNet, FrozenTeacher
from facedistill.models.weights import write_weights
from facedistill.types import FaceBatch, InputSpec
from tests.methods.small_methods import SmallStudent, faces, overfit, small


def test_the_last_layer_of_a_size_is_found():
    network = MobileFaceNet(embedding_dim=16)
    assert FeatureMapTap(network, key="k").layer == Layer("trunk", 512, 7, 7)
    layer = FeatureMapTap(network, key="k", size_px=14).layer
    assert (layer.channels, layer.height, layer.width) == (128, 14, 14)
    assert network.training
    assert FeatureMapTap(network, key="k", name="trunk.0.0").layer == Layer("trunk.0.0", 64, 56, 56)
    assert FeatureMapTap(ArcFaceMobileFaceNet(), key="k").layer == Layer("trunk", 64, 7, 7)


def test_layers_that_are_none_are_refused():
    network = SmallStudent()
    with pytest.raises(ConfigError) as error:
        FeatureMapTap(network, key="method.student_layer", input_px=8, size_px=7)
    assert str(error.value) == (
        "method.size_px=7: SmallStudent has no feature map of that height and width; there are 2, 4"
    )
    with pytest.raises(ConfigError) as error:
        FeatureMapTap(network, key="method.student_layer", input_px=8, name="last")
    assert str(error.value) == (
        "method.student_layer=last: SmallStudent has no such layer with a feature map; its last is pool"
    )
    with pytest.raises(ConfigError) as error:
        FeatureMapTap(nn.Sequential(nn.Flatten(), nn.Linear(192, 6)), key="k", input_px=8, name="1")
    assert str(error.value) == "k=1: Sequential has no layer with a feature map"


def test_a_map_is_what_the_layer_gave_with_its_gradient():
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(inplace=True), nn.Flatten())
    images = torch.randn(2, 3, 4, 4)
    embeddings, maps = FeatureMapTap(network, key="k", input_px=4, name="0").read(lambda: network(images))
    assert torch.equal(maps, network[0](images))  # not what the ReLU made of it in place
    assert embeddings.shape == (2, 32)
    maps.sum().backward()
    assert network[0].weight.grad.abs().sum() > 0
    assert not network[0]._forward_hooks


def test_a_real_frozen_teacher_is_read_uncompiled(tmp_path):
    network = ArcFaceMobileFaceNet()
    write_weights(tmp_path / "weights.safetensors", network.state_dict(), {})
    teacher = FrozenTeacher(
        ArcFaceMobileFaceNet(), tmp_path / "weights.safetensors", InputSpec(color="BGR"), compile=True
    )
    images = torch.rand(1, 3, 112, 112) * 2 - 1
    embeddings, maps = read_teacher(teacher, teacher_tap(teacher, name=None, size_px=7), images)
    assert maps.shape == (1, 64, 7, 7)
    assert not maps.requires_grad
    expected = network(images.flip(1))
    assert torch.allclose(embeddings, expected, atol=1e-3 * float(expected.detach().abs().max()))
    assert not teacher.network.training


@pytest.mark.parametrize("method", [FitNet, AttentionTransfer])
def test_formula_and_gradient(method):
    instance, batch = small(method, size_px=4, weight=5.0, identity_weight=0), faces(images=3)
    output = instance.distill(batch)
    student = instance.student.second(instance.student.first(batch.images))
    teacher = instance.teacher.network.second(instance.teacher.network.first(batch.images))
    assert student.shape == (3, 5, 4, 4)
    assert teacher.shape == (3, 7, 4, 4)
    if method is FitNet:
        weight, bias = instance.regressor.weight[:, :, 0, 0], instance.regressor.bias
        mapped = torch.einsum("tc,ncyx->ntyx", weight, student) + bias[:, None, None]
        expected = ((mapped - teacher) ** 2).sum() / (3 * 7 * 16)
    else:
        unit = [m.square().sum(1).flatten(1) for m in (student, teacher)]
        unit = [m / m.norm(dim=1, keepdim=True) for m in unit]
        expected = (unit[0] - unit[1]).square().sum() / (3 * 16)
    assert output.terms["feature_map"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert output.loss.item() == pytest.approx(5 * expected.item(), rel=1e-4)
    below = [p for n, p in instance.named_parameters() if n.split(".")[1] in ("first", "second", "weight")]
    found, by_hand = torch.autograd.grad(output.loss, below), torch.autograd.grad(5 * expected, below)
    for one, other in zip(found, by_hand, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("method", [FitNet, AttentionTransfer])
def test_kept_embeddings_are_no_use_and_the_rest_learns(method):
    instance, batch = small(method, size_px=4, head=True, identity_weight=1.0), faces()
    kept = FaceBatch(
        images=batch.images, labels=batch.labels, teacher_embeddings=torch.full((8, 6), torch.nan)
    )
    assert instance.distill(kept).loss.isfinite()
    assert set(instance.distill(batch).terms) == {"identity", "feature_map"}
    assert not any(name.startswith("teacher") for name in instance.state_dict())
    bare = small(method, size_px=4, identity_weight=0)
    first, last = overfit(bare, 150, batch)
    assert last < 0.2 * first
    assert bare.distill(FaceBatch(images=batch.images[:1])).loss.shape == ()


@pytest.mark.parametrize("method", [FitNet, AttentionTransfer])
def test_without_labels_only_layers_below_the_map_learn(method):
    instance = small(method, size_px=4, identity_weight=0)
    instance.distill(faces()).loss.backward()
    assert instance.student.training
    assert all(p.grad is not None for p in instance.parameters() if p.requires_grad)  # DDP requires that
    kept = {name for name, p in instance.student.named_parameters() if not p.requires_grad}
    assert kept == {"last.weight", "last.bias"}


def test_layers_of_different_sizes_can_be_named():
    instance = small(FitNet, student_layer="first", teacher_layer="pool", identity_weight=0)
    assert (instance.student_tap.layer.height, instance.teacher_tap.layer.height) == (4, 2)
    assert instance.distill(faces()).loss.isfinite()
