"""Bad input through the real entry point: one sentence each, exit code 2, nothing half-written."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import facedistill
from facedistill.cli.commands import COMMANDS
from facedistill.cli.main import main
from facedistill.config import compose
from facedistill.export import save_student
from facedistill.models.backbones import TinyFaR
from facedistill.system.paths import config_dir
from tests.helpers.errors import command_error
from tests.reporting.small_runs import write_small_run

TEACHERS = ", ".join(sorted(path.stem for path in (config_dir() / "teacher").glob("*.yaml")))


def test_help_names_every_command(capsys):
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {command}  " in shown for command in COMMANDS)


def test_no_command_prints_torchs_warning_of_a_missing_gpu(monkeypatch):
    logger = logging.getLogger("torch.utils.cpp_extension")
    monkeypatch.setattr(logger, "level", logging.WARNING)
    assert main(["methods", "nosuch"]) == 2
    assert logger.level == logging.ERROR


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["trian"], "there is no command 'trian'; did you mean train? There are train, profile, evaluate, export, cost, verify, search, demo, embed, report, dashboard, push, reproduce, methods, backbones, data, generate, teacher, generator, assets, completion, align"),
    (["train", "imagse=5"], "unknown override 'imagse'; did you mean images?"),
    (["train", "images=0"], "1 problem(s) in the configuration\n  images=0: must be > 0"),
    (["train", "images=-3"], "1 problem(s) in the configuration\n  images=-3: must be > 0"),
    (["train", "backbone.embedding_dim=128"],
     "1 problem(s) in the configuration\n  backbone.embedding_dim=128: SynthDistill compares the student's embeddings "
     "with the teacher's, which have 512 dimensions; leave the key out, or use a method that compares relations or "
     "logits, such as method=rkd"),
    (["evaluate", "no/such/run"],
     "no/such/run: there is no such run folder or student file"),
    (["evaluate", "student.onnx"], "student.onnx: there is no such run folder or student file"),
    (["evaluate", "/"], "/: is a folder without a run.json, so it is no run; give a run folder"),
    (["evaluate", "yunet"], f"yunet: is no run folder and no student file here, and no teacher; there are {TEACHERS}"),
    (["embed", "a.png", "--student", "s.onnx", "--out", "x.txt"], "--out x.txt: name a file that ends in .npz or .csv"),
    (["reproduce", "--experiments", "no_such_folder"],
     "there is no folder no_such_folder here; tables are made in a clone of the repository: git clone it, and run the "
     "command there"),
    (["train", "runs_dir=b\udce9d"], "b'runs_dir=b\\xe9d' is not UTF-8; rename the file or folder"),
    (["train", "method.objective=a(b"], "cannot read the value of 'method.objective=a(b'; put it in quotes twice, as "
     "'method.objective=\"a(b\"'"),
])  # fmt: skip
def test_one_sentence(capsys, arguments, sentence):
    assert command_error(capsys, *arguments) == f"error  {sentence}"


@pytest.mark.parametrize("error", [
    MemoryError(), torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 400 bytes"),
], ids=["python", "gpu", "cpu"])  # fmt: skip
def test_out_of_memory_is_one_sentence(capsys, monkeypatch, error):
    def fail(arguments):
        raise error

    monkeypatch.setattr("facedistill.cli.assets.main", fail)
    assert "out of memory (" in command_error(capsys, "assets")


def test_a_name_that_is_not_utf8_is_one_sentence(capsys, tmp_path):
    for person in (os.fsencode(tmp_path) + b"/faces/p\xff", os.fsencode(tmp_path) + b"/faces/q"):
        os.makedirs(person)
        for number in range(2):
            Image.new("RGB", (112, 112)).save(person + b"/%d.png" % number)
    for kind in ("shards", "folder"):
        error = command_error(capsys, "data", "convert", tmp_path / "faces", tmp_path / kind, "--to", kind)
        assert "p\\xff" in error
        assert error.endswith("is not UTF-8; rename the file or folder")
        assert not (tmp_path / kind).exists()
    assert main(["data", "info", str(tmp_path / "faces")]) == 0


def test_ctrl_c_during_the_imports_is_no_traceback():
    for program in ("bin/facedistill", "facedistill/__main__.py"):
        code = f"import os, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); sys.argv[0] = {program!r}; import facedistill.cli; os.kill(os.getpid(), signal.SIGINT)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (130, "interrupted\n")


def test_the_package_is_a_program():
    done = subprocess.run([sys.executable, "-m", "facedistill", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{facedistill.__version__}\n", "")


def test_a_reader_that_leaves_is_no_error():
    command = f"{sys.executable} -m facedistill train --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_missing_asset(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("FACEDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    said = command_error(capsys, "train", "debug=smoke", f"runs_dir={tmp_path / 'runs'}")
    assert "error  asset w600k_mbf: " in said
    assert "FACEDISTILL_ASSET_W600K_MBF=" in said
    assert "Traceback" not in said
    assert not list((tmp_path / "cache").glob("*.safetensors"))


def test_truncated_student(capsys, tmp_path):
    path = tmp_path / "student.safetensors"
    save_student(TinyFaR("c"), path, {})
    path.write_bytes(path.read_bytes()[:1000])
    said = command_error(capsys, "evaluate", str(path))
    assert said.startswith(f"error  {path}")
    assert "truncated" in said


def test_output_folder_that_cannot_be_written(capsys, tmp_path):
    (tmp_path / "runs").write_text("a file, not a folder")
    said = command_error(capsys, "train", "debug=smoke", f"runs_dir={tmp_path / 'runs'}")
    assert said.startswith(f"error  {tmp_path / 'runs'}/smoke-")
    assert said.endswith(
        ": cannot be written (Not a directory); give another folder, runs_dir=/another/folder"
    )
    said = command_error(capsys, "train", "-m", "debug=smoke", "seed=1,2", f"runs_dir={tmp_path / 'runs'}")
    assert said.endswith(
        f"error  {tmp_path / 'runs'}/logs: cannot be written (Not a directory); give another folder, runs_dir=/another/folder"
    )


def test_a_run_in_a_folder_that_cannot_be_written(capsys, monkeypatch, tmp_path):
    run = write_small_run(tmp_path / "a-00000001")
    monkeypatch.setattr(Path, "touch", _denied)
    for command in ("evaluate", "report"):
        said = command_error(capsys, command, run)
        assert said == f"error  {run}: cannot be written (Permission denied); copy the run to another folder"


def _denied(path, *rest, **options):
    raise PermissionError(errno.EACCES, "Permission denied", str(path))


def test_a_folder_that_cannot_be_read_is_one_sentence(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "exists", _denied)
    assert (
        command_error(capsys, "data", "info", tmp_path)
        == f"error  {tmp_path}: cannot be read (Permission denied)"
    )
    monkeypatch.setattr("facedistill.cli.assets.main", lambda arguments: _denied("a/b"))
    assert command_error(capsys, "assets").startswith("error  a/b: Permission denied; change that")


def test_no_disk(capsys, monkeypatch, tmp_path):
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    said = command_error(capsys, "train", "debug=smoke", f"runs_dir={tmp_path}")
    assert said.startswith(f"error  {tmp_path}/smoke-")
    expected = "/config.yaml cannot be written (No space left on device); free space or choose another folder"
    assert said.endswith(expected)
    assert not list(tmp_path.rglob("*.writing"))


def test_embed_reads_what_train_wrote(capsys, tmp_path):
    from PIL import Image

    torch.manual_seed(0)
    save_student(TinyFaR("c").eval(), tmp_path / "student.safetensors", {})
    for name, color in (("a.png", "tan"), ("b.png", "peru")):
        Image.new("RGB", (112, 112), color).save(tmp_path / name)
    Image.new("RGB", (200, 200), "tan").save(tmp_path / "c.png")
    embed = ["embed", str(tmp_path), "--student", str(tmp_path / "student.safetensors"), "--out"]
    assert main([*embed, str(tmp_path / "faces.npz")]) == 0
    printed = capsys.readouterr()
    assert "3 embeddings of 512 dimensions" in printed.out
    assert "1 of 3 images were resized to 112 px" in printed.err
    assert main([*embed, str(tmp_path / "faces.csv")]) == 0
    kept = np.load(tmp_path / "faces.npz")["embeddings"]
    lines = (tmp_path / "faces.csv").read_text().splitlines()[1:]
    assert np.array_equal(np.float32([line.split(",")[1:] for line in lines]), kept)


HELP_OF_ALL = """
import contextlib, importlib, io, sys
from facedistill.cli.commands import COMMANDS
from facedistill.cli.main import main
heavy = {"torch", "hydra", "omegaconf", "lightning", "wandb", "matplotlib", "onnx", "onnxruntime", "pyarrow", "scipy"}
for command in COMMANDS:
    with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
        main([command, "--help"])
    assert text.getvalue(), command
    assert not heavy & set(sys.modules), (command, heavy & set(sys.modules))
"""


def test_help_of_train_has_every_choice_and_key(capsys):
    assert main(["train", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "augment: light, photo, photo_strong" in lines
    assert "evaluation:  # default" in lines
    for key in compose("train", []):
        assert any(line.startswith(f"{key}:") for line in lines), key
    assert lines[-1].startswith("docs/concepts.md says")


def test_help_imports_no_heavy_package():
    done = subprocess.run([sys.executable, "-c", HELP_OF_ALL], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("points", ["-1", "nan", "many"])
def test_an_allowed_loss_is_0_to_100_points(points, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["export", "s.safetensors", "--format", "onnx-int8", f"--allowed-loss={points}"])
    assert stopped.value.code == 2
    assert "argument --allowed-loss: " in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "said"), [
    (["cost", "tinyfar_c", "--seconds", "0"], "argument --seconds: expected seconds above 0, got 0"),
    (["cost", "tinyfar_c", "--seconds", "nan"], "argument --seconds: expected seconds above 0, got nan"),
    (["evaluate"], "the following arguments are required: what\n"),
])  # fmt: skip
def test_a_wrong_argument_is_named(arguments, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
