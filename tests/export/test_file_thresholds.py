"""Thresholds in the metadata of both kinds of files; everything else in them stays."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from facedistill.errors import AssetError
from facedistill.evaluation.thresholds import Threshold
from facedistill.export import read_thresholds, write_thresholds

FITTED = [Threshold("lfw", 1e-3, 0.30000000000000004, 0.95, (0.94, 0.96), 3000, 3000)]


@pytest.fixture(params=["safetensors", "onnx"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"student.{request.param}"
    if request.param == "safetensors":
        save_file({"weight": torch.arange(3.0)}, path, metadata={"facedistill": "{}"})
        return path
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"])], "g", value[:1], value[1:]
    )
    model = onnx.helper.make_model(graph)
    onnx.helper.set_model_props(model, {"facedistill": "{}"})
    onnx.save(model, str(path))
    return path


def contents(path: Path) -> tuple[object, dict[str, str]]:
    if path.suffix == ".onnx":
        model = onnx.load(str(path))
        return model.graph.SerializeToString(), {entry.key: entry.value for entry in model.metadata_props}
    with safe_open(path, framework="pt") as file:
        return load_file(path)["weight"].tolist(), dict(file.metadata())


def test_only_the_entry_changes(path: Path) -> None:
    data, metadata = contents(path)
    assert read_thresholds(path) == []
    write_thresholds(path, FITTED)
    assert read_thresholds(path) == FITTED
    assert contents(path)[0] == data
    assert contents(path)[1]["facedistill"] == metadata["facedistill"]
    bytes_, modified = path.read_bytes(), path.stat().st_mtime_ns
    write_thresholds(path, FITTED)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (bytes_, modified)
    write_thresholds(path, [])
    assert contents(path) == (data, metadata)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_truncated_file_stays_and_is_named(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])
    before = path.read_bytes()
    with pytest.raises(AssetError, match=r"student\.(onnx|safetensors) is truncated or not a"):
        write_thresholds(path, FITTED)
    assert path.read_bytes() == before
