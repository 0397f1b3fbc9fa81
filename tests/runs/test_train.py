"""What `train` does around the training itself: `force`, and what the record says."""

from __future__ import annotations

import signal
from unittest.mock import MagicMock, Mock

import pytest
from omegaconf import OmegaConf

from facedistill.cli.train import _requested
from facedistill.config import compose, make_run_id, result_relevant
from facedistill.errors import ConfigError, Interrupted, UserError
from facedistill.runs import train as module
from facedistill.runs.checkpointing import Origin, started_again, started_by
from facedistill.runs.folder import RunFolder
from facedistill.runs.inputs import Inputs


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Starts a run whose training fails at once and leaves a checkpoint; returns its folder, and what the training found."""
    found = []

    def fit(config, inputs):
        assert inputs.folder.record().reason is None  # that of an earlier start
        found.append((config.force, inputs.folder.checkpoint.exists()))
        inputs.folder.checkpoint.touch()
        inputs.folder.update_record(status="failed", reason="stopped")
        raise UserError("stopped")

    monkeypatch.setattr(module, "_fit", fit)
    monkeypatch.setattr(module, "open_configured_protocols", lambda config: None)

    def run(*overrides):
        config = compose("train", ["debug=smoke", f"runs_dir={tmp_path}", *overrides])
        origin = Origin(make_run_id(config, {}), result_relevant(config), {})
        folder = RunFolder(tmp_path / f"smoke-{origin.run_id}")
        with pytest.raises(UserError, match="stopped"):
            module.train(config, ["debug=smoke", *overrides], Inputs(origin, folder, None))
        return folder, found[-1]

    return run


def test_force_starts_over_once_and_is_not_in_the_record(start, monkeypatch):
    folder, before = start()
    assert before == (False, False)
    folder, before = start("force=true")
    assert before == (True, False)
    assert folder.record().command.split()[:3] == ["facedistill", "train", "debug=smoke"]
    assert "force=true" not in folder.record().command
    assert OmegaConf.load(folder.path / "config.yaml").force is False


@pytest.mark.parametrize(("job", "restarts"), [
    ("SLURM_JOB_ID", "SLURM_RESTART_COUNT"), ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"),
])  # fmt: skip
def test_a_job_that_is_started_again_starts_over_once(start, monkeypatch, job, restarts):
    start()
    for name in (job, "LOCAL_WORLD_SIZE", "WORLD_SIZE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv(restarts, "1")  # preempted before it began: the run is an earlier job's
    assert start("force=true")[1] == (True, False)
    assert start("force=true")[1] == (False, True)


def test_another_torchrun_without_an_id_is_another_start(start, monkeypatch):
    """Killed before it began, it finds the run of the torchrun before it."""
    for name in ("GROUP_WORLD_SIZE", "LOCAL_WORLD_SIZE", "WORLD_SIZE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    for folder, attempt, before in (
        ("none_a", 0, (True, False)), ("none_b", 1, (True, False)), ("none_b", 2, (False, True)),
    ):  # fmt: skip
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", str(attempt))
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", f"/logs/{folder}/attempt_{attempt}/0/error.json")
        assert start("force=true")[1] == before


def test_torchrun_on_several_machines_needs_an_id_to_start_over_once(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")
    with pytest.raises(
        ConfigError, match="force=true: torchrun --max-restarts on several machines needs an --rdzv-id"
    ):
        module.check_start(compose("train", ["debug=smoke", "force=true"]))


@pytest.mark.parametrize(("job", "restarts"), [
    ("SLURM_JOB_ID", "SLURM_RESTART_COUNT"), ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"),
])  # fmt: skip
def test_either_launcher_may_start_a_process_again(job, restarts, monkeypatch):
    for name in ("SLURM_JOB_ID", "TORCHELASTIC_RUN_ID"):
        monkeypatch.setenv(name, "7")
    before = started_by()
    assert before == "SLURM 7, torchrun 7"
    assert not started_again(before)
    monkeypatch.setenv(restarts, "1")
    assert started_again(before)
    monkeypatch.setenv(job, "8")
    assert not started_again(before)


def test_a_job_that_is_started_again_in_the_evaluation_evaluates(start, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    folder, _ = start("force=true")
    folder.update_record(status="trained")
    folder.student.touch()
    monkeypatch.setattr(module, "evaluate_run", Mock(side_effect=UserError("stopped")))
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    start("force=true")
    assert module.evaluate_run.called


@pytest.mark.parametrize("assembled", [True, False])
def test_a_training_that_begins_again_leaves_no_earlier_student(assembled, tmp_path, monkeypatch):
    """One that cannot be assembled, for example without its teacher's weights, has not begun and deletes nothing."""
    parts = MagicMock()
    parts.trainer.fit.side_effect = UserError("stopped")
    monkeypatch.setattr(module, "ProcessWatch", MagicMock())
    monkeypatch.setattr(module, "assemble", Mock(side_effect=[parts if assembled else UserError("stopped")]))
    folder = RunFolder(tmp_path)
    names = ("student.safetensors", "student.int8.onnx", "results.json")
    for name in names:
        (tmp_path / name).touch()
    monkeypatch.setattr(module, "salvage_run", lambda *given: None)
    module.ProcessWatch.return_value.__exit__.return_value = False
    with pytest.raises(UserError, match="stopped"):
        module._fit(compose("train", ["debug=smoke"]), Inputs(Origin("", {}, {}), folder, None))
    assert {path.name for path in tmp_path.iterdir()} == (set() if assembled else set(names))


def test_a_signal_in_the_evaluation_queues_the_job_again(start, monkeypatch, capsys):
    def interrupted(folder):
        raise Interrupted(signal.SIGUSR1)

    folder, _ = start()
    folder.update_record(status="trained")
    folder.student.touch()
    monkeypatch.setattr(module, "evaluate_run", interrupted)
    monkeypatch.setattr("facedistill.runs.salvage.requeue", lambda: "queued again")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with pytest.raises(Interrupted):
        start()
    assert capsys.readouterr().err.splitlines()[-1] == "queued again"


def test_a_run_of_a_configuration_file_records_that_file(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(OmegaConf.to_yaml(compose("train", ["debug=smoke"])))
    config, given, planned = _requested(["--config", str(path)])
    assert (config.name, given, planned) == ("smoke", ["--config", str(path)], None)
