"""Which checkpoint a run goes on from, and why one is not taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

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

Say = Callable[[str], object]


def checkpoint_to_continue(folder: RunFolder, origin: Origin, say: Say) -> Path | None:
    """The newest whole checkpoint of a run, made under the same configuration, weights and faces.

    The first process deletes damaged checkpoints and leftovers of a killed one, and says so.

    Args:
        folder: Of the run.
        origin: What the run is made under now.
        say: Prints a sentence.

    Returns:
        Its path; None where there is none yet.

    Raises:
        UserError: If there are only damaged ones, or it was made under something else.
    """
    path, damaged = newest_intact(folder.checkpoint)
    if is_main_process():
        remove_leftovers(folder.path)
    if path is None:
        return None
    checkpoint = read_checkpoint(path)
    caution = check_origin(path, checkpoint.get("origin"), origin)
    if is_main_process():
        for file in damaged:
            say(f"{file} is damaged and is deleted; the checkpoint before it is whole")
            file.unlink(missing_ok=True)
        name = "last checkpoint" if path == folder.checkpoint else "checkpoint before the last"
        say(f"continuing {folder.path} from its {name}" + (f" ({caution})" if caution else ""))
    return path


def refuse_edited_config(folder: RunFolder, origin: Origin) -> None:
    """Refuses a run folder whose config.yaml somebody has changed: the run would not be what it says.

    Raises:
        UserError: Naming the keys.
    """
    kept = folder.config()
    if kept is None or _identity(kept, origin.files) == origin.identity:
        return
    found = different_config(origin.config, result_relevant(kept))
    raise UserError(
        f"{folder.path / 'config.yaml'} is not the configuration that its run was started with: {'; '.join(found[:5])}; "
        "change keys on the command line, which makes a run of its own, and delete this file to go on as before"
    )


def report_stale_runs(folder: RunFolder, origin: Origin, name: str, say: Say) -> None:
    """Says which unfinished run of the same configuration is not continued, because its weights or faces changed."""
    for other in sorted(folder.path.parent.glob(f"{name}-????????")):
        record = RunFolder(other).record()
        files = record.files
        if other == folder.path or not files or record.status in ("trained", "finished"):
            continue
        kept, changed = RunFolder(other).config(), changed_files(files, origin.files)
        if kept is not None and changed and not different_config(result_relevant(kept), origin.config):
            say(
                f"{other} is unfinished and cannot be continued: {'; '.join(changed)}; starting {folder.path}"
            )


def _identity(config: DictConfig, files: Mapping[str, Any]) -> str:
    return make_run_id(config, dict(files))
