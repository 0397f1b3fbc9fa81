import os
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from facedistill.distributed.process_watch import ProcessWatch, process_death_message


def _process(seconds=30, code=0):
    program = f"import time, sys; time.sleep({seconds}); sys.exit({code})"
    return subprocess.Popen([sys.executable, "-S", "-c", program])


def _until(event, seconds=10):
    assert event.wait(seconds), "nothing happened"


class Exit:
    """Stands in for `os._exit`."""

    def __init__(self):
        self.codes, self.called = [], threading.Event()

    def __call__(self, code):
        self.codes.append(code)
        self.called.set()


def test_waiting_process_ends_when_another_dies_and_kills_the_rest(monkeypatch, capsys):
    monkeypatch.setattr("facedistill.distributed.process_watch._GRACE_S", 0.1)
    dead, alive = _process(), _process()
    leave = Exit()
    watch = ProcessWatch(SimpleNamespace(procs=[dead, alive]), patience_s=0.1, poll_s=0.02, leave=leave)
    with watch:
        dead.kill()
        _until(leave.called)
    assert leave.codes == [1]
    assert capsys.readouterr().err == (
        "error  process 1 of this run ended with code -9; this process stops too; the last good checkpoint stays: give the "
        "same command again to continue from it\n"
    )
    assert alive.wait(5) == -9


def test_process_that_raises_in_time_is_not_ended(capsys):
    dead, leave = _process(0, code=2), Exit()
    with ProcessWatch(SimpleNamespace(procs=[dead]), patience_s=5, poll_s=0.02, leave=leave):
        dead.wait()
        time.sleep(0.2)
    assert (capsys.readouterr().err, leave.codes) == ("", [])


def test_error_ends_the_children(monkeypatch):
    monkeypatch.setattr("facedistill.distributed.process_watch._GRACE_S", 0.1)
    child = _process()
    with pytest.raises(KeyError), ProcessWatch(SimpleNamespace(procs=[child])):
        raise KeyError
    assert child.wait(5) == -9


def test_process_ends_after_its_parent(monkeypatch, capsys):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("FACEDISTILL_MAIN_PROCESS", "1")  # somebody else's parent
    monkeypatch.setattr(os, "getppid", lambda: 2)
    leave = Exit()
    with ProcessWatch(None, patience_s=0.05, poll_s=0.02, leave=leave):
        _until(leave.called)
    assert capsys.readouterr().err.startswith("error  the process that started this one has ended;")


def test_lightnings_observer_is_disabled():
    from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver

    dead = _process(0, code=3)
    observer = _ChildProcessObserver(main_pid=os.getpid(), child_processes=[dead], sleep_period=0.5)
    observer._terminate_all = lambda: pytest.fail("it would have killed this process")
    observer.start()
    with ProcessWatch(SimpleNamespace(procs=[]), poll_s=0.02):
        observer.join(5)
    assert not observer.is_alive()
    dead.wait()


GLOO = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:538] Connection closed by peer [127.0.0.1]:5123"
WORKER = "DataLoader worker (pid 77) is killed by signal: Killed. "


@pytest.mark.parametrize(("text", "start"), [
    (GLOO, "another process of this run has died or does not answer ("),
    (WORKER, "data.num_workers: a worker that reads faces died (Killed; often too little memory"),
    ("DataLoader worker (pid(s) 77) exited unexpectedly", "data.num_workers: a worker that reads faces died (exited;"),
])  # fmt: skip
def test_message_of_a_death(text, start):
    sentence = process_death_message(RuntimeError(text))
    assert sentence.startswith(start)
    assert "give the same command again" in sentence
    assert "\n" not in sentence


def test_other_errors_have_no_message():
    assert process_death_message(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
