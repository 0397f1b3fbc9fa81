"""The student of a run that was cut short: what its last checkpoint holds, as a file that people can use."""

from __future__ import annotations

from typing import Any

from facedistill.export import read_metadata, save_student
from facedistill.models.backbones import Backbone
from facedistill.models.weights import load_state
from facedistill.runs.checkpointing import newest_intact, read_checkpoint
from facedistill.runs.folder import RunFolder
from facedistill.runs.sources import instantiate

_PREFIX = "student."


def is_unfinished(folder: RunFolder) -> bool:
    """Whether the run has not reached the end of its budget."""
    return folder.record().status in ("running", "interrupted", "failed")


def _has_final_student(folder: RunFolder) -> bool:
    """Whether training had exported its student before the run was cut short; no checkpoint replaces that one."""
    return folder.student.exists() and "unfinished" not in read_metadata(folder.student)["metadata"]


def export_last_checkpoint(folder: RunFolder) -> str | None:
    """Writes student.safetensors from the newest whole checkpoint, and says in run.json how far it got.

    Args:
        folder: Of a run that was interrupted, killed, or stopped by an error.

    Returns:
        A sentence about how far the student got, or None where there is no checkpoint yet.

    Raises:
        UserError: If no checkpoint is whole, or the file cannot be written.
    """
    path, _ = newest_intact(folder.checkpoint)
    config = folder.config()
    if path is None or config is None or _has_final_student(folder):
        return None
    checkpoint = read_checkpoint(path)
    student = instantiate(config.backbone)
    assert isinstance(student, Backbone)
    state = {
        name.removeprefix(_PREFIX): value
        for name, value in checkpoint["state_dict"].items()
        if name.startswith(_PREFIX)
    }
    load_state(student, state, str(path))
    progress: dict[str, Any] = {"images_seen": checkpoint["images_seen"], "images": config.images}
    save_student(student, folder.student, {"run": folder.path.name, "unfinished": progress})
    folder.update_record(unfinished=progress, images_seen=checkpoint["images_seen"])
    return (
        f"{folder.student} is unfinished: {progress['images_seen']:,} of {progress['images']:,} images; the command in "
        "run.json goes on"
    )
