"""Students on the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

from facedistill.errors import AssetError, reason


def is_hub_name(text: str) -> bool:
    """Whether `text` can be `org/name`; not if its first part is a folder here.

    >>> is_hub_name("you/tiny-face"), is_hub_name("runs/a/b"), is_hub_name("student.onnx")
    (True, False, False)
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", text) or text.endswith((".onnx", ".safetensors")):
        return False
    return not Path(text.split("/")[0]).is_dir()


def hub_file(repo: str, revision: str | None = None) -> Path:
    """The student of a repository, downloaded into the hub's own cache at first use.

    Raises:
        AssetError: If huggingface_hub is not installed, or the repository or its student cannot be had.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise AssetError(f"{repo}: needs huggingface_hub; pip install huggingface_hub") from error
    try:
        folder = snapshot_download(repo, revision=revision, allow_patterns=["student.safetensors"])
    except Exception as error:  # the client's, its HTTP library's, the file system's
        raise AssetError(
            f"{repo}: cannot be downloaded from the Hugging Face hub ({' '.join(reason(error).split())[:200]})"
        ) from error
    path = Path(folder) / "student.safetensors"
    if not path.is_file():
        raise AssetError(f"{repo}: the repository has no student.safetensors; facedistill push writes one")
    return path
