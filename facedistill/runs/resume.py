"""Finds the checkpoint that a run continues from, and checks that it belongs to the same run."""

from __future__ import annotations

from pathlib import Path

from facedistill.config import make_run_id, result_relevant
from facedistill.errors import UserError
from facedistill.runs.checkpointing import (
    Origin,
    changed_files,
    check_origin,
    different_config,
    newest_intact,
    read_checkpoint,
    remove_leftovers,
)
from facedistill.runs.folder import RunFolder
from facedistill.runs.processes import is_main_process
from facedistill.system.messages import print_message


def checkpoint_to_continue(folder: RunFolder, origin: Origin) -> Path | None:
    """The newest intact checkpoint of a run, made with the same configuration, weights and faces.

    The main process prints which one it is, and deletes damaged checkpoints and unfinished files.

    Args:
        folder: Of the run.
        origin: What the result of the run depends on now.

    Returns:
        Its path; None if there is no checkpoint.

    Raises:
        UserError: If every checkpoint is damaged, or the newest intact one belongs to another run.
    """
    path, damaged = newest_intact(folder.checkpoint)
    if is_main_process():
        remove_leftovers(folder.path)
    if path is None:
        return None
    warning = check_origin(path, read_checkpoint(path).get("origin"), origin)
    if is_main_process():
        for file in damaged:
            print_message(f"{file} is damaged and is deleted; the checkpoint before it is intact")
            file.unlink(missing_ok=True)
        name = "last checkpoint" if path == folder.checkpoint else "checkpoint before the last"
        print_message(f"continuing {folder.path} from its {name}" + (f" ({warning})" if warning else ""))
    return path


def refuse_edited_config(folder: RunFolder, origin: Origin) -> None:
    """Refuses a run folder whose config.yaml has been edited.

    Raises:
        UserError: Naming the keys.
    """
    saved = folder.config()
    if saved is None or make_run_id(saved, dict(origin.files)) == origin.run_id:
        return
    changes = different_config(origin.config, result_relevant(saved))
    raise UserError(
        f"{folder.path / 'config.yaml'} is not the configuration that its run was started with: {'; '.join(changes[:5])}; "
        "change keys on the command line, which makes another run, and delete this file to continue this one"
    )


def report_stale_runs(folder: RunFolder, origin: Origin, name: str) -> None:
    """Prints which unfinished runs of the same configuration cannot be continued: their weights or faces changed."""
    for path in sorted(folder.path.parent.glob(f"{name}-????????")):
        other = RunFolder(path)
        try:
            record, config = other.record(), other.config()
        except UserError:  # it cannot be continued as it is
            continue
        if (
            path == folder.path
            or config is None
            or not record.files
            or record.status in ("trained", "finished")
        ):
            continue
        changes = changed_files(record.files, origin.files)
        if changes and not different_config(result_relevant(config), origin.config):
            print_message(
                f"{path} is unfinished and cannot be continued: {'; '.join(changes)}; starting {folder.path}"
            )
