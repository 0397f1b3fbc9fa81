"""The pocket teacher is the published network: against onnxruntime, against committed embeddings."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from facedistill.assets import obtain
from facedistill.errors import AssetError
from facedistill.images import to_float
from facedistill.models.cost import count_macs, count_params
from facedistill.models.teachers import ArcFaceMobileFaceNet, FrozenTeacher
from facedistill.models.teachers.arcface_mobilefacenet import _GroupedConv2d, block_diagonal, convert
from facedistill.models.teachers.golden import draw_faces
from facedistill.system.paths import config_dir
from facedistill.types import InputSpec
from tests.helpers.assets import asset_or_skip, published_graph_or_skip
from tests.shared_faces import lfw_faces

GOLDEN = Path(__file__).parents[2] / "golden" / "w600k_mbf.json"


@pytest.fixture(scope="module")
def teacher() -> FrozenTeacher:
    settings = yaml.safe_load((config_dir() / "teacher" / "w600k_mbf.yaml").read_text())
    weights = asset_or_skip(settings["asset"])
    return FrozenTeacher(
        ArcFaceMobileFaceNet(),
        weights,
        InputSpec(**settings["input_spec"]),
        precision=settings["precision"],
        compile=settings["compile"],
    )


@pytest.fixture(scope="module")
def published() -> onnxruntime.InferenceSession:
    path = published_graph_or_skip("w600k_mbf")
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def photographs() -> Tensor:
    faces = [torch.from_numpy(np.array(face)) for face in itertools.islice(lfw_faces(), 16)]
    return to_float(torch.stack(faces).permute(0, 3, 1, 2))


def test_params_and_macs() -> None:
    network = ArcFaceMobileFaceNet()
    settings = yaml.safe_load((config_dir() / "teacher" / "w600k_mbf.yaml").read_text())
    assert settings["embedding_dim"] == network.embedding_dim == 512
    assert round(count_params(network) / 1e6, 1) == 3.4
    assert round(count_macs(network) / 1e9, 2) == 0.44


@pytest.mark.assets
@pytest.mark.parametrize("kind", ["drawn", "noise"])
def test_equals_onnxruntime(
    teacher: FrozenTeacher, published: onnxruntime.InferenceSession, kind: str
) -> None:
    torch.manual_seed(0)
    images = draw_faces(4) if kind == "drawn" else torch.rand(4, 3, 112, 112) * 2 - 1
    check_equal(teacher, published, images)


@pytest.mark.assets
@pytest.mark.shared
def test_equals_onnxruntime_on_photographs(
    teacher: FrozenTeacher, published: onnxruntime.InferenceSession, photographs: Tensor
) -> None:
    check_equal(teacher, published, photographs)
    assert 20 < float(teacher(photographs).norm(dim=1).mean()) < 28  # assets.md: 23.7 ± 1.9


def check_equal(teacher: FrozenTeacher, session: onnxruntime.InferenceSession, images: Tensor) -> None:
    expected = torch.cat(
        [torch.from_numpy(session.run(None, {"input.1": image[None].numpy()})[0]) for image in images]
    )
    torch.testing.assert_close(teacher(images), expected, rtol=0, atol=1e-4)


@pytest.mark.assets
@pytest.mark.shared
def test_bf16_keeps_the_direction_on_photographs(teacher: FrozenTeacher, photographs: Tensor) -> None:
    weights = obtain("w600k_mbf", quiet=True)
    quick = FrozenTeacher(ArcFaceMobileFaceNet(), weights, InputSpec(), precision="bf16")
    assert torch.cosine_similarity(quick(photographs), teacher(photographs)).min() > 0.999


@pytest.mark.assets
def test_is_the_teacher_of_record(teacher: FrozenTeacher) -> None:
    golden = json.loads(GOLDEN.read_text())
    embeddings = teacher(draw_faces(len(golden["norm"])))
    torch.testing.assert_close(embeddings.norm(dim=1), torch.tensor(golden["norm"]), rtol=1e-4, atol=0)
    torch.testing.assert_close(embeddings[:, :8], torch.tensor(golden["leading"]), rtol=0, atol=1e-3)
    unit = torch.nn.functional.normalize(embeddings)
    torch.testing.assert_close(unit @ unit.T, torch.tensor(golden["cosine"]), rtol=0, atol=1e-4)
    assert teacher.fingerprint == golden["fingerprint"]


def graph_file(path: Path, *kinds: str) -> Path:
    """A tiny ONNX file with these layers."""
    weight = numpy_helper.from_array(np.zeros((1, 1, 1, 1), np.float32), "w")
    bias = numpy_helper.from_array(np.zeros(1, np.float32), "b")
    names = ["x", *(f"y{n}" for n in range(len(kinds)))]
    nodes = [
        helper.make_node(kind, [names[n], "w", *(["b"] if kind == "Conv" else [])], [names[n + 1]])
        for n, kind in enumerate(kinds)
    ]
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "tiny", [value], [], [weight, bias])
    onnx.save(helper.make_model(graph), path)
    return path


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (("Conv", "Relu"), "has a Relu where w600k_mbf has a PRelu; give the published file"),
        (("Conv", "PRelu"), "has fewer layers than w600k_mbf; give the published file"),
    ],
)
def test_refuses_another_graph(tmp_path: Path, kinds: tuple[str, ...], message: str) -> None:
    path = graph_file(tmp_path / "m.onnx", *kinds)
    with pytest.raises(AssetError) as caught:
        convert({"m.onnx": path})
    assert str(caught.value) == f"m.onnx {message}"


def test_refuses_a_file_that_is_no_graph(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x08truncated")
    with pytest.raises(
        AssetError, match=r"m\.onnx is truncated or not an ONNX file \(DecodeError\); fetch it again"
    ):
        convert({"m.onnx": path})


@pytest.mark.parametrize(
    ("channels", "groups", "wider"), [(8, 4, 1), (6, 2, 1), (4, 1, 1), (16, 8, 2), (16, 8, 8), (32, 16, 4)]
)
def test_a_convolution_of_wider_groups_with_a_block_diagonal_weight_is_the_grouped_one(
    channels: int, groups: int, wider: int
) -> None:
    images, weight = torch.randn(2, channels, 5, 5), torch.randn(2 * channels, channels // groups, 3, 3)
    grouped = torch.nn.functional.conv2d(images, weight, groups=groups)
    joined = torch.nn.functional.conv2d(images, block_diagonal(weight, groups, wider), groups=wider)
    torch.testing.assert_close(joined, grouped)


@pytest.mark.parametrize(("channels", "groups"), [(128, 64), (32, 2), (4, 2), (24, 4)])
def test_groups_of_eight_channels_give_what_the_grouped_convolution_gives(
    monkeypatch, channels, groups
) -> None:
    layer, images = (
        _GroupedConv2d(channels, channels, 3, padding=1, groups=groups),
        torch.randn(2, channels, 6, 6),
    )
    monkeypatch.setattr(_GroupedConv2d, "has_matrix_units", False)
    monkeypatch.setattr(_GroupedConv2d, "has_vectors_of_eight", True)
    torch.testing.assert_close(layer(images), torch.nn.Conv2d.forward(layer, images))


def test_in_bfloat16_the_dense_convolution_gives_what_the_grouped_one_gives(monkeypatch) -> None:
    torch.manual_seed(0)
    layer = _GroupedConv2d(8, 8, 3, padding=1, groups=4).bfloat16()
    images = torch.randn(2, 8, 6, 6).bfloat16()
    monkeypatch.setattr(_GroupedConv2d, "has_matrix_units", True)
    torch.testing.assert_close(layer(images), torch.nn.Conv2d.forward(layer, images), rtol=0.02, atol=0.02)
