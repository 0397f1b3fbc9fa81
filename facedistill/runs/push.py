"""A finished run's student to the Hugging Face hub."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from facedistill.errors import UserError
from facedistill.export import read_metadata
from facedistill.reporting.run.files import RunFiles, read_run
from facedistill.reporting.run.model_card import model_card
from facedistill.runs.folder import RunFolder


@dataclass(frozen=True)
class Upload:
    """One file of the repository: its name there, and where its bytes are."""

    name: str
    content: Path | bytes

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size


def uploads(files: RunFiles, repo: str) -> list[Upload]:
    """What the repository `repo` of this run holds: card, description, student; its ONNX file unless torch cannot trace it."""
    onnx = files.folder / "student.onnx"
    return [
        Upload("README.md", model_card(files, repo).encode()),
        Upload("config.json", _description(files.folder / "student.safetensors")),
        Upload("student.safetensors", files.folder / "student.safetensors"),
        *([Upload(onnx.name, onnx)] if onnx.is_file() else []),
    ]


def push(going: Sequence[Upload], repo: str, *, private: bool, message: str) -> str:
    """Creates the repository where there is none and commits all files at once.

    Args:
        going: The files.
        repo: user/name.
        private: Whether a new repository is private; one that exists stays as it is.
        message: Of the commit.

    Returns:
        The commit's address.

    Raises:
        UserError: If there is no token, or the hub cannot be reached or refuses.
    """
    if not get_token():
        raise UserError(
            "no Hugging Face token: run `hf auth login`, or set HF_TOKEN to one that may write (--dry needs none)"
        )
    operations = [CommitOperationAdd(upload.name, upload.content) for upload in going]
    try:
        client = HfApi()
        client.create_repo(repo, private=private, exist_ok=True)
        return str(client.create_commit(repo, operations, commit_message=message).commit_url)
    except HfHubHTTPError as error:
        raise UserError(f"{_refusal(error, repo)}; nothing was committed") from error
    except (HFValidationError, ValueError) as error:
        raise UserError(f"--repo {repo}: {_line(error)}; nothing was committed") from error
    except Exception as error:
        if not _is_transport(error):
            raise
        raise UserError(
            f"the upload to {constants.ENDPOINT} failed ({_line(error.__cause__ or error)}); nothing was committed, give "
            "the command again"
        ) from error


def _is_transport(error: BaseException) -> bool:
    """Whether the network failed; the client wraps some of it, and its HTTP library changes with its version."""
    libraries = {kind.__module__.split(".")[0] for kind in type(error).__mro__}
    return isinstance(error, OSError | RuntimeError) or any(name.startswith("httpx") for name in libraries)


def finished_run(run: Path) -> RunFiles:
    """Reads a run that can be pushed.

    Raises:
        UserError: If it is not finished, lacks a file of its student, or another process trains or evaluates it.
    """
    if not run.is_dir():
        raise UserError(f"there is no run folder {run}; give a folder such as runs/<name>-<id>")
    RunFolder(run).refuse_if_locked()
    files = read_run(run)
    status = files.record.status or "of unknown status"
    if status != "finished":
        raise UserError(f"{run} is {status}, not finished; finish it with the command in its run.json")
    if not (run / "student.safetensors").is_file():
        raise UserError(f"{run} has no student.safetensors; restore it from a copy")
    if not (run / "student.onnx").is_file() and "no_onnx" not in files.record.export:
        raise UserError(f"{run} has no student.onnx; write it with facedistill export {run} --format onnx")
    return files


def _description(student: Path) -> bytes:
    """config.json: how to build and feed the student, as its own file says; the hub counts downloads by it."""
    content: dict[str, Any] = read_metadata(student)
    return (json.dumps({"library_name": "facedistill", **content}, indent=2, sort_keys=True) + "\n").encode()


def _refusal(error: HfHubHTTPError, repo: str) -> str:
    status = error.response.status_code if error.response is not None else None
    if status == 401:
        return "the hub does not know this token; run `hf auth login` again"
    if status == 403:
        return f"this token may not write to {repo}; make one that may, or give a repository of your own"
    return f"the hub refused {repo} ({_line(error)})"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
