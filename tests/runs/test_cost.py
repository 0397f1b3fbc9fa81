"""`facedistill cost`: what is measured, what is kept with a run, and what is not measured twice."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from facedistill.cli.cost import main
from facedistill.errors import ConfigError, UserError
from facedistill.export.cost import FileCost
from facedistill.export.onnx import TracingError
from facedistill.export.student import save_student
from facedistill.models.backbones import TinyFaR
from facedistill.models.cost import Latency
from facedistill.reporting.cost_record import FILE, read_costs
from facedistill.runs import cost
from facedistill.runs.cost import Conditions, find_targets, measure


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder with two files; what a process would measure is invented."""
    folder = tmp_path / "demo-1a2b3c4d"
    torch.manual_seed(0)
    save_student(TinyFaR("c", 8), folder / "student.safetensors", {})
    (folder / "student.int8.onnx").write_bytes(b"1" * 2_000_000)
    answers = iter(range(1, 9))
    monkeypatch.setattr(
        cost,
        "_in_own_process",
        lambda *_: FileCost("R 1", Latency(float(next(answers)), 9.0, 640.0, 64, 1.0), 5.0, 6.0),
    )
    return folder


def test_a_run_keeps_what_was_measured(run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    formats = ["--formats", "pytorch,onnx-int8"]
    assert main([str(tmp_path), *formats, "--json", str(tmp_path / "c.json")]) == 0
    assert "Processor time of 1 thread of " in capsys.readouterr().out
    rows = json.loads((tmp_path / "c.json").read_text())["costs"]
    assert [(row["name"], row["format"], row["one_ms"]) for row in rows] == [
        (run.name, "pytorch", 1.0), (run.name, "onnx-int8", 2.0),
    ]  # fmt: skip
    assert (rows[1]["size_mb"], rows[1]["images_per_s"], rows[1]["params"]) == (2.0, 100.0, rows[0]["params"])
    (target,) = find_targets([str(run)])
    again = [row.one_ms for row in measure(target, Conditions(), ["pytorch", "onnx-int8"])]
    assert again == [1.0, 2.0]
    assert [row.one_ms for row in measure(target, Conditions(threads=2), ["pytorch"])] == [3.0]
    assert [row.one_ms for row in measure(target, Conditions(), ["pytorch"], again=True)] == [4.0]
    assert sorted(row.one_ms for row in read_costs(run / FILE)) == [2.0, 3.0, 4.0]


def test_eight_bits_are_measured_of_a_file(run: Path) -> None:
    (run / "student.int8.onnx").unlink()
    (target,) = find_targets([str(run)])
    with pytest.raises(UserError, match="write it with facedistill export RUN --format onnx-int8"):
        next(measure(target, Conditions(), ["onnx-int8"]))


def test_a_network_that_torch_cannot_trace_is_measured_in_pytorch(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    untraced = Mock(side_effect=TracingError("backbone: torch cannot trace mine.Net"))
    monkeypatch.setattr(type(cost.FORMATS["onnx"]), "write", untraced)
    (run / "student.int8.onnx").unlink()
    assert main([str(run)]) == 0
    said = capsys.readouterr()
    assert " pytorch " in said.out
    assert "onnx" not in said.out
    assert said.err == f"{run.name}: measured in PyTorch only; backbone: torch cannot trace mine.Net\n"
    with pytest.raises(TracingError):
        main([str(run), "--formats", "onnx"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["tinyfar"],
            "cost tinyfar: neither a run folder, a student's file, nor a network; the networks are ",
        ),
        (["tinyfar_c", "lr=1"], "cost lr=1: only keys below backbone can be set"),
        (["timm"], "cost timm: which network of timm? add backbone.name=resnet18"),
        (["tinyfar_c", "--formats", "tflite"], "--formats tflite: must be of pytorch, onnx"),
        (["tinyfar_c", "--picture", "p.jpg"], "--picture p.jpg: name a file that ends in .png or .svg"),
        (["tinyfar_c", "--picture", "p.png"], "--picture: shows runs; give a run folder"),
    ],
)
def test_mistakes_are_one_sentence(arguments: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        main(arguments)
    assert str(caught.value).startswith(sentence)


@pytest.mark.slow
def test_processes_measure_files(tmp_path: Path) -> None:
    (target,) = find_targets(["tinyfar_c"], ["backbone.embedding_dim=16"])
    rows = {row.format: row for row in measure(target, Conditions(1, 4, 0.1), ["pytorch", "onnx"])}
    for row in rows.values():
        assert row.one_p95_ms >= row.one_ms > 0
        assert 2 < row.peak_one_mib <= row.peak_batch_mib < 2000
    assert rows["onnx"].runtime.startswith("ONNX Runtime 1.")
    assert rows["onnx"].params == rows["pytorch"].params
