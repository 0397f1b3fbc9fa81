"""cost.json, and the picture of accuracy against latency: runs measured elsewhere are marked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from facedistill.errors import DataError, UserError
from facedistill.reporting.cost_record import FILE, common_condition, read_costs, row_of, save_costs
from facedistill.reporting.pareto import Point, front, write_pareto
from facedistill.reporting.run.summary import Accuracy
from tests.reporting.costs import cost_row
from tests.reporting.small_runs import write_small_run


def test_new_rows_replace_those_of_the_same_condition_and_of_other_weights(tmp_path: Path) -> None:
    path = tmp_path / FILE
    elsewhere, half = cost_row(cpu="Other CPU"), cost_row(format="onnx-fp16")
    save_costs(path, [cost_row(), elsewhere, half])
    save_costs(path, [cost_row(one_ms=3.0)])
    assert read_costs(path) == [elsewhere, half, cost_row(one_ms=3.0)]
    save_costs(path, [cost_row(weights="v")])
    assert read_costs(path) == [cost_row(weights="v")]


@pytest.mark.parametrize("content", [{"costs": [{"format": "onnx"}]}, {"costs": 3}])
def test_a_damaged_file_is_one_sentence(content: object, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps(content))
    with pytest.raises(DataError, match="delete the file and run facedistill cost again"):
        read_costs(tmp_path / FILE)


def test_accuracy_belongs_to_files_that_do_not_round_to_8_bits() -> None:
    rows = [cost_row(format="onnx-int8", one_ms=1.0), cost_row(format="pytorch"), cost_row()]
    assert common_condition(rows) == ("onnx", "Some CPU", 1)
    assert row_of(rows[:2], common_condition(rows)) == rows[1]
    assert row_of(rows[:1], None) is None


def test_the_line_joins_what_no_other_run_beats() -> None:
    def point(name: str, ms: float, accuracy: float, is_common: bool = True) -> Point:
        return Point(name, Accuracy(accuracy, None), cost_row(one_ms=ms), is_common)

    points = [point("slow", 5, 0.9), point("best", 4, 0.95), point("fast", 1, 0.8), point("tie", 1, 0.7)]
    assert [one.label for one in front([*points, point("elsewhere", 0.5, 0.99, False)])] == ["fast", "best"]


def test_the_picture_marks_runs_that_were_measured_elsewhere(tmp_path: Path) -> None:
    for name, accuracy, cpu in (("a-00000001", 0.9, "Some CPU"), ("a-00000002", 0.8, "Some CPU"), ("b-00000003", 0.7, "Old CPU")):  # fmt: skip
        run = write_small_run(tmp_path / name, accuracies={"lfw": accuracy})
        save_costs(run / FILE, [cost_row(cpu=cpu, one_ms=10 * accuracy)])
    write_small_run(tmp_path / "c-00000004")
    out = tmp_path / "pareto.svg"
    said = write_pareto(sorted(tmp_path.glob("*-0*")), "lfw", out)
    assert said == f"{out}: 3 of 4 runs, LFW; 1 measured under other conditions are hollow"
    text = out.read_text()
    for words in ("b-00000003", "onnx, Old CPU, 1 thread", "onnx, Some CPU, 1 thread"):
        assert text.count(f"<!-- {words} -->") == 1
    with pytest.raises(
        UserError, match="no run has an accuracy on cfp_fp and a latency; choose --protocol of generated, lfw"
    ):
        write_pareto([tmp_path / "a-00000001", tmp_path / "c-00000004"], "cfp_fp", out)
