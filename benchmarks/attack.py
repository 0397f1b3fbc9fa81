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
import struct
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from omegaconf import OmegaConf
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import facedistill as fd
from facedistill.assets.pickle.convert import convert_pickled
from facedistill.cli.main import main as facedistill
from facedistill.config import compose
from facedistill.data.alignment.photograph import read_photograph
from facedistill.errors import UserError
from facedistill.evaluation.protocols.archives import TarArchive
from facedistill.evaluation.protocols.bin_file import load_bin
from facedistill.export import embed, save_student
from facedistill.images import decode_face
from facedistill.models.backbones import TinyFaR
from facedistill.models.teachers import onnx_network
from facedistill.models.weights import read_weights, write_weights
from facedistill.runs import evaluate, train
from facedistill.runs.checkpointing.files import newest_intact
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


CHAIN = tuple(zip("abcdefghijk", "bcdefghijkl", strict=True))
HEADER = b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01"  # a JPEG of 65,535 pixels


@dataclass(frozen=True)
class Outcome:
    """What one attack did."""

    name: str
    status: str  # refused, accepted, EXECUTED, HUNG or CRASHED
    seconds: float
    mib: float  # resident, with what the script itself holds


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
            if KEYS.index(key) % 2:
                yield (
                    f"train --config: {name}",
                    lambda text=text: _with(job, text, "train", "--config", str(job)),
                )
            else:
                yield (
                    f"evaluate RUN: {name}",
                    lambda text=text: _with(run / "config.yaml", text, "evaluate", str(run)),
                )
    for text in (
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{b}: &{b} [{', '.join(9 * ['*' + a])}]\n" for a, b in CHAIN),
        "a: xxxxxxxxx\n"
        + "".join(f"{b}: '{9 * ('${' + a + '}')}'\n" for a, b in CHAIN)
        + "name: '${l}'\nmethod: {}\n",
        "hydra: {run: {dir: .}, searchpath: ['file://.']}\ndefaults: [evil]\nmethod: {_target_: evil.Thin}\n",
        "method: {_target_: facedistill.methods.kd.KD, loss: {_target_: os.system, _partial_: true, command: touch executed}}",
    ):
        name = text[:24].replace("\n", " ")
        yield f"train --config: {name}", lambda text=text: _with(job, text, "train", "--config", str(job))
        yield (
            f"evaluate RUN: {name}",
            lambda text=text: _with(run / "config.yaml", text, "evaluate", str(run)),
        )
    for override in (
        "teacher.convert=evil.convert", "teacher.convert=os.system", "name='${oc.env:HOME}'",
        "hydra.searchpath=[file://searched]", "+hydra.run.dir=executed",
    ):  # fmt: skip
        yield f"train {override}", lambda override=override: _run("train", override)
    yield from _students(student)
    yield from _graphs(folder)
    yield from _pickles(folder)
    yield from _bombs(folder, student)
    yield from _run_folders(folder)


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
        yield f"fd.load: {name}", lambda path=path: fd.load(str(path))
        yield f"export: {name}", lambda path=path: _run("export", str(path), "--format", "onnx")
        yield f"evaluate: {name}", lambda path=path: _run("evaluate", str(path))
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


def _bombs(folder: Path, student: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Small files that claim, or unpack to, far more than they hold."""
    face = b"\x89PNG" + bytes(65_532)
    rows, value = pa.nulls(10**7, pa.binary()), pa.array([face] * 4_000, pa.binary())
    for name, column, options in (
        ("10^7 rows", rows, {"compression": "zstd"}),
        ("a dictionary of one face", value, {"compression": "zstd"}),
        ("zeros", value, {"compression": "brotli", "use_dictionary": False}),
    ):
        path = folder / f"{len(name)}.parquet"
        pq.write_table(pa.table({"image": column}), path, **options)
        yield (
            f"data info: Parquet, {name}, {path.stat().st_size} bytes",
            lambda path=path: _run("data", "info", str(path)),
        )
    path, table = folder / "zeros.arrow", pa.table({"image": value})
    with pa.ipc.new_stream(
        str(path), table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")
    ) as stream:
        stream.write_table(table)
    yield (
        f"data info: compressed Arrow, {path.stat().st_size} bytes",
        lambda path=path: _run("data", "info", str(path)),
    )
    del table, value, rows
    gallery = folder / "gallery.npz"
    with zipfile.ZipFile(gallery, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("embeddings.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(
                member, {"descr": "<f4", "fortran_order": False, "shape": (10**6, 512)}
            )
            for _ in range(1024):
                member.write(bytes(1 << 20))
        archive.writestr("files.npy", b"")
    yield f"search: .npz gallery, {gallery.stat().st_size} bytes", lambda: fd.Gallery.load(gallery)
    for name, shape in (("10^15 values", (10**12, 1000)), ("10^9 values", (10**6, 1000))):
        path = folder / f"{shape[0]}.npz"
        with zipfile.ZipFile(path, "w") as archive, archive.open("files.npy", "w") as member:
            np.lib.format.write_array_header_1_0(
                member, {"descr": "<f4", "fortran_order": False, "shape": shape}
            )
        yield f"search: .npz gallery that claims {name}", lambda path=path: fd.Gallery.load(path)
    images = (
        b"]q\x00("
        + b"c_codecs\nencode\n"
        + b"X"
        + (1 << 20).to_bytes(4, "little")
        + b"a" * (1 << 20)
        + b"q\x01"
    )
    again = 14_000 * b"c_codecs\nencode\nh\x01X\x06\x00\x00\x00latin1\x86R"
    for name, content in (
        ("encoded 14,000 times", images + b"X\x06\x00\x00\x00latin1\x86R" + again + b"e"),
        (
            "named 10^6 times",
            b"](C\x01aB"
            + (1 << 20).to_bytes(4, "little")
            + bytes(1 << 20)
            + b"q\x01"
            + 10**6 * b"h\x01"
            + b"e",
        ),
        ("of 2^40 bytes", b"](\x8e" + (1 << 40).to_bytes(8, "little") + b"e"),
    ):
        path = folder / f"{name.replace(' ', '-')}.bin"
        path.write_bytes(b"\x80\x04" + content + b"](" + 500_000 * b"\x88" + b"e\x86.")
        yield f"evaluate: .bin with an image {name}", lambda path=path: load_bin(path)
    for name, size in (("huge.tar", 1 << 62), ("json.tar", 1 << 20)):
        head = tarfile.TarInfo("a/00.json" if size < 1 << 30 else "a/00.png")
        head.size = size
        (folder / name).write_bytes(head.tobuf(tarfile.GNU_FORMAT) + b"[" * (1 << 20) + bytes(1024))
        yield f"data info: {name}", lambda name=name: _run("data", "info", name)
        if size > 1 << 30:
            yield f"evaluate: {name}", lambda name=name: TarArchive(folder / name).names()
    names = io.BytesIO()
    with tarfile.open(fileobj=names, mode="w") as tar:
        for number in range(2_000):
            label = json.dumps({"identity": "n" * (10**6 if number == 0 else 1) + str(number)}).encode()
            for ending, content in (("png", face[:100]), ("json", label)):
                head = tarfile.TarInfo(f"{number}.{ending}")
                head.size = len(content)
                tar.addfile(head, io.BytesIO(content))
    (folder / "names.tar").write_bytes(names.getvalue())
    yield "data info: shard with a name of 10^6 characters", lambda: _run("data", "info", "names.tar")
    (folder / "long.rec").write_bytes(struct.pack("<II", 0xCED7230A, (1 << 29) - 1) + bytes(64))
    yield "data info: RecordIO of a record of 2^29 bytes", lambda: _run("data", "info", "long.rec")
    parts = b"".join(struct.pack("<II", 0xCED7230A, flag << 29) for flag in [1, *[2] * 500_000])
    (folder / "parts.rec").write_bytes(parts)
    yield "data info: RecordIO of a record without an end", lambda: _run("data", "info", "parts.rec")
    wide = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(wide, "PNG")
    for name, data in (("bomb.png", wide.getvalue()), ("bomb.jpg", HEADER + b"\xff\xd9")):
        (folder / name).write_bytes(data)
        yield f"data: {name} as a face", lambda data=data, name=name: decode_face(data, name, None)
        yield f"verify: {name} as a photograph", lambda name=name: _photograph(folder / name)
    for name, size in (("2^62", 1 << 62), ("10^8", 10**8)):
        path = folder / f"{len(name)}.safetensors"
        path.write_bytes(size.to_bytes(8, "little") + b"{")
        yield f"fd.load: safetensors with a header of {name} bytes", lambda path=path: fd.load(str(path))
    with zipfile.ZipFile(folder / "last.ckpt", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(20):
            archive.writestr(f"archive/data/{number}", bytes(100 << 20))
    yield "train: a checkpoint that unpacks to 2 GB", lambda: newest_intact(folder / "last.ckpt")


def _run_folders(folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Links, pipes, deep files and markup in a foreign run folder."""
    secret = folder / "secret"
    secret.write_text("secret")

    def run(name: str, change: Callable[[Path], object]) -> str:
        path = folder / f"{name}-12345678"
        path.mkdir()
        for file, content in {
            "config.yaml": "name: demo\nbackbone: {_target_: facedistill.models.backbones.TinyFaR, embedding_dim: 512}\n",
            "run.json": json.dumps({"status": "finished", "name": "demo"}),
            "student.safetensors": "", "student.onnx": "",
        }.items():  # fmt: skip
            (path / file).write_text(content)
        change(path)
        return str(path)

    for name in (
        "config.yaml",
        "run.json",
        "results.json",
        "README.md",
        "report.html",
        "run.lock",
        "figures",
        "scores",
    ):
        path = run(
            name,
            lambda path, name=name: ((path / name).unlink(missing_ok=True), (path / name).symlink_to(secret)),
        )
        for command in (["report"], ["evaluate"], ["push", "--repo=a/b", "--dry"]):
            yield (
                f"{command[0]} RUN: {name} is a link",
                lambda c=command, path=path: _unchanged(secret, *c, path),
            )
    path = run("pipe", lambda path: os.mkfifo(path / "run.lock"))
    yield "report RUN: run.lock is a pipe", lambda path=path: _run("report", path)
    path = run("deep", lambda path: (path / "results.json").write_text("[" * 10**6))
    yield "report RUN: results.json of 10^6 brackets", lambda path=path: _run("report", path)
    for repo in ("../..", "a/..", "/etc/passwd"):
        yield (
            f"push --repo {repo}",
            lambda repo=repo, path=path: _run("push", path, f"--repo={repo}", "--dry"),
        )
    mark = "512 <script>alert(1)</script> [x](y://z)"
    config = {
        "name": mark,
        "backbone": {"_target_": mark, "embedding_dim": mark},
        "method": {"_target_": mark},
    }
    path = run("markup", lambda path: (path / "config.yaml").write_text(json.dumps(config)))
    yield "report RUN: markup in config.yaml", lambda path=path: _escaped(Path(path))


def _unchanged(secret: Path, *arguments: str) -> object:
    outcome = _run(*arguments) if secret.read_text() == "secret" else None
    if secret.read_text() != "secret":
        Path("executed").touch()
    return outcome


def _escaped(run: Path) -> object:
    with contextlib.redirect_stdout(io.StringIO()):
        _run("report", str(run))
    for name in ("README.md", "report.html"):
        text = (run / name).read_text()
        if "<script>alert" in text or (name == "README.md" and "[x](" in text):
            Path("executed").touch()
    raise UserError("markup stayed text")


def _photograph(path: Path) -> object:
    if isinstance(found := read_photograph(path), str):
        raise UserError(found)
    return found


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
