"""The whole way on the real weights, small: train, export, evaluate, report; again; interrupted and continued."""

from __future__ import annotations

import json

import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

from facedistill.cli.main import main
from facedistill.data.module import FaceDataModule
from tests.helpers.assets import asset_or_skip

SMALL = (
    "debug=smoke", "images=64", "data.batch_size=8", "teacher.compile=false", "generator.network.compile=false",
    "generator.network.exit=64", "evaluation.generated_pairs.identities=20", "evaluation.protocols=[generated]",
)  # fmt: skip

pytestmark = pytest.mark.assets


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    for name in ("w600k_mbf", "mobilestylegan"):
        asset_or_skip(name)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return tmp_path_factory.mktemp("smoke")


@pytest.fixture
def train(folders, capsys):
    """Runs `facedistill train` into a folder of its own and returns (exit code, stderr, run folder)."""

    def run(folder="whole"):
        code = main(["train", *SMALL, f"runs_dir={folders / folder}"])
        (path,) = (folders / folder).iterdir()
        return code, capsys.readouterr().err, path

    return run


def test_a_run_writes_everything_and_is_never_silently_repeated(train, capsys):
    code, said, run = train()
    assert code == 0
    assert f"report   {run / 'report.html'}" in said
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["images_seen"] == 64
    assert record["export"]["onnx_min_cosine"] >= 0.99999
    assert sum(record["time_share"].values()) == pytest.approx(1)
    assert {entry["asset"] for entry in record["licences"]} == {"w600k_mbf", "mobilestylegan"}
    results = json.loads((run / "results.json").read_text())
    assert results["teacher"]["protocols"]["generated"]["accuracy"] == 1
    assert results["student"]["protocols"]["generated"]["pairs"] == 40
    graph = onnxruntime.InferenceSession(run / "student.onnx")
    assert "RGB" in graph.get_modelmeta().custom_metadata_map["input_contract"]
    assert not (run / "faces.pool").exists()

    before = (run / "student.safetensors").stat().st_mtime_ns
    code, said, _ = train()
    assert code == 0
    assert said.strip() == f"{run} is finished already; `force=true` starts it over"
    assert (run / "student.safetensors").stat().st_mtime_ns == before
    (run / "report.html").unlink()  # as a run that was stopped between its results and its pages
    assert train()[0] == 0
    assert (run / "report.html").is_file()
    assert (run / "student.safetensors").stat().st_mtime_ns == before
    assert main(["evaluate", str(run)]) == 0
    assert "Generated pairs" in capsys.readouterr().out


def test_an_interrupted_run_is_continued_and_ends_the_same(train, monkeypatch):
    _, _, whole = train()  # finished already, if the test above ran

    original = FaceDataModule.finish_step

    def interrupted(self, agreement):
        original(self, agreement)
        if self.next_step == 5:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(FaceDataModule, "finish_step", interrupted)
        code, said, cut = train("cut")
    assert code == 130
    assert "interrupted; the same command continues" in said
    assert json.loads((cut / "run.json").read_text())["status"] == "interrupted"
    code, said, _ = train("cut")
    assert code == 0
    assert f"continuing {cut} from its last checkpoint" in said
    expected, found = (load_file(run / "student.safetensors") for run in (whole, cut))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert (cut / "metrics.csv").read_text().count("\n") == (whole / "metrics.csv").read_text().count("\n")
