"""Rows of invented costs."""

from typing import Any

from facedistill.reporting.cost_record import CostRow


def cost_row(**changes: Any) -> CostRow:
    values: dict[str, Any] = {
        "format": "onnx", "runtime": "ONNX Runtime 1.31.1", "params": 1_832_000, "macs": 38_200_000, "size_mb": 7.4,
        "one_ms": 2.0, "one_p95_ms": 2.5, "images_per_s": 700.0, "batch_size": 64, "peak_one_mib": 15.0,
        "peak_batch_mib": 120.0, "threads": 1, "cpu": "Some CPU", "share": 1.0, "weights": "w",
    }  # fmt: skip
    return CostRow(**values | changes)
