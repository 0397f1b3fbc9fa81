"""What the page shows of a student alone, and what the card may contain."""

import pytest

from facedistill.cli.main import main
from facedistill.demo.card import card_html
from facedistill.demo.server import listen
from facedistill.demo.shown import open_model
from facedistill.errors import UserError
from tests.helpers.errors import command_error
from tests.helpers.photographs import small_student


def test_a_file_outside_a_run_folder_says_what_is_missing(tmp_path):
    shown = open_model(str(small_student(tmp_path / "student.safetensors")))
    assert (list(shown.networks), shown.choices, shown.card) == (["student"], [], "")
    assert sorted(shown.absent) == ["card", "histogram", "teacher", "threshold"]
    assert shown.absent["teacher"].endswith("student.safetensors is not in the folder of a run.")


def test_the_decision_at_another_far_comes_first(run_folder):
    assert open_model(str(run_folder), 1e-2).choices[0]["far"] == 1e-2
    with pytest.raises(UserError, match=r"far=0\.1: the model has no such threshold"):
        open_model(str(run_folder), 0.1)


def test_a_damaged_file_is_a_sentence_on_the_page(run_folder, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "student.safetensors").write_bytes((run_folder / "student.safetensors").read_bytes())
    (folder / "run.json").write_text("{}")
    (folder / "results.json").write_text("{")
    assert "results.json cannot be read as JSON" in open_model(str(folder)).absent["histogram"]


def test_the_card_runs_nothing(run_folder):
    html = card_html(run_folder)
    assert html.startswith(
        "<h3>A card</h3>\n<p>&lt;script&gt;alert(1)&lt;/script&gt; [x](javascript:alert(1))</p>"
    )
    assert "style" not in html


def test_a_taken_port_is_a_sentence(capsys, run_folder):
    with listen(None) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        assert taken.getsockname()[0] == "127.0.0.1"
        error = command_error(capsys, "demo", str(run_folder), "--port", str(port))
        assert error.startswith(
            f"error  --port {port}: cannot be used (Address already in use); give another one"
        )


def test_a_missing_extra_names_the_command(capsys, monkeypatch):
    monkeypatch.setattr("facedistill.cli.demo._NEEDS", ("no_such_package",))
    assert main(["demo", "x"]) == 2
    error = capsys.readouterr().err
    assert "demo needs no_such_package, not installed here; run `pip install 'facedistill[demo]'`" in error
