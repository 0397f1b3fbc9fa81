"""Checkpoints of a run: how they are written, checked, and written early when a signal arrives."""

from facedistill.runs.checkpointing.callback import LastCheckpoint
from facedistill.runs.checkpointing.files import newest_intact, previous_of, read_checkpoint, remove_leftovers
from facedistill.runs.checkpointing.finite import FiniteOnly
from facedistill.runs.checkpointing.interruption import (
    Interruption,
    interrupt_on_signals,
    refuse_nameless_restarts,
    requeue,
    started_again,
    started_by,
)
from facedistill.runs.checkpointing.origin import Origin, changed_files, check_origin, different_config

__all__ = [
    "FiniteOnly",
    "Interruption",
    "LastCheckpoint",
    "Origin",
    "changed_files",
    "check_origin",
    "different_config",
    "interrupt_on_signals",
    "newest_intact",
    "previous_of",
    "read_checkpoint",
    "refuse_nameless_restarts",
    "remove_leftovers",
    "requeue",
    "started_again",
    "started_by",
]
