"""Forks of a warm process that train as the command line does, and what the campaign has to know of processes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import socket
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

from lightning.fabric.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig
from torch import Tensor

import facedistill.runs.train
from facedistill.errors import UserError
from facedistill.methods.base import DistillationMethod
from facedistill.types import FaceBatch


class Forked:
    """A forked process in the dress of a `Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        if self.returncode is None:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if found else None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Sends a signal."""
        os.kill(self.pid, number)


def start(config: DictConfig, log: Path, processes: int, nan_at: int | None = None) -> list[int]:
    """Forks the first process of a run, which forks the second as Lightning's launcher starts it; returns their ids."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    sys.stdout.flush()
    sys.stderr.flush()
    tell, told = os.pipe()[::-1]
    first = os.fork()
    if not first:
        if processes == 1:
            _be(config, log, 0, 1, port, nan_at)
        os.environ["FACEDISTILL_MAIN_PROCESS"] = str(
            os.getpid()
        )  # as the real first one tells those it starts
        second = os.fork()
        if not second:
            _be(config, log, 1, 2, port, nan_at)
        os.write(tell, str(second).encode())
        _launches(Forked(second))
        _be(config, log, 0, 2, port, nan_at)
    started = [first] if processes == 1 else [first, int(os.read(told, 20))]
    os.close(tell)
    os.close(told)
    return started


def _launches(second: Forked) -> None:
    """Makes the second process one that the first one's trainer has started."""
    assemble = facedistill.runs.train.assemble

    def assembled(*parts: object) -> object:
        made = assemble(*parts)  # type: ignore[arg-type]
        made.trainer.strategy._launcher = SimpleNamespace(
            procs=[second], launch=lambda function, *given, trainer, **named: function(*given, **named),
            kill=second.send_signal, is_interactive_compatible=False,
        )  # fmt: skip
        return made

    facedistill.runs.train.assemble = assembled  # type: ignore[assignment]


def _be(config: DictConfig, log: Path, rank: int, processes: int, port: int, nan_at: int | None) -> NoReturn:
    """The forked process: trains and leaves with the exit code of the command line."""
    code = 1
    try:
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        if processes > 1:
            os.environ.update(
                LOCAL_RANK=str(rank), NODE_RANK="0", WORLD_SIZE=str(processes), MASTER_ADDR="127.0.0.1",
                MASTER_PORT=str(port),
            )  # fmt: skip
        rank_zero_only.rank = rank  # type: ignore[attr-defined]
        if nan_at is not None:
            _spoil(nan_at)
        code = _as_the_command_line(config)
    except KeyboardInterrupt:  # before `train` listens
        code = 130
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _as_the_command_line(config: DictConfig) -> int:
    try:
        facedistill.runs.train.train(config, ["campaign"])
        return 0
    except UserError as error:
        print(f"error  {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print("interrupted; the same command continues", file=sys.stderr)
        return 128 + getattr(stop, "number", signal.SIGINT)


def _spoil(step: int) -> None:
    """Makes the faces of one step no numbers."""
    whole = DistillationMethod.training_step

    def spoiled(self: DistillationMethod, batch: FaceBatch, batch_idx: int) -> Tensor:
        if self.trainer.global_step == step:
            batch = replace(batch, images=batch.images * float("nan"))
        return whole(self, batch, batch_idx)

    DistillationMethod.training_step = spoiled  # type: ignore[method-assign]


def ended(pid: int) -> int | None:
    """Exit code, None while it runs; of a second process that the first one has buried, the first one's is telling: 0."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None if is_running(pid) else 0
    return os.waitstatus_to_exitcode(status) if found else None


def adopt_orphans() -> None:
    """Makes this process the parent of second processes whose first one has died, so that it learns how they end."""
    set_child_subreaper = 36
    ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)


def is_running(pid: int) -> bool:
    """Whether it is there and not a zombie, without reaping it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def signal_if_there(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
