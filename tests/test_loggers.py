import csv

from facedistill.loggers import MetricsCsv


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
