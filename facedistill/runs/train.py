"""From a configuration to a trained, evaluated, exported student."""

from __future__ import annotations

import logging
import os
import resource
import secrets
import shlex
import signal
import sys
import warnings
from collections.abc import Sequence

import torch
from omegaconf import DictConfig, OmegaConf

from facedistill.assets import licence_record
from facedistill.config import validate
from facedistill.distributed.process_watch import ProcessWatch, process_death_message
from facedistill.errors import Interrupted, UserError
from facedistill.reporting import write_report
from facedistill.reporting.run.model_card import write_model_card
from facedistill.runs.assembly import Assembly, Inputs, assemble, learned_from, open_inputs, settings_of
from facedistill.runs.checkpointing import interrupt_on_signals, requeue
from facedistill.runs.evaluate import evaluate_run, open_configured_protocols
from facedistill.runs.export import export_student, save_example_faces, whole_student
from facedistill.runs.folder import RunFolder, provenance
from facedistill.runs.processes import is_main_process
from facedistill.runs.publish import finish_wandb, show_in_loggers
from facedistill.runs.resume import checkpoint_to_continue, refuse_edited_config, report_stale_runs
from facedistill.runs.salvage import export_last_checkpoint
from facedistill.runs.sources import requirements
from facedistill.runs.strategies import check_machine
from facedistill.system.files import write_atomically
from facedistill.system.messages import print_message


@interrupt_on_signals()
def train(config: DictConfig, overrides: Sequence[str] = (), inputs: Inputs | None = None) -> RunFolder:
    """Trains, exports, evaluates and reports; continues or reuses what the run folder already holds.

    Args:
        config: Composed configuration.
        overrides: What it was composed from, for the record of the run's command.
        inputs: Of `open_inputs`, where they are open already.

    Returns:
        The folder of the run.

    Raises:
        UserError: If the configuration, the weights or the folder do not allow the run.
    """
    validate(config)
    check_machine(settings_of(config), config.data.batch_size)
    inputs = inputs or open_inputs(config)
    origin, folder = inputs.origin, inputs.folder
    if not is_main_process():
        if config.force or not folder.is_trained:  # else the lead has nothing to train either
            _fit(config, inputs)
        return folder
    open_configured_protocols(config)  # a mistake in them is said now and not after the training
    if config.force:
        folder.clear()
    if folder.is_finished:
        if not (folder.path / "report.html").is_file():  # stopped between its results and its pages
            _publish(config, folder)
        print_message(f"{folder.path} is finished already; `force=true` starts it over")
        return folder
    folder.create()
    refuse_edited_config(folder, origin)
    write_atomically(folder.path / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
    if folder.is_trained:
        print_message(f"{folder.path} is trained already; evaluating it")
        folder.remove_training_state()
    else:
        report_stale_runs(folder, origin, config.name, print_message)
        folder.update_record(
            id=folder.path.name, name=config.name, seed=config.seed, status="running",
            **provenance(shlex.join(["facedistill", "train", *overrides])),
            licences=[licence_record(card) for card in learned_from(config)], files=dict(origin.files),
            wandb_id=folder.record().wandb_id or f"{folder.path.name}-{secrets.token_hex(3)}",
        )  # fmt: skip
        _fit(config, inputs)
    evaluate_run(folder)
    folder.update_record(status="finished")
    _publish(config, folder)
    return folder


def _publish(config: DictConfig, folder: RunFolder) -> None:
    """Writes the model card and the report, and hands the report's figures to the loggers."""
    print_message(
        f"student  {folder.student}\ncard     {write_model_card(folder.path)}\nreport   {write_report(folder.path)}"
    )
    show_in_loggers(config, folder.path)


def _fit(config: DictConfig, inputs: Inputs) -> None:
    """Trains, in every process of the run; the lead exports the student, also that of a run that is cut short."""
    folder = inputs.folder
    _quiet_libraries()
    torch.set_float32_matmul_precision("high")
    # With `force` the first process has removed the old checkpoint, or is about to.
    resumed = None if config.force else checkpoint_to_continue(folder, inputs.origin, print_message)
    try:
        parts = assemble(config, inputs)
        # Lightning's handler of SIGTERM starts a broadcast in the middle of whatever the processes exchange.
        parts.trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
        with ProcessWatch(parts.trainer.strategy.launcher, print_message):
            parts.trainer.fit(parts.method, datamodule=parts.data, ckpt_path=resumed, weights_only=True)
        if is_main_process():
            _finish(config, folder, parts)
    except SystemExit as stop:  # how Lightning leaves after an interruption
        signal.signal(signal.SIGINT, signal.default_int_handler)
        interruption = Interrupted(getattr(stop.__context__, "number", None) or signal.SIGINT)
        _leave_what_there_is(folder, interruption)
        raise interruption from stop
    except (RuntimeError, ConnectionError, EOFError) as error:
        sentence = process_death_message(error)
        mistake = UserError(sentence) if sentence else error
        _leave_what_there_is(folder, mistake)
        raise mistake from error
    except BaseException as error:
        _leave_what_there_is(folder, error)
        raise


def _leave_what_there_is(folder: RunFolder, error: BaseException) -> None:
    """Records why the run was cut short and exports the student of its last checkpoint; SLURM may queue it again.

    Its wandb run ends here; that of a run that is trained is gone on with once the student is evaluated.
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
        if exported := export_last_checkpoint(folder):
            print_message(exported)
    except UserError as problem:  # a full disk; what stopped the run is said in any case
        print_message(str(problem))
    if getattr(error, "number", None) == signal.SIGUSR1 and "SLURM_JOB_ID" in os.environ:
        print_message(requeue())


def _finish(config: DictConfig, folder: RunFolder, parts: Assembly) -> None:
    method, device = parts.method.eval(), parts.trainer.strategy.root_device
    if config.trainer.strategy == "fsdp":
        method.student = whole_student(config, folder)
    parity = export_student(config, folder, method.student, parts.data.validation_faces[:32])
    save_example_faces(parts.data.source, method.to(device).eval(), folder.path / "faces.npz")
    folder.update_record(
        status="trained",
        reason=None,
        unfinished=None,
        images_seen=parts.method.images_seen,
        peak_memory_mib=_peak_memory_mib(),
        export={"onnx_min_cosine": parity},
        **_teacher_logits(config),
        **parts.timing.summary(),
    )
    parts.data.source.close()
    folder.remove_training_state()


def _teacher_logits(config: DictConfig) -> dict[str, str]:
    """What stood in for a classifier of the teacher, where the method wants its logits or centers."""
    if not requirements(config).class_centers:
        return {}
    return {"teacher_centers": f"{config.data.centers} of the teacher's embeddings per identity"}


def _peak_memory_mib() -> float:
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(kib / (1024 * 1024 if sys.platform == "darwin" else 1024), 1)


def _quiet_libraries() -> None:
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Compiling for the CPU warns that there is no CUDA.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    # One worker-less loader is right for rendered faces: preparing latents costs 0.1 ms each.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # The loader starts at the DataModule's position, which is in the checkpoint; Lightning cannot know.
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
    # The frozen teacher is meant to be in eval mode.
    warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
    # Validation figures are the same in every process: all score the same gathered embeddings.
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
    # A budget shorter than the logging interval is somebody trying things out.
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
    # DDP's argument of this name goes on under another one in newer torch only.
    warnings.filterwarnings("ignore", message=".*broadcast_buffers. is deprecated.*")
    # Lightning's own use of a deprecated torch interface, and of a deprecated wandb argument.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
