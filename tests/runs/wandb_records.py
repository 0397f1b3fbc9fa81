"""Reads the records of an offline wandb run: what `wandb sync` would send.

The file is a log of LevelDB's kind behind a header of seven bytes: blocks of 32 KiB, records in one or more pieces, each
with a checksum, a length and a kind (1 whole; 2 first, 3 middle, 4 last piece).
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

BLOCK, HEAD = 32768, 7


def records(path: Path) -> Iterator[Any]:
    """The records of a .wandb file, in order."""
    data, at, pieces = path.read_bytes(), HEAD, b""
    assert data[:4] == b":W&B"
    while at + HEAD <= len(data):
        if BLOCK - at % BLOCK < HEAD:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + HEAD])
        if kind == 0:
            break
        pieces = (
            data[at + HEAD : at + HEAD + length]
            if kind in (1, 2)
            else pieces + data[at + HEAD : at + HEAD + length]
        )
        at += HEAD + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(pieces)
            yield record


def read_finished(folder: Path, within_s: float = 60.0) -> dict[str, Any]:
    """`read_offline` once its last record is written, which wandb's own process does a moment after `finish`."""
    until = time.monotonic() + within_s
    while (found := read_offline(folder))["exit"] is None and time.monotonic() < until:
        time.sleep(0.2)
    return found


def read_offline(folder: Path) -> dict[str, Any]:
    """What an offline run in `folder`/wandb holds: run, config, history by key, summary, files."""
    (path,) = (folder / "wandb").glob("offline-run-*/*.wandb")
    found: dict[str, Any] = {"config": {}, "history": {}, "summary": {}, "files": set(), "exit": None}
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found["run"] = record.run
            found["config"] |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        elif kind == "history":
            for item in record.history.item:
                key = item.key or "/".join(item.nested_key)
                found["history"].setdefault(key, []).append(json.loads(item.value_json))
        elif kind == "summary":
            for item in record.summary.update:
                found["summary"][item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
        elif kind == "files":
            found["files"] |= {file.path for file in record.files.files}
        elif kind == "exit":
            found["exit"] = record.exit.exit_code
    found["media"] = {
        str(p.relative_to(path.parent / "files")) for p in (path.parent / "files").rglob("*.png")
    }
    return found
