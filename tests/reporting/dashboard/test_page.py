"""The dashboard as a file: every run on it, damaged ones with the reason, nothing loaded from elsewhere."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from facedistill.cli.dashboard import main
from facedistill.errors import UserError
from facedistill.reporting.cost_record import save_costs
from facedistill.reporting.dashboard.page import write_dashboard
from facedistill.reporting.dashboard.runs import read_runs
from facedistill.reporting.run.summary import summarize
from facedistill.system.locks import held
from tests.reporting.costs import cost_row
from tests.reporting.dashboard.dashboard_page import written
from tests.reporting.small_runs import write_many, write_small_run


def test_the_table_says_what_the_files_say(tmp_path: Path) -> None:
    run = write_small_run(tmp_path / "demo-1a2b3c4d", accuracies={"generated": 0.95, "lfw": 0.9})
    (run / "report.html").write_text("")
    page = written(tmp_path)
    headings, row = page.rows
    assert dict(zip(headings, row, strict=True)) == {
        "Select": "",
        "Run": "demo-1a2b3c4d",
        "Method": "SynthDistill",
        "Seed": "2021",
        "Status": "finished",
        "LFW accuracy, %": "90.00 [89.00, 91.00]",
        "Generated pairs accuracy, %": "95.00 [94.00, 96.00]",
        "Validation cosine": "0.917",  # 1 - 1/12
        "Images": "1,000,064",
        "Images/s": "107",
        "ms a face": "—",
        "Backbone": "TinyFaR-C",
        "Data": "rendered, dynamic",
        "Strategy": "not recorded",
    }
    assert "demo-1a2b3c4d/report.html" in page.links


def test_the_table_says_on_what_a_latency_was_measured(tmp_path: Path) -> None:
    for name, cpu in (("a-00000001", "Some CPU"), ("a-00000002", "Some CPU"), ("b-00000003", "Old CPU")):
        run = write_small_run(tmp_path / name)
        save_costs(run / "cost.json", [cost_row(cpu=cpu), cost_row(format="onnx-int8", one_ms=1.0)])
    for page in (written(tmp_path), written(tmp_path)):  # the second one from the cache
        heading, *rows = page.rows
        column = heading.index("ms a face")
        assert [row[column] for row in rows] == [
            *["2.00 onnx, Some CPU, 1 thread"] * 2, "2.00 onnx, Old CPU, 1 thread",
        ]  # fmt: skip
        assert page.data["runs"][2]["latencies"] == {"onnx, Old CPU, 1 thread": 2.0}


def test_the_comparison_gets_the_curves_and_what_differs(tmp_path: Path) -> None:
    write_small_run(tmp_path / "a-00000001", num_logged=3)
    write_small_run(tmp_path / "a-00000002", method="KD", num_logged=1000)
    kd, synthdistill = written(tmp_path).data["runs"]
    assert synthdistill["curves"] == {
        "train/loss": [[100, 200, 300], [2.0, 1.0, 0.66667]],
        "val/cosine": [[100, 200, 300], [0.0, 0.5, 0.66667]],
        "val/accuracy": [[100, 200, 300], [0.5, 0.75, 0.83333]],
    }
    seen, value = kd["curves"]["val/cosine"]
    assert (len(seen), seen[0], seen[-1], value[-1]) == (160, 100, 100_000, 0.999)
    assert synthdistill["settings"] == {"method._target_": "SynthDistill"}
    assert kd["settings"] == {"method._target_": "KD"}
    assert kd["accuracy"]["lfw"] == [0.9, 0.89, 0.91]


def test_strategy_and_data_are_named_from_the_configuration(tmp_path: Path) -> None:
    def named(name: str, trainer: str, data: str) -> tuple[str, str]:
        run = write_small_run(tmp_path / name)
        text = (run / "config.yaml").read_text().split("data:")[0]
        (run / "config.yaml").write_text(f"{text}{trainer}\n{data}\n")
        summary = summarize(run)
        return summary.strategy, summary.data

    stored = "data: {source: {_target_: x.StoredFaces}"
    auto = "trainer: {accelerator: auto, devices: 1, strategy: auto}"
    ddp = "trainer: {accelerator: gpu, devices: 4, strategy: ddp}"
    assert named("a", auto, f"{stored}, path: /faces/ms1m}}") == ("cpu", "ms1m")
    assert named("b", ddp, f"{stored}, path: null, synthetic: {{identities: 1000}}}}") == (
        "ddp, gpu x 4",
        "1,000 synthetic identities",
    )


Spoil = Callable[[Path], object]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda r: (r / "run.json").unlink(), "run.json is missing: the run was stopped before training wrote it."),
        (lambda r: (r / "results.json").unlink(), "results.json is missing: the run was stopped before"),
        (lambda r: (r / "run.json").write_text('{"id": "x'), "run.json cannot be read as JSON (Unterminated string"),
        (lambda r: (r / "results.json").write_text("[1]"), "results.json holds a list instead of an object; restore it"),
        (lambda r: (r / "config.yaml").write_text("a: ["), "config.yaml cannot be read as YAML (while parsing"),
        (lambda r: (r / "config.yaml").write_text(""), "config.yaml holds a NoneType instead of keys and values; restore it."),
        (lambda r: (r / "config.yaml").write_bytes(b"\xff\xfe\x00"), "config.yaml cannot be read as YAML ("),
        (lambda r: (r / "run.json").write_text("[" * 100_000), "run.json cannot be read as JSON ("),
        (
            lambda r: (r / "metrics.csv").write_text("step,images_seen,lr\n1,10,fast\n"),
            "metrics.csv, line 2: 'fast' is not a number; correct or delete the line.",
        ),
    ],
)  # fmt: skip
def test_a_damaged_run_stands_on_the_page_with_its_reason(tmp_path: Path, spoil: Spoil, reason: str) -> None:
    write_small_run(tmp_path / "good-00000001")
    spoil(write_small_run(tmp_path / "spoilt-00000002"))
    page = written(tmp_path)
    good, spoilt = sorted(page.rows[1:], key=lambda row: row[1])
    assert good[4] == "finished"
    assert (spoilt[1].split()[0], spoilt[4]) == ("spoilt-00000002", "damaged")
    assert reason in spoilt[1]
    assert "2 runs, 1 damaged" in page.html


@pytest.mark.parametrize(
    "content",
    [
        {"student": None},
        {"student": {"protocols": {"lfw": None}}},
        {"student": {"protocols": {"lfw": {"accuracy": "high", "accuracy_ci": 3}}}},
        {"student": {"protocols": {"lfw": {"accuracy": float("nan")}}}},
    ],
)
def test_values_that_are_no_numbers_are_not_measured(tmp_path: Path, content: object) -> None:
    run = write_small_run(tmp_path / "odd-00000001", seed=None, images_seen="many")
    (run / "results.json").write_text(json.dumps(content))
    (run / "metrics.csv").write_text("step,images_seen,train/loss,val/cosine\n1,10,inf,-inf\n")
    row = written(tmp_path).rows[1]
    assert row[3:10] == ["—", "finished", "—", "—", "—", "—", "107"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"student": 5}, "results.json: student is a int instead of an object; restore it, or delete it"),
        ({"student": {"protocols": ["lfw"]}}, "results.json: student: protocols is a list instead of a dict; "),
        ({"student": {"protocols": {"lfw": 1}}}, "results.json: student: protocols.lfw is a int instead of an object"),
        ({"version": 99}, "results.json has version 99; this facedistill reads up to 2, update it."),
    ],
)  # fmt: skip
def test_results_of_another_shape_are_damaged(tmp_path: Path, content: object, reason: str) -> None:
    run = write_small_run(tmp_path / "odd-00000001")
    (run / "results.json").write_text(json.dumps(content))
    row = written(tmp_path).rows[1]
    assert row[4] == "damaged"
    assert reason in row[1]


def test_an_empty_run_folder_is_damaged_and_another_folder_is_no_run(tmp_path: Path) -> None:
    for name in ("begun-0000000a", "logs", "notes-of-mine"):
        (tmp_path / name).mkdir()
    (run,) = read_runs(tmp_path)
    assert (run.id, run.name, run.status, len(run.problems)) == ("begun-0000000a", "begun", "damaged", 2)


def test_a_run_that_trains_tells_how_far_it_is(tmp_path: Path) -> None:
    run = write_small_run(tmp_path / "now-00000001", status="running", num_logged=7)
    record = json.loads((run / "run.json").read_text())
    del record["images_seen"]
    (run / "run.json").write_text(json.dumps(record))
    (run / "results.json").unlink()
    with held(run / "run.lock", "process 1"):
        row = written(tmp_path).rows[1]
    assert (row[4], row[8]) == ("running", "700")
    (run / "run.lock").write_text("process 1")  # a killed process leaves the file, not the lock
    assert written(tmp_path).rows[1][4] == "interrupted"


def test_a_copied_folder_says_of_which_run_it_is_a_copy(tmp_path: Path) -> None:
    original = write_small_run(tmp_path / "demo-00000002")
    shutil.copytree(original, tmp_path / "a copy")
    page = written(tmp_path)
    assert sorted(row[1] for row in page.rows[1:]) == ["a copy copy of demo-00000002", "demo-00000002"]
    assert {run["id"] for run in page.data["runs"]} == {"a copy", "demo-00000002"}


def test_the_page_needs_neither_torch_nor_matplotlib(run: Path, tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from facedistill.reporting.dashboard.page import write_dashboard as write;"
        "folder = pathlib.Path(sys.argv[1]); write(folder, folder / 'p.html');"
        "print({'torch', 'matplotlib', 'scipy'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    write_many(tmp_path / "runs", 5, 20)
    for out in ("a.html", "b.html"):
        write_dashboard(tmp_path / "runs", tmp_path / out)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_many_runs_take_milliseconds_each(tmp_path: Path) -> None:
    write_many(tmp_path, 60, 60)
    before = time.process_time()
    page = written(tmp_path)
    assert time.process_time() - before < 3  # about 0.4 s of one core
    assert len(page.rows) == 61


def test_the_command_says_where_the_page_is_and_what_is_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_small_run(tmp_path / "runs" / "a-00000001")
    bad = write_small_run(tmp_path / "runs" / "b-00000002")
    (bad / "run.json").unlink()
    assert main([str(tmp_path / "runs"), "--out", str(tmp_path / "page.html")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"damaged    {bad}: run.json is missing: the run was stopped before training wrote it.",
        f"dashboard  {tmp_path / 'page.html'} (2 runs)",
    ]
    assert main([str(tmp_path / "runs")]) == 0
    assert (tmp_path / "runs" / "dashboard.html").is_file()


def test_refuses_what_holds_no_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        main([str(tmp_path)])
    assert str(caught.value) == f"{tmp_path} holds no run; give the folder that runs_dir= named"
    with pytest.raises(UserError) as caught:
        main([str(tmp_path / "nowhere")])
    assert str(caught.value) == (
        f"there is no folder of runs {tmp_path / 'nowhere'} (No such file or directory); "
        "give the folder that runs_dir= named"
    )
    write_small_run(tmp_path / "a-00000001")
    with pytest.raises(UserError, match=r"page\.html cannot be written \(File exists\)"):
        main([str(tmp_path), "--out", str(tmp_path / "a-00000001" / "config.yaml" / "page.html")])
