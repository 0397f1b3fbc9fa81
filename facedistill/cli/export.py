"""`facedistill export RUN --format F`: the student as a file for another runtime, compared with the student."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str]) -> int:
    """Writes the file and prints how it compares.

    Raises:
        UserError: If the file exists, or does not embed as the student does; nothing is left then.
    """
    from facedistill.cli.arguments import points

    parser = argparse.ArgumentParser(prog="facedistill export", description=__doc__)
    parser.add_argument(
        "what", metavar="RUN", type=Path, help="a finished run's folder or a student.safetensors"
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="for instance evaluation.protocols=[lfw] generator=…",
    )
    parser.add_argument(
        "--format", required=True, help="onnx, onnx-fp16, onnx-int8, torch-export or openvino"
    )
    parser.add_argument("--out", type=Path, help="the file; next to the student's when left out")
    parser.add_argument(
        "--pixels",
        choices=("float", "rgb", "bgr"),
        default="float",
        help="rgb and bgr take uint8 (N, H, W, 3) and return unit embeddings; float takes scaled (N, 3, H, W)",
    )
    parser.add_argument(
        "--allowed-loss", type=points, default=0.3, metavar="POINTS", help="of accuracy with int8; 0.3"
    )
    options = parser.parse_intermixed_args(arguments)
    from facedistill.export.gate import as_text
    from facedistill.runs.export_file import export_file

    out, rows = export_file(
        options.what,
        options.format,
        out=options.out,
        pixels=options.pixels,
        allowed_loss=options.allowed_loss / 100,
        overrides=options.overrides,
    )
    size = sum(part.stat().st_size for part in (out, *out.glob("*")) if part.is_file())
    print(as_text(rows))
    print(f"{out}: {size / 1e6:.2f} MB")
    return 0
