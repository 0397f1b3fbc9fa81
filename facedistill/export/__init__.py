"""A trained student as a file: safetensors, ONNX, the proof that both agree, embeddings from either."""

from facedistill.export.embed import Embedder
from facedistill.export.onnx import export_onnx
from facedistill.export.parity import check_parity
from facedistill.export.student import load_student, read_metadata, save_student
from facedistill.export.thresholds import read_thresholds, write_thresholds

__all__ = [
    "Embedder",
    "check_parity",
    "export_onnx",
    "load_student",
    "read_metadata",
    "read_thresholds",
    "save_student",
    "write_thresholds",
]
