import csv

from facedistill.runs.loggers import MetricsCsv, wandb_logger


def _read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_resumed_run_continues_its_curve_and_drops_what_came_after_the_checkpoint(tmp_path):
    first = MetricsCsv(str(tmp_path))
    for step in range(4):
        first.log_metrics({"train/loss": step / 10}, step)
    first.finalize("interrupted")
    second = MetricsCsv(str(tmp_path))
    second.log_metrics({"train/loss": 0.25, "val/cosine": 0.5}, 2)
    second.finalize("success")
    rows = _read(tmp_path / "metrics.csv")
    assert [(row["step"], row["train/loss"]) for row in rows] == [("0", "0.0"), ("1", "0.1"), ("2", "0.25")]
    assert [row["val/cosine"] for row in rows] == ["", "", "0.5"]


def test_rows_are_on_disk_before_the_end(tmp_path):
    logger = MetricsCsv(str(tmp_path), flush_every_rows=2)
    logger.log_metrics({"lr": 0.1}, 0)
    logger.log_metrics({"lr": 0.2}, 1)
    assert [row["lr"] for row in _read(tmp_path / "metrics.csv")] == ["0.1", "0.2"]


def test_a_row_that_is_logged_again_stands_there_once(tmp_path):
    """A validation due at the checkpoint's step is done again by the resumed run; its training row is not."""
    first = MetricsCsv(str(tmp_path))
    for row in ({"train/loss": 0.5}, {"val/cosine": 0.1}):
        first.log_metrics(row, 3)
    first.log_metrics({"train/loss": 0.4}, 4)
    first.finalize("interrupted")
    second = MetricsCsv(str(tmp_path))
    second.continue_from(4)
    second.log_metrics({"val/cosine": 0.1}, 3)
    second.log_metrics({"train/loss": 0.4}, 4)
    second.log_metrics({"train/loss": 0.4}, 4)
    second.finalize("success")
    rows = _read(tmp_path / "metrics.csv")
    assert [(row["step"], row["train/loss"], row["val/cosine"]) for row in rows] == [
        ("3", "0.5", ""), ("3", "", "0.1"), ("4", "0.4", ""),
    ]  # fmt: skip


def test_a_wandb_run_is_the_one_that_run_json_names(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tmp_path / "run.json").write_text('{"wandb_id": "pocket-1a2b3c4d-77"}')
    logger = wandb_logger("facedistill", "pocket", str(tmp_path))
    assert logger._wandb_init["id"] == "pocket-1a2b3c4d-77"
    assert logger._wandb_init["resume"] == "allow"
