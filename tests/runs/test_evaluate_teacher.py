"""`facedistill evaluate TEACHER` holds the measured accuracy to the one that the card expects."""

from __future__ import annotations

from pathlib import Path

import pytest

from facedistill.cli.main import main
from facedistill.errors import ConfigError
from facedistill.export import save_student
from facedistill.models.backbones import TinyFaR
from facedistill.reporting.record import NetworkResults, Results
from facedistill.runs.evaluate import against_card
from tests.helpers.errors import command_error

EXPECTED = {"protocol": "lfw", "flip": "none", "value": 0.9893}


def results(accuracy: float) -> Results:
    return Results(teacher=NetworkResults(protocols={"lfw": {"accuracy": accuracy}}))


def test_says_both_figures() -> None:
    said = against_card("dlib_resnet", EXPECTED, results(0.989), "none")
    assert said == "teacher dlib_resnet: lfw accuracy 98.90 %, its card expects 98.93 %"


def test_a_teacher_that_is_fed_wrongly_is_an_error() -> None:
    with pytest.raises(ConfigError) as caught:
        against_card("dlib_resnet", EXPECTED, results(0.867), "none")
    assert str(caught.value) == (
        "teacher dlib_resnet: lfw accuracy 86.70 %, its card expects 98.93 %; teacher.input_spec, the weights or the "
        "faces' alignment are not the card's"
    )


def test_unlike_measurements_are_not_compared() -> None:
    assert against_card("dlib_resnet", EXPECTED, results(0.5), "sum") is None
    assert against_card("dlib_resnet", EXPECTED, Results(), "none") is None


@pytest.mark.parametrize("override", ["images=3", "evaluation.yaw=null", "teacher.precision=fp32", "~seed"])
def test_a_key_without_effect_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str
) -> None:
    path = tmp_path / "student.safetensors"
    path.touch()
    assert command_error(capsys, "evaluate", path, override) == (
        f"error  {override}: has no effect on the evaluation of {path}; the keys with an effect are evaluation, "
        "evaluation.protocols, evaluation.data_dir, evaluation.batch_size, evaluation.flip, evaluation.resamples, "
        "evaluation.places"
    )


def test_a_student_is_evaluated_as_a_teacher_from_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACEDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FACEDISTILL_SHARED", str(tmp_path / "none"))
    save_student(TinyFaR("c"), tmp_path / "student.safetensors", {})
    words = [f"teacher.file={tmp_path / 'student.safetensors'}", "evaluation.protocols=[lfw]"]
    assert "error  nothing was measured: lfw is not here" in command_error(
        capsys, "evaluate", "student", *words
    )
    error = command_error(capsys, "evaluate", tmp_path / "student.safetensors", words[1])
    assert error.startswith("error  nothing was measured: lfw is not here")
    assert main(["evaluate", "student", words[0], "evaluation.protocols=[generated]"]) == 2
    assert "generated pairs belong to a run; evaluate the run's folder" in capsys.readouterr().err
