import os
import signal

import pytest

from facedistill.cli import main as cli
from facedistill.errors import Interrupted
from facedistill.runs.checkpointing import Interruption, interrupt_on_signals, requeue

SCONTROL = """#!/bin/sh
echo "$@" >> {calls}
{then}
"""


@pytest.fixture(autouse=True)
def _ctrl_c():
    """Restores the handler of Ctrl-C, which shells ignore in background processes."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def scontrol(tmp_path, monkeypatch):
    """A fake `scontrol` on the PATH that records its arguments."""

    def make(then="exit 0"):
        program = tmp_path / "scontrol"
        program.write_text(SCONTROL.format(calls=tmp_path / "calls", then=then))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        return tmp_path / "calls"

    return make


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_first_signal_is_recorded_and_second_interrupts(number, capfd):
    before = signal.getsignal(number)
    interruption = Interruption()
    interruption.start()
    try:
        os.kill(os.getpid(), number)
        assert interruption.number == number
        assert capfd.readouterr().err == "\nstopping after this step; a second signal stops at once\n"
        with pytest.raises(Interrupted) as caught:
            os.kill(os.getpid(), signal.SIGTERM)
        assert caught.value.number == signal.SIGTERM
    finally:
        interruption.stop()
    assert signal.getsignal(number) == before


def test_a_signal_is_recorded_where_nobody_reads_messages(monkeypatch):
    """As behind a pipe whose reader has ended: the step must finish and save all the same."""

    def write(descriptor, text):
        raise BrokenPipeError

    interruption = Interruption()
    interruption.start()
    try:
        monkeypatch.setattr(os, "write", write)
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.number == signal.SIGTERM
    finally:
        interruption.stop()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 138), (signal.SIGINT, 130)]
)
def test_exit_code_names_the_signal(number, code, monkeypatch, capsys):
    @interrupt_on_signals()
    def command(arguments):
        os.kill(os.getpid(), number)

    monkeypatch.setattr("facedistill.cli.train.main", command)
    assert cli.main(["train"]) == code
    assert capsys.readouterr().err.strip() == "interrupted; the same command continues"


def test_requeue_calls_scontrol(scontrol, monkeypatch):
    calls = scontrol()
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    assert requeue() == "SLURM job 77 is queued again and continues this run"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "70")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    requeue()
    assert calls.read_text().splitlines() == ["requeue 77", "requeue 70_3"]


def test_requeue_reports_a_refusal(scontrol, monkeypatch, tmp_path):
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    scontrol("echo 'Job is not requeueable' >&2; exit 1")
    assert (
        requeue()
        == "SLURM job 77 could not be queued again (Job is not requeueable); submit it again to continue"
    )
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert requeue().endswith("submit it again to continue")
