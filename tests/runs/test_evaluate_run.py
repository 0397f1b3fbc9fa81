"""`facedistill evaluate RUN`: the run's own settings, earlier figures, the lock, and no generator for photographs."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from facedistill.cli.main import main
from facedistill.config import compose
from facedistill.data.formats.recordio.writer import write_recordio
from facedistill.errors import ConfigError
from facedistill.evaluation.protocols.find import Absent
from facedistill.export import load_student, read_thresholds, save_student
from facedistill.runs import evaluate
from facedistill.runs.assembly import assemble
from facedistill.runs.callbacks.validation import GeneratedPairsCheck
from facedistill.runs.evaluate import changed_evaluation, evaluate_run
from facedistill.runs.folder import RunFolder
from facedistill.runs.inputs import (
    evaluates_generated_pairs,
    learned_from,
    open_inputs,
    uses_generated_faces,
)
from facedistill.runs.salvage import export_last_checkpoint
from facedistill.runs.sources import instantiate
from tests.evaluation.protocols.miniature_benchmark import draw
from tests.helpers.errors import command_error
from tests.reporting.small_runs import write_small_run


def save_new_student(folder: RunFolder, seed: int) -> None:
    torch.manual_seed(seed)
    save_student(instantiate(folder.config().backbone), folder.student, {"run": folder.path.name})


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A finished run; what evaluates it finds every protocol and measures 0.5 on it."""
    folder = RunFolder(tmp_path / "smoke-0a0a0a0a")
    folder.create()
    (folder.path / "config.yaml").write_text(
        OmegaConf.to_yaml(compose("train", ["debug=smoke"]), resolve=True)
    )
    folder.update_record(status="finished", images_seen=128)
    save_new_student(folder, 1)
    teacher = torch.nn.Identity()
    teacher.network = torch.nn.Identity()
    monkeypatch.setattr(evaluate, "load_teacher", lambda config: teacher)
    monkeypatch.setattr(evaluate, "evaluates_generated_pairs", lambda config: False)
    monkeypatch.setattr(evaluate, "count_macs", lambda network: 0)
    monkeypatch.setattr(
        evaluate, "open_configured_protocols",
        lambda config: ([SimpleNamespace(name=name) for name in config.evaluation.protocols], []),
    )  # fmt: skip
    monkeypatch.setattr(evaluate, "_run", lambda role, network, protocols, *rest: {
        one.name: {"accuracy": 0.5} for one in protocols
    })  # fmt: skip
    return folder


def measure(folder: RunFolder, *protocols: str) -> evaluate.Results:
    overrides = [f"evaluation.protocols=[{','.join(protocols)}]"]
    return evaluate_run(folder, changed_evaluation(folder.config(), overrides))


def test_overrides_change_the_runs_own_evaluation() -> None:
    config = compose("train", ["evaluation.flip=sum", "evaluation.resamples=7"])
    changed = changed_evaluation(config, ["evaluation.protocols=[lfw]", "+evaluation.places.lfw.images=[x]"])
    assert (changed.flip, changed.resamples, changed.protocols) == ("sum", 7, ["lfw"])
    assert changed.places.lfw.images == ["x"]
    assert config.evaluation.protocols == ["lfw", "cfp_fp", "cfp_ff"]
    chosen = changed_evaluation(config, ["evaluation=none", "evaluation.batch_size=3"])
    assert (chosen.flip, chosen.resamples, chosen.protocols, chosen.batch_size) == ("none", 500, [], 3)


@pytest.mark.parametrize("text", ["images=5", "teacher=sface", "~evaluation.places.lfw"])
def test_other_overrides_are_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        changed_evaluation(compose("train", []), ["evaluation.flip=sum", text])
    assert str(caught.value) == (
        f"{text}: a run is evaluated as it was trained; change keys under evaluation only"
    )


def test_protocols_that_were_measured_before_keep_their_figures(finished: RunFolder) -> None:
    measure(finished, "lfw")
    results = measure(finished, "cfp_fp")
    assert results == evaluate.Results.load(finished.results)
    for network in (results.student, results.teacher):
        assert network.protocols == {"lfw": {"accuracy": 0.5}, "cfp_fp": {"accuracy": 0.5}}
    assert results.titles == {"lfw": "LFW", "cfp_fp": "CFP-FP"}


def test_the_command_names_absent_protocols_that_it_was_asked_for(
    finished: RunFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = measure(finished, "lfw")
    results.absent = {"cfp_fp": "cfp_fp is not here: put …"}
    results.save(finished.results)
    assert main(["evaluate", str(finished.path), "evaluation.protocols=[lfw]"]) == 0
    assert "cfp_fp" not in capsys.readouterr().out
    assert "cfp_fp" in evaluate.Results.load(finished.results).absent  # for the report
    monkeypatch.setattr(evaluate, "open_configured_protocols", lambda config: (
        [], [Absent(name, f"{name} is not here: put …") for name in config.evaluation.protocols]
    ))  # fmt: skip
    monkeypatch.setattr("facedistill.runs.inputs.evaluates_generated_pairs", lambda config: False)
    for protocols, lacks in (
        ("agedb_30", "agedb_30 is not here: put …"),
        ("", "evaluation.protocols is empty"),
    ):
        error = command_error(capsys, "evaluate", finished.path, f"evaluation.protocols=[{protocols}]")
        assert f"nothing was measured: {lacks}" in error
    (finished.path / "config.yaml").unlink()
    assert command_error(capsys, "evaluate", finished.path).endswith(
        "has no config.yaml; restore it from a copy"
    )


def test_figures_and_scores_of_another_student_are_dropped(finished: RunFolder) -> None:
    measure(finished, "lfw")
    scores = finished.path / "scores"
    scores.mkdir()
    for role in ("student", "teacher"):
        (scores / f"lfw.{role}.npz").touch()
    save_new_student(finished, 2)
    results = measure(finished, "cfp_fp")
    assert set(results.student.protocols) == {"cfp_fp"}
    assert set(results.teacher.protocols) == {"lfw", "cfp_fp"}
    assert [file.name for file in scores.iterdir()] == ["lfw.teacher.npz"]


def test_thresholds_travel_and_do_not_make_another_student(
    finished: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def figures(role: str, network: torch.nn.Module, protocols: list, *rest: object) -> dict:
        entry = {"tar": 0.9, "threshold": 0.4, "ci": [0.8, 0.95]}
        return {
            one.name: {"accuracy": 0.5, "genuine": 9, "impostor": 100, "tar": {"1e-2": entry, "1e-4": "-"}}
            for one in protocols
        }

    monkeypatch.setattr(evaluate, "_run", figures)
    before = load_student(finished.student).state_dict()
    for name in ("student.rgb.int8.onnx", "student.pt2", "student.txt"):
        (finished.path / name).touch()
    measure(finished, "lfw")
    stale = "student.pt2, student.rgb.int8.onnx: written before this evaluation, so with other thresholds or none; export"
    assert stale in capsys.readouterr().err
    results = measure(finished, "cfp_fp")  # the file's hash has changed, its weights have not
    assert set(results.student.protocols) == {"lfw", "cfp_fp"}
    assert [(one.protocol, one.far, one.threshold, one.impostor) for one in read_thresholds(finished.student)] == [
        ("lfw", 0.01, 0.4, 100), ("cfp_fp", 0.01, 0.4, 100),
    ]  # fmt: skip
    after = load_student(finished.student).state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_results_of_a_file_with_this_hash_are_kept(finished: RunFolder) -> None:
    digest = hashlib.sha256(finished.student.read_bytes()).hexdigest()
    for sha256, kept in ((digest, {"accuracy": 0.75}), ("0" * 64, {})):
        finished.results.write_text(
            f'{{"student": {{"sha256": "{sha256}", "protocols": {{"lfw": {{"accuracy": 0.75}}}}}}}}'
        )
        assert measure(finished, "cfp_fp").figures("student", "lfw") == kept


def test_results_without_a_hash_are_those_of_the_finished_student(finished: RunFolder) -> None:
    finished.results.write_text('{"images_seen": 128, "student": {"protocols": {"lfw": {"accuracy": 0.75}}}}')
    assert measure(finished, "cfp_fp").figures("student", "lfw") == {"accuracy": 0.75}
    finished.results.write_text('{"images_seen": 64, "student": {"protocols": {"lfw": {"accuracy": 0.75}}}}')
    assert measure(finished, "cfp_fp").figures("student", "lfw") == {}


def test_another_flip_is_measured_and_not_written(finished: RunFolder) -> None:
    flipped = changed_evaluation(finished.config(), ["evaluation.flip=sum", "evaluation.protocols=[lfw]"])
    assert set(evaluate_run(finished, flipped).student.protocols) == {"lfw"}
    assert not finished.results.exists()


def test_no_checkpoint_replaces_the_student_that_training_exported(finished: RunFolder) -> None:
    before = finished.student.read_bytes()
    torch.manual_seed(9)
    other = instantiate(finished.config().backbone)
    state = {f"student.{name}": value for name, value in other.state_dict().items()}
    torch.save({"state_dict": state, "images_seen": 48}, finished.checkpoint)
    for status in ("running", "failed"):  # cut short between the export and the record
        finished.update_record(status=status)
        assert export_last_checkpoint(finished) is None
        assert finished.student.read_bytes() == before
    assert load_student(finished.student).embedding_dim


@pytest.mark.parametrize("command", [["evaluate"], ["report"], ["push", "--repo", "me/face", "--dry"]])
def test_a_run_that_another_process_runs_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    run = write_small_run(tmp_path / "a-00000001")
    before = {file.name: file.stat().st_mtime_ns for file in run.iterdir()}
    with RunFolder(run).held():
        assert main([command[0], str(run), *command[1:]]) == 2
    assert f"{run} is being run by process " in capsys.readouterr().err
    assert {file.name: file.stat().st_mtime_ns for file in run.iterdir()} == before


def test_nothing_is_rendered_that_no_protocol_asks_for(
    finished: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose("train", ["debug=smoke"])
    assert not evaluates_generated_pairs(config)
    assert not evaluates_generated_pairs(compose("train", ["evaluation=none"]))
    assert evaluates_generated_pairs(compose("train", []))
    assert evaluates_generated_pairs(compose("train", ["evaluation.protocols=[generated]"]))
    assert config.evaluation.validation_pairs.identities == 20
    monkeypatch.setattr(evaluate, "evaluates_generated_pairs", evaluates_generated_pairs)
    monkeypatch.setattr(evaluate, "load_generator", lambda config: pytest.fail("loaded"))
    assert measure(finished).student.protocols == {}


def test_photographs_need_no_generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faces = []
    for person in range(4):
        for shot in range(4):
            file = io.BytesIO()
            Image.open(io.BytesIO(draw(person, shot))).save(file, "PNG")
            faces.append((file.getvalue(), person))
    write_recordio(tmp_path / "train", faces)
    photographs = [
        "debug=smoke", "data=recordio", f"data.path={tmp_path / 'train.rec'}", "data.batch_size=8",
        "data.validation.faces=6", "data.num_workers=0", "method=cosine", "evaluation=none", "logger=csv",
        f"runs_dir={tmp_path / 'runs'}",
    ]  # fmt: skip
    config = compose("train", photographs)
    assert not uses_generated_faces(config)
    assert uses_generated_faces(compose("train", [*photographs, "evaluation.protocols=[generated]"]))
    assert uses_generated_faces(compose("train", ["debug=smoke"]))
    assert "mobilestylegan" not in [card.name for card in learned_from(config)]
    assert any(
        name.startswith("mobilestylegan/") for name in open_inputs(config).origin.files
    )  # the run id stays
    monkeypatch.setattr("facedistill.runs.assembly.load_generator", lambda config: pytest.fail("loaded"))
    inputs = open_inputs(config)
    inputs.folder.create()
    parts = assemble(config, inputs)
    assert parts.data.validation_faces.shape == (6, 3, 112, 112)
    assert not any(isinstance(one, GeneratedPairsCheck) for one in parts.trainer.callbacks)
