"""ONNX Runtime on the CPU, for 8-bit and float graphs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnxruntime


def cpu_session(
    graph: Path | bytes, threads: int | None = None, *, log_severity: int = 2
) -> onnxruntime.InferenceSession:
    """Opens a graph so that 8-bit layers are exact on every CPU.

    x86 CPUs without VNNI instructions add pairs of 8-bit products in 16 bits, where they saturate: the embeddings are then others than
    those of other CPUs. ONNX Runtime has an option against it, which is a little slower and has no effect elsewhere. With it, such a CPU
    cannot open a graph in which 8-bit layers share one tensor of weights; those of trained students differ.

    Args:
        graph: A file, or its bytes.
        threads: None leaves their number to ONNX Runtime.
        log_severity: Least severity of what ONNX Runtime prints: 2 are warnings, 4 are fatal errors.

    Raises:
        Exception: Of ONNX Runtime, if the graph is damaged; its classes share no base but this one.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = log_severity
    options.add_session_config_entry("session.x64quantprecision", "1")
    source = graph if isinstance(graph, bytes) else str(graph)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
