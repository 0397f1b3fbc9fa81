"""Files of weights: students, ONNX, pickles."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import torch
from attempts import Attempts, run

import facedistill as fd
from facedistill.assets.pickle.convert import convert_pickled
from facedistill.export import embed
from facedistill.models.teachers import onnx_network
from facedistill.models.weights import read_weights, write_weights
from tests.helpers.onnx_graphs import endless_graph


def students(student: Path) -> Attempts:
    """Students whose description or weights are wrong."""
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
        yield f"export: {name}", lambda path=path: run("export", str(path), "--format", "onnx")
        yield f"evaluate: {name}", lambda path=path: run("evaluate", str(path))
    key = next(iter(state))
    for name, tensor in (
        ("NaN", torch.full_like(state[key], torch.nan)),
        ("int32", state[key].view(torch.int32)),
    ):
        path = student.with_name(f"{name}.safetensors")
        write_weights(path, {**state, key: tensor}, metadata)
        yield f"embed: {name} weights", lambda path=path: embed.Embedder(path)


def graphs(folder: Path) -> Attempts:
    """An ONNX graph with a loop that never ends."""
    path = folder / "endless.onnx"
    onnx.save(endless_graph(), path)

    def endless() -> object:
        onnx_network._SECONDS_PER_FACE = 1  # 60 s for a user
        return onnx_network.convert({path.name: path})

    yield "teacher add: endless ONNX", endless


def pickles(folder: Path) -> Attempts:
    """Pickles that call functions, and build more than the file holds."""
    text = b"X" + (1 << 20).to_bytes(4, "little") + b"a" * (1 << 20) + b"q\x000"
    for name in (b"_codecs\nencode", b"__builtin__\nbytearray", b"os\nsystem", b"evil\nThin"):
        path = folder / f"{name.split()[-1].decode()}.pkl"
        path.write_bytes(b"\x80\x02" + text + b"]" + 14_000 * (b"c" + name + b"\nh\x00\x85Ra") + b".")
        target = path.with_suffix(".safetensors")
        yield (
            f"teacher convert: {path.stem} x 14,000",
            lambda path=path, target=target: convert_pickled(path, target),
        )
