"""Trains, exports, evaluates and reports one run."""

from __future__ import annotations

import secrets
import shlex
import signal
from collections.abc import Sequence

import torch
from omegaconf import DictConfig, OmegaConf

from facedistill.config import validate
from facedistill.distributed.process_watch import ProcessWatch, process_death_message
from facedistill.errors import Interrupted, UserError
from facedistill.reporting.run.model_card import write_model_card
from facedistill.reporting.run.page import write_report
from facedistill.runs.assembly import assemble, has_batch_norm, settings_of
from facedistill.runs.checkpointing import (
    interrupt_on_signals,
    refuse_nameless_restarts,
    started_again,
    started_by,
)
from facedistill.runs.evaluate import evaluate_run
from facedistill.runs.export import export_run, remove_exported
from facedistill.runs.folder import RunFolder, provenance
from facedistill.runs.inputs import Inputs, licences_learned_from, open_inputs, stored_faces
from facedistill.runs.library_warnings import silence_expected_warnings
from facedistill.runs.processes import is_main_process
from facedistill.runs.protocols import open_configured_protocols
from facedistill.runs.publish import show_in_loggers
from facedistill.runs.resume import checkpoint_to_continue, refuse_edited_config, report_stale_runs
from facedistill.runs.salvage import queue_again, salvage_run
from facedistill.runs.strategies import check_machine
from facedistill.system.files import write_atomically
from facedistill.system.messages import print_message
from facedistill.system.trust import as_arguments


@interrupt_on_signals()
def train(config: DictConfig, overrides: Sequence[str] = (), inputs: Inputs | None = None) -> RunFolder:
    """Trains, exports, evaluates and reports; continues an interrupted run, and returns a finished one unchanged.

    Args:
        config: Composed configuration.
        overrides: What it was composed from, for the record of the run's command.
        inputs: Of `open_inputs`, if they are open already.

    Returns:
        The folder of the run.

    Raises:
        UserError: If the configuration, the weights or the folder do not allow the run.
    """
    check_start(config)
    inputs = inputs or open_inputs(config)
    folder = inputs.folder
    if config.force and started_again(folder.record().started_by):
        config = with_force(config, False)  # it has started over already
    if not is_main_process():
        if config.force or not folder.is_trained:  # otherwise the main process does not train either
            _fit(config, inputs)
        return folder
    open_configured_protocols(config)  # reports mistakes in them before the training
    if config.force:
        folder.clear()
    if folder.is_finished:
        if not (folder.path / "report.html").is_file():  # stopped before the report was written
            _publish(config, folder)
        print_message(f"{folder.path} is finished already; `force=true` starts it over")
        return folder
    folder.create()
    refuse_edited_config(folder, inputs.origin)
    write_atomically(folder.path / "config.yaml", OmegaConf.to_yaml(with_force(config, False), resolve=True))
    if folder.is_trained:
        print_message(f"{folder.path} is trained already; evaluating it")
        folder.remove_training_state()
    else:
        report_stale_runs(folder, inputs.origin, config.name)
        _record_start(config, inputs, overrides)
        _fit(config, inputs)
    try:
        evaluate_run(folder)
    except Interrupted as stop:
        queue_again(stop)
        raise
    folder.update_record(status="finished")
    _publish(config, folder)
    return folder


def check_start(config: DictConfig) -> None:
    """Finds what the configuration, this machine and the launcher do not allow, before anything is loaded or written.

    Raises:
        ConfigError: If there is anything.
    """
    validate(config)
    if config.force:
        refuse_nameless_restarts()
    faces = OmegaConf.select(config, "data.validation.faces")
    check_machine(settings_of(config), config.data.batch_size, faces, lambda: has_batch_norm(config.backbone))


def with_force(config: DictConfig, force: bool) -> DictConfig:
    """A copy with another `force`; the records of a run have none, since what they hold is there to continue it."""
    changed = config.copy()
    changed.force = force
    return changed


def _record_start(config: DictConfig, inputs: Inputs, overrides: Sequence[str]) -> None:
    folder = inputs.folder
    again = [text for text in overrides if text.lstrip("+").split("=")[0] != "force"]
    folder.update_record(
        id=folder.path.name, name=config.name, seed=config.seed, status="running", reason=None,
        **provenance(shlex.join(["facedistill", "train", *again, *as_arguments()])),
        licences=licences_learned_from(config, inputs.faces),
        stored_faces=stored_faces(config, inputs.faces) or folder.record().stored_faces,
        files=dict(inputs.origin.files), started_by=started_by(),
        wandb_id=folder.record().wandb_id or f"{folder.path.name}-{secrets.token_hex(3)}",
    )  # fmt: skip


def _fit(config: DictConfig, inputs: Inputs) -> None:
    """Trains in every process; the main process exports the student, or salvages the run if it is cut short."""
    folder = inputs.folder
    silence_expected_warnings()
    torch.set_float32_matmul_precision("high")
    # With `force` the main process has removed the old checkpoint, or is about to.
    resumed = None if config.force else checkpoint_to_continue(folder, inputs.origin)
    try:
        parts = assemble(config, inputs)
        if resumed is None and is_main_process():
            remove_exported(folder)
            for of_an_earlier_training in (folder.student, folder.results):
                of_an_earlier_training.unlink(missing_ok=True)
        # Lightning's handler of SIGTERM would start a broadcast in the middle of another collective.
        parts.trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
        with ProcessWatch(parts.trainer.strategy.launcher):
            parts.trainer.fit(parts.method, datamodule=parts.data, ckpt_path=resumed, weights_only=True)
        if is_main_process():
            export_run(config, folder, parts)
    except BaseException as error:
        cause = _cause(error)
        salvage_run(folder, cause)
        if cause is error:
            raise
        raise cause from error


def _cause(error: BaseException) -> BaseException:
    """The error to report instead of what Lightning or torch raise when a run is interrupted or a process dies."""
    if isinstance(error, SystemExit):  # Lightning raises it after an interruption
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return Interrupted(getattr(error.__context__, "number", None) or signal.SIGINT)
    if isinstance(error, RuntimeError | ConnectionError | EOFError):
        message = process_death_message(error)
        return UserError(message) if message else error
    return error


def _publish(config: DictConfig, folder: RunFolder) -> None:
    """Writes the model card and the report, and sends the report's figures to the loggers."""
    card, report = write_model_card(folder.path), write_report(folder.path)
    print_message(f"student  {folder.student}\ncard     {card}\nreport   {report}")
    show_in_loggers(config, folder.path)
