"""What wandb (offline) and TensorBoard hold of a run, read back from their files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import wandb
from omegaconf import OmegaConf

from facedistill.config import compose
from facedistill.errors import UserError
from facedistill.reporting.record import NetworkResults, Results
from facedistill.reporting.run.page import write_report
from facedistill.runs.loggers import tensorboard_logger, wandb_logger
from facedistill.runs.publish import final_numbers, show_in_loggers
from tests.reporting.fake_run import make_run
from tests.runs.wandb_records import read_finished


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("runs") / "demo-1a2b3c4d", protocols=("lfw",), num_faces=2)
    write_report(folder)
    return folder


def test_an_offline_run_holds_everything_to_sync_later(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    config = OmegaConf.create({"logger": {
        "csv": {"_target_": "facedistill.runs.loggers.MetricsCsv"},
        "wandb": {"_target_": "facedistill.runs.loggers.wandb_logger", "project": "faces", "group": "table"},
    }})  # fmt: skip
    logger = wandb_logger("faces", "table", str(run))
    for step in range(3):
        logger.log_metrics({"train/cosine": 0.25 * step}, step=step)
    assert wandb.run is not None
    show_in_loggers(config, run)  # what `train` does once its student is evaluated
    assert wandb.run is None
    kept = read_finished(run)
    assert (kept["run"].project, kept["run"].run_group, kept["run"].display_name) == (
        "faces",
        "table",
        run.name,
    )
    assert set(kept["run"].tags) == {"SynthDistill", "TinyFaR-C", "rendered, dynamic", "cpu"} - {"cpu"}
    assert kept["config"]["method"]["objective"] == "mse"
    assert kept["config"]["data"]["source"]["rho"] == 1.0
    assert kept["history"]["train/cosine"] == [0, 0.25, 0.5]
    results = json.loads((run / "results.json").read_text())["student"]["protocols"]["lfw"]
    assert kept["summary"]["student/lfw/accuracy"] == results["accuracy"]
    assert kept["summary"]["student/lfw/tar@1e-2"] == results["tar"]["1e-2"]["tar"]
    shown = {f"figures/{path.stem}" for path in (run / "figures").glob("*.png")}
    assert {
        "figures/faces",
        "figures/lfw-roc",
        "figures/lfw-det",
        "figures/lfw-scores-student",
        "figures/learning-cosine",
    } <= shown
    named = {key.removesuffix("/path") for key in kept["history"] if key.endswith("/path")}
    assert named == shown
    for key in shown:  # the pictures lie in the offline run's own folder
        assert kept["history"][f"{key}/path"][0] in kept["media"]
    assert kept["exit"] == 0


def test_tensorboard_holds_curves_figures_and_numbers(run: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the optional package tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = OmegaConf.create(
        {"logger": {"tensorboard": {"_target_": "facedistill.runs.loggers.tensorboard_logger"}}}
    )
    logger = tensorboard_logger(str(run))
    logger.log_metrics({"train/loss": 0.5}, step=7)
    logger.finalize("success")
    show_in_loggers(config, run)
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0}).Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(7, 0.5)]
    results = json.loads((run / "results.json").read_text())["student"]["protocols"]["lfw"]
    assert events.Scalars("student/lfw/accuracy")[0].value == pytest.approx(results["accuracy"])
    assert "figures/lfw-roc" in events.Tags()["images"]


def test_without_tensorboard_it_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("neither tensorboard nor tensorboardX")

    monkeypatch.setattr("facedistill.runs.loggers.TensorBoardLogger", missing)
    with pytest.raises(
        UserError, match=r"^logger=tensorboard: the package tensorboard is not installed; `pip"
    ):
        tensorboard_logger(str(tmp_path))


def test_loggers_compose() -> None:
    assert set(compose("train", ["logger=tensorboard"]).logger) == {"csv", "tensorboard"}
    assert set(compose("train", ["logger=[wandb,tensorboard]"]).logger) == {"csv", "wandb", "tensorboard"}


def test_what_was_not_measured_is_no_number() -> None:
    figures = {"accuracy": 0.5, "auc": None, "tar": {"1e-4": "not measurable"}}
    results = Results(student=NetworkResults(params=5, protocols={"lfw": figures}))
    assert dict(final_numbers(results)) == {"student/params": 5, "student/lfw/accuracy": 0.5}
