"""Hostile files against every command that reads files of others: how many run code, hang, or take much memory.

    python benchmarks/attack.py [--seconds 60] [--gib 4]

Local files only, made here in a temporary folder. Each attack is one command in a forked process with a limit of time and of
additional memory. Each would leave the file `executed` if it ran. Exit code 0 if none was executed, hung, or ended in anything
but a sentence.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from omegaconf import OmegaConf
from onnx import TensorProto, helper, numpy_helper

from facedistill.assets.pickle.convert import convert_pickled
from facedistill.cli.main import main as facedistill
from facedistill.config import compose
from facedistill.errors import UserError
from facedistill.export import embed, save_student
from facedistill.models.backbones import TinyFaR
from facedistill.models.teachers import onnx_network
from facedistill.models.weights import read_weights, write_weights
from facedistill.runs import evaluate, train
from facedistill.sweeps import job as jobs

_BEFORE_FORKING = (evaluate, train, jobs)  # so that no child imports them again
GADGETS: tuple[dict[str, Any], ...] = (
    {"_target_": "os.system", "command": "touch executed"},
    {"_target_": "evil.Thin"},
    {"_target_": "shutil.copyfile", "src": "evil.py", "dst": "executed"},
    {"_target_": "builtins.exec", "_args_": ["open('executed', 'w')"]},
    {"_target_": "hydra.utils.get_method", "path": "evil.Thin"},
    {"_target_": "functools.partial", "_args_": ["os.system"], "_partial_": True},
    {"_target_": "facedistill.sweeps.launchers.guard.main", "command": ["touch", "executed"]},
    {"_target_": "facedistill.system.files.write_atomically", "path": "executed", "content": "x"},
    {"_target_": "facedistill.losses.embedding.torch.hub.load", "repo_or_dir": ".", "source": "local"},
    {"_target_": "facedistill.methods.kd.KD.load_from_checkpoint", "checkpoint_path": "evil.pt"},
)
KEYS = (
    "backbone",
    "teacher.network",
    "method",
    "data.source",
    "optimizer",
    "logger.csv",
    "launcher",
    "optimizer.betas.0",
)


@dataclass(frozen=True)
class Outcome:
    """What one attack did."""

    name: str
    status: str  # refused, accepted, EXECUTED, HUNG or CRASHED
    seconds: float
    mib: float


def commands(folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Every attack: its name, and what a user would do with the file."""
    (folder / "evil.py").write_text(
        "open('executed', 'w').close()\nclass Thin: pass\ndef convert(members): return {}\n"
    )
    run = folder / "demo-12345678"
    run.mkdir()
    (run / "run.json").write_text(json.dumps({"status": "running", "name": "demo"}))
    torch.manual_seed(0)
    student = run / "student.safetensors"
    save_student(TinyFaR("c"), student, {})
    job = folder / "job.yaml"
    for gadget in GADGETS:
        for key in KEYS:
            config = compose("train", ["logger=csv", "images=8", "data.batch_size=8"])
            OmegaConf.set_struct(config, False)
            OmegaConf.update(config, key, gadget, merge=False)
            text = OmegaConf.to_yaml(config)
            name = f"{gadget['_target_']} at {key}"
            yield f"train --config: {name}", lambda text=text: _with(job, text, "train", "--config", str(job))
            yield (
                f"evaluate RUN: {name}",
                lambda text=text: _with(run / "config.yaml", text, "evaluate", str(run)),
            )
    for override in ("teacher.convert=evil.convert", "teacher.convert=os.system", "name='${oc.env:HOME}'"):
        yield f"train {override}", lambda override=override: _run("train", override)
    yield from _students(student)
    yield from _graphs(folder)
    yield from _pickles(folder)


def _students(student: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    state, metadata = read_weights(student)
    description = json.loads(metadata["facedistill"])
    for name, backbone in {
        "class evil.Thin": {"class": "evil.Thin", "arguments": {}},
        "class os.system": {"class": "os.system", "arguments": {"command": "touch executed"}},
        "embedding_dim 10^8": {"class": "TinyFaR", "arguments": {"variant": "c", "embedding_dim": 10**8}},
        "embedding_dim -1": {"class": "TinyFaR", "arguments": {"variant": "c", "embedding_dim": -1}},
        "embedding_dim 65536": {"class": "TinyFaR", "arguments": {"variant": "c", "embedding_dim": 65536}},
    }.items():
        changed = {"facedistill": json.dumps({**description, "backbone": backbone})}
        path = student.with_name(f"{name.replace(' ', '-')}.safetensors")
        write_weights(path, state, changed)
        yield f"embed: {name}", lambda path=path: embed.Embedder(path)
    key = next(iter(state))
    for name, tensor in (
        ("NaN", torch.full_like(state[key], torch.nan)),
        ("int32", state[key].view(torch.int32)),
    ):
        path = student.with_name(f"{name}.safetensors")
        write_weights(path, {**state, key: tensor}, metadata)
        yield f"embed: {name} weights", lambda path=path: embed.Embedder(path)


def _graphs(folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Identity", ["v"], ["v2"])], "body",
        [info("i", TensorProto.INT64, []), info("c", TensorProto.BOOL, []), info("v", TensorProto.FLOAT, None)],
        [info("c2", TensorProto.BOOL, []), info("v2", TensorProto.FLOAT, None)],
    )  # fmt: skip
    nodes = [
        helper.make_node("Loop", ["", "go", "x"], ["y"], body=body),
        helper.make_node("ReduceMean", ["y"], ["e"], axes=[2, 3], keepdims=0),
    ]
    go = numpy_helper.from_array(np.array(True), "go")
    images, embeddings = info("x", TensorProto.FLOAT, ["N", 3, 8, 8]), info("e", TensorProto.FLOAT, ["N", 3])
    graph = helper.make_graph(nodes, "endless", [images], [embeddings], [go])
    path = folder / "endless.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)

    def endless() -> object:
        onnx_network._SECONDS_PER_FACE = 1  # 60 s for a user
        return onnx_network.convert({path.name: path})

    yield "teacher add: endless ONNX", endless


def _pickles(folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    text = b"X" + (1 << 20).to_bytes(4, "little") + b"a" * (1 << 20) + b"q\x000"
    for name in (b"_codecs\nencode", b"__builtin__\nbytearray", b"os\nsystem", b"evil\nThin"):
        path = folder / f"{name.split()[-1].decode()}.pkl"
        path.write_bytes(b"\x80\x02" + text + b"]" + 14_000 * (b"c" + name + b"\nh\x00\x85Ra") + b".")
        target = path.with_suffix(".safetensors")
        yield (
            f"teacher convert: {path.stem} x 14,000",
            lambda path=path, target=target: convert_pickled(path, target),
        )


def _with(path: Path, text: str, *arguments: str) -> object:
    path.write_text(text)
    return _run(*arguments)


def _run(*arguments: str) -> object:
    if facedistill(list(arguments)) == 2:
        raise UserError("refused")
    return None


def attack(name: str, act: Callable[[], object], seconds: int, gib: int) -> Outcome:
    """Runs one attack in a forked process."""
    begin = time.monotonic()
    child = os.fork()
    if child == 0:
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + (gib << 30),) * 2)
        code = 3
        with contextlib.suppress(BaseException), contextlib.redirect_stderr(io.StringIO()):
            try:
                act()
                code = 0
            except UserError:
                code = 2
        os._exit(code)
    while (found := os.wait4(child, os.WNOHANG))[0] == 0 and time.monotonic() - begin < seconds:
        time.sleep(0.01)
    is_hung = found[0] == 0
    if is_hung:
        os.kill(child, signal.SIGKILL)
        found = os.wait4(child, 0)
    status = {0: "accepted", 2: "refused"}.get(os.waitstatus_to_exitcode(found[1]), "CRASHED")
    if Path("executed").exists():
        Path("executed").unlink()
        status = "EXECUTED"
    return Outcome(name, "HUNG" if is_hung else status, time.monotonic() - begin, found[2].ru_maxrss / 1024)


def main() -> int:
    """Runs all attacks and prints what each did, and a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60, help="for one attack")
    parser.add_argument("--gib", type=int, default=4, help="of memory more than the script itself has")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        sys.path.insert(0, name)
        outcomes = []
        for title, act in commands(Path(name)):
            outcomes.append(one := attack(title, act, options.seconds, options.gib))
            print(f"{one.status:9} {one.seconds:6.1f} s {one.mib:7.0f} MiB  {one.name}", flush=True)
        os.chdir("/")
    wrong = [one for one in outcomes if one.status != "refused"]
    print(
        f"{len(outcomes)} attacks: {len(outcomes) - len(wrong)} refused; slowest {max(o.seconds for o in outcomes):.1f} s, "
        f"largest {max(o.mib for o in outcomes):.0f} MiB"
    )
    return 1 if any(one.status not in ("refused", "accepted") for one in wrong) else 0


if __name__ == "__main__":
    sys.exit(main())
