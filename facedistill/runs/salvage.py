"""Salvages a run that was cut short: records why, and exports the student of its last checkpoint."""

from __future__ import annotations

import os
import signal

from facedistill.errors import UserError
from facedistill.export import read_metadata, save_student
from facedistill.runs.checkpointing import newest_intact, requeue
from facedistill.runs.export import remove_exported, student_from_checkpoint
from facedistill.runs.folder import RunFolder
from facedistill.runs.processes import is_main_process
from facedistill.runs.publish import finish_wandb
from facedistill.system.messages import print_message


def salvage_run(folder: RunFolder, error: BaseException) -> None:
    """Records why the run was cut short and exports the student of its last checkpoint; SLURM may queue it again.

    Also ends its wandb run; a trained run ends its wandb run after the evaluation.
    """
    finish_wandb()
    if not is_main_process():
        return
    interrupted = isinstance(error, KeyboardInterrupt)
    try:
        folder.update_record(
            status="interrupted" if interrupted else "failed",
            reason=None if interrupted else str(error) or type(error).__name__,
        )
        if message := export_last_checkpoint(folder):
            print_message(message)
    except UserError as problem:  # such as a full disk; `error` is reported as well
        print_message(str(problem))
    queue_again(error)


def queue_again(error: BaseException) -> None:
    """Has SLURM queue its job again if SIGUSR1 has stopped the run."""
    if getattr(error, "number", None) == signal.SIGUSR1 and "SLURM_JOB_ID" in os.environ:
        print_message(requeue())


def is_unfinished(folder: RunFolder) -> bool:
    """Whether the run has not reached the end of its budget."""
    return folder.record().status in ("running", "interrupted", "failed")


def export_last_checkpoint(folder: RunFolder) -> str | None:
    """Writes student.safetensors from the newest intact checkpoint, and its progress to run.json.

    Args:
        folder: Of a run that was interrupted, killed, or stopped by an error.

    Returns:
        A sentence about the progress; None if there is no checkpoint, or if training had already exported its student.

    Raises:
        UserError: If no checkpoint is intact, or the file cannot be written.
    """
    path, _ = newest_intact(folder.checkpoint)
    config = folder.config()
    if path is None or config is None:
        return None
    earlier = read_metadata(folder.student)["metadata"] if folder.student.exists() else {"unfinished": None}
    if "unfinished" not in earlier:
        return None
    student, seen = student_from_checkpoint(config, path)
    progress = {"images_seen": seen, "images": config.images}
    if earlier["unfinished"] != progress:
        remove_exported(folder)
    save_student(student, folder.student, {"run": folder.path.name, "unfinished": progress})
    folder.update_record(unfinished=progress, images_seen=seen)
    return f"{folder.student} is unfinished: {seen:,} of {config.images:,} images; the command in run.json continues it"
