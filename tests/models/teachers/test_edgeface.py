"""EdgeFace from its published graphs: the same answers as onnxruntime's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from facedistill.errors import AssetError, ConfigError
from facedistill.models.cost import count_macs, count_params
from facedistill.models.teachers import EdgeFace, FrozenTeacher
from facedistill.models.teachers.edgeface import convert
from facedistill.models.teachers.golden import draw_faces
from facedistill.system.paths import config_dir
from facedistill.types import InputSpec
from tests.helpers.assets import asset_or_skip, published_graph_or_skip


# EdgeFace, table 1: XS (0.6) 1.77 M params, 154 MFLOPs; S (0.5) 3.65 M, 306 MFLOPs. 1 MAC is 2 FLOPs, and the
# products inside the attention, which it counts and `count_macs` does not, are the rest.
@pytest.mark.parametrize(("size", "millions", "mmacs"), [("xs", 1.77, 154 / 2), ("s", 3.65, 306 / 2)])
def test_params_and_macs_are_the_published_ones(size: str, millions: float, mmacs: float) -> None:
    network = EdgeFace(size)
    assert count_params(network) / 1e6 == pytest.approx(millions, abs=0.02)
    assert count_macs(network) / 1e6 == pytest.approx(mmacs, rel=0.02)


def test_every_linear_layer_is_a_low_rank_pair() -> None:
    ranks = {
        key: (layer.in_features, layer.out_features)
        for key, layer in EdgeFace("xs").named_modules()
        if isinstance(layer, nn.Linear)
    }
    assert all(key.endswith(("linear1", "linear2")) for key in ranks)
    assert ranks["model.stages.0.blocks.0.mlp.fc1.linear1"] == (32, 19)
    assert ranks["model.stages.0.blocks.0.mlp.fc1.linear2"] == (19, 128)
    assert ranks["model.head.fc.linear1"] == (192, 115)


def test_unknown_size() -> None:
    with pytest.raises(
        ConfigError, match=r"^backbone\.size: EdgeFace has no size 'xl'; choose xxs, xs, s, base$"
    ):
        EdgeFace("xl")  # type: ignore[arg-type]


def published(size: str) -> tuple[FrozenTeacher, onnxruntime.InferenceSession]:
    node = yaml.safe_load((config_dir() / "teacher" / f"edgeface_{size}.yaml").read_text())
    weights, graph = asset_or_skip(node["asset"]), published_graph_or_skip(node["asset"])
    teacher = FrozenTeacher(EdgeFace(node["network"]["size"]), weights, InputSpec(**node["input_spec"]))
    return teacher, onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])


@pytest.mark.assets
@pytest.mark.parametrize("size", ["xs", "s"])
def test_equals_onnxruntime(size: str) -> None:
    teacher, session = published(size)
    torch.manual_seed(0)
    images: Tensor = torch.cat([draw_faces(2), torch.rand(1, 3, 112, 112) * 2 - 1])
    name = session.get_inputs()[0].name
    expected = torch.cat([torch.from_numpy(session.run(None, {name: i[None].numpy()})[0]) for i in images])
    torch.testing.assert_close(teacher(images), expected, rtol=0, atol=1e-5)


def test_refuses_another_graph(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x08truncated")
    with pytest.raises(AssetError) as caught:
        convert({"m.onnx": path})
    assert str(caught.value) == "m.onnx is truncated or not an ONNX file (DecodeError); fetch it again"
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, None)
    weights = numpy_helper.from_array(np.zeros((1, 1), np.float32), "w")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "tiny", [value], [], [weights])
    onnx.save(helper.make_model(graph), path)
    with pytest.raises(AssetError) as caught:
        convert({"m.onnx": path})
    assert str(caught.value) == "m.onnx is not an EdgeFace graph with named weights; give the published file"
