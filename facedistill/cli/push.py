"""`facedistill push RUN --repo user/name`: a finished run's student to the Hugging Face hub."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from facedistill.errors import UserError


def main(arguments: Sequence[str]) -> int:
    """Lists what goes and under which licences, then uploads it in one commit.

    Returns:
        The exit status, 0.

    Raises:
        UserError: If the run is not finished, the licences want a consent that was not given, there is no token, or
            the hub refuses; nothing is committed then.
    """
    parsed = _parser().parse_args(arguments)
    from huggingface_hub import constants

    from facedistill.reporting.run.model_card import needs_consent
    from facedistill.runs.push import finished_run, push, uploads

    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", parsed.repo):
        raise UserError(f"--repo {parsed.repo}: write user/name or organization/name")
    files = finished_run(Path(parsed.run))
    going = uploads(files, parsed.repo)
    for upload in going:
        print(f"{upload.size:>12,}  {upload.name}")
    for licence in files.record.licences:
        print(f"licence of {licence.get('asset')}: {licence.get('licence')}")
    restricted = needs_consent(files.record.licences)
    if parsed.dry:
        print(f"nothing was sent; without --dry it goes to {constants.ENDPOINT}/{parsed.repo}")
        return 0
    if restricted and not parsed.accept_licences:
        raise UserError(
            f"the student was made with {', '.join(restricted)}, whose terms above bind whoever passes it on; if they "
            "let you, add --accept-licences (and --private to show it to nobody else)"
        )
    print(push(going, parsed.repo, private=parsed.private, message=f"facedistill run {files.folder.name}"))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="facedistill push",
        description="Upload a finished run's student, its ONNX file and its model card to the Hugging Face hub.",
    )
    parser.add_argument("run", metavar="RUN", help="run folder, runs/<name>-<id>")
    parser.add_argument("--repo", required=True, metavar="USER/NAME", help="made where there is none")
    parser.add_argument("--private", action="store_true", help="a new repository is private")
    parser.add_argument("--dry", action="store_true", help="list what would go, and send nothing")
    parser.add_argument(
        "--accept-licences",
        action="store_true",
        help="the terms of what the student learned from let you pass it on",
    )
    return parser
