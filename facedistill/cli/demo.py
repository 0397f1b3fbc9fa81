"""`facedistill demo STUDENT`: a local page that compares two photographs."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence

from facedistill.cli.recognition import fraction
from facedistill.errors import UserError

_NEEDS = ("starlette", "uvicorn", "markdown_it")


def main(arguments: Sequence[str]) -> int:
    """Serves the page until Ctrl-C.

    Raises:
        UserError: If the student cannot be loaded, the port is taken, or the extra `demo` is not installed.
    """
    parsed = _parser().parse_args(arguments)
    if missing := [name for name in _NEEDS if importlib.util.find_spec(name) is None]:
        raise UserError(
            f"demo needs {', '.join(missing)}, not installed here; run `pip install 'facedistill[demo]'`"
        )
    from facedistill.api.photographs import default_detector
    from facedistill.demo.server import listen, serve
    from facedistill.demo.shown import open_model

    def ready(address: str) -> None:
        print(f"demo       {address} (only from this computer; Ctrl-C ends it)", flush=True)
        if parsed.open:
            import webbrowser

            webbrowser.open(address)

    try:
        with listen(parsed.port) as listening:
            shown = open_model(parsed.student, parsed.far)
            default_detector()
            for sentence in shown.absent.values():
                print(sentence, file=sys.stderr)
            serve(shown, listening, ready)
    except KeyboardInterrupt:
        print("demo ended", file=sys.stderr)
        return 130
    return 0


def _port(text: str) -> int:
    number = int(text)
    if not 1024 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 1024 to 65535, got {text}")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="facedistill demo",
        description="Serve a page on this computer that compares two photographs, or pictures of its camera. It "
        "shows the detected and aligned faces, and the scores of student and teacher. Nothing is stored.",
    )
    parser.add_argument(
        "student",
        metavar="STUDENT",
        help="run folder, student.safetensors, student.onnx, org/name on the Hugging Face hub, or a teacher's name",
    )
    parser.add_argument(
        "--far",
        type=fraction,
        help="false accept rate of the decision that is shown first; the page has the others",
    )
    parser.add_argument("--port", type=_port, help="port on 127.0.0.1; 7860, or a free one if that is taken")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    return parser
