"""Renders one shard of a generated set, in parts that survive an interruption."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import simplejpeg
import torch
from torch import Tensor, nn

from facedistill.data.formats.shards.writer import shard_name, write_shard
from facedistill.data.generation.plan import SetPlan
from facedistill.models.fingerprint import tensors_fingerprint
from facedistill.models.synthetic_identities import (
    ChosenIdentities,
    Generator,
    choose_identities,
    render_identity_images,
)
from facedistill.models.weights import read_weights, write_weights
from facedistill.system.files import atomic_path
from facedistill.system.locks import one_at_a_time
from facedistill.system.progress import ProgressBar
from facedistill.system.store import Store

CHOICE = "identities.safetensors"
"""The file of the chosen identities, which the first process writes and all others use."""
_PART = 256  # images between two points from which an interrupted generation continues
_BATCH = 32  # batches start again in each part, so that rounding does not depend on what else is rendered


def receipt_name(shard: int) -> str:
    """The file that says that a shard is complete; it holds embeddings for the measurements of the whole set."""
    return f"{shard:06d}.safetensors"


def make_shard(
    generator: Generator,
    teacher: nn.Module,
    chosen: ChosenIdentities,
    plan: SetPlan,
    shard: int,
    store: Store,
    scratch: Path,
    advance: Callable[[int], object],
) -> None:
    """Renders one shard and puts it and its receipt into the store; does nothing if another process has done so.

    Args:
        generator: A frozen face generator.
        teacher: A frozen teacher on the same device.
        chosen: The identities.
        plan: Of the set.
        shard: Which one.
        store: Where the set is written.
        scratch: Local folder for unfinished work on this very plan.
        advance: Called with the number of images just rendered.
    """
    with one_at_a_time(scratch / f"{shard:06d}.lock"):
        if receipt_name(shard) in store.names():
            return
        batches = plan.images_of(shard).split(_PART)
        parts = [scratch / f"{shard:06d}-{number:04d}.safetensors" for number in range(len(batches))]
        for path, batch in zip(parts, batches, strict=True):
            if not path.is_file():
                _render_part(generator, teacher, chosen, plan, batch, path, advance)
        tar, receipt = scratch / shard_name(shard), scratch / receipt_name(shard)
        with atomic_path(tar) as unfinished:
            items = _items(parts, batches, plan.images_per_identity)
            first = shard * plan.per_shard
            facts = write_shard(unfinished, items, plan.settings.identities, first=first)
        embeddings = torch.cat([read_weights(path)[0]["embeddings"] for path in parts])
        images = plan.images_of(shard)
        measured = plan.measured(images)
        said = {**facts, "choice": choice_key(chosen), "made_of": plan.layout}
        kept = {"embeddings": embeddings[measured], "labels": images[measured] // plan.images_per_identity}
        write_weights(receipt, kept, {"shard": json.dumps(said)})
        store.upload(tar.name, tar)
        store.upload(receipt.name, receipt)
        for path in (*parts, tar, receipt):
            path.unlink(missing_ok=True)


def choose(
    generator: Generator, teacher: nn.Module, plan: SetPlan, store: Store, scratch: Path, *, quiet: bool
) -> ChosenIdentities:
    """The identities that the store names; chosen and written there first if it names none.

    Of several processes with one `scratch`, one chooses and the others wait.
    """
    with one_at_a_time(scratch / f"{CHOICE}.lock"):
        if CHOICE not in store.names():
            path = scratch / f"chosen-{CHOICE}"
            if not path.is_file():
                count = plan.settings.identities
                with ProgressBar("choosing identities", count, "identities", quiet=quiet) as progress:
                    chosen = choose_identities(generator, teacher, plan.settings, progress.advance)
                write_weights(path, {"candidates": chosen.candidates, "embeddings": chosen.embeddings}, {})
            if CHOICE not in store.names():
                store.upload(CHOICE, path)
            path.unlink(missing_ok=True)
    return read_choice(store, scratch)


def read_choice(store: Store, scratch: Path) -> ChosenIdentities:
    """The identities that the store names."""
    with atomic_path(scratch / CHOICE) as local:
        store.download(CHOICE, local)
        kept = read_weights(local)[0]
    (scratch / CHOICE).unlink(missing_ok=True)
    return ChosenIdentities(kept["candidates"], kept["embeddings"])


def choice_key(chosen: ChosenIdentities) -> str:
    """A hash of which candidate each identity is."""
    return tensors_fingerprint({"candidates": chosen.candidates})[:16]


def _render_part(
    generator: Generator,
    teacher: nn.Module,
    chosen: ChosenIdentities,
    plan: SetPlan,
    images: Tensor,
    path: Path,
    advance: Callable[[int], object],
) -> None:
    made = []
    for some in images.split(_BATCH):
        k, j = some // plan.images_per_identity, some % plan.images_per_identity
        made.append(render_identity_images(generator, teacher, chosen, k, j, plan.settings))
        advance(len(some))
    faces = torch.cat([one.faces for one in made]).permute(0, 2, 3, 1).numpy()
    files = [_jpeg(face, plan.quality) for face in faces]
    state = {
        "files": torch.from_numpy(np.frombuffer(b"".join(files), np.uint8).copy()),
        "sizes": torch.tensor([len(file) for file in files]),
        "embeddings": torch.cat([one.embeddings for one in made]),
    }
    write_weights(path, state, {})


def _jpeg(face: np.ndarray, quality: int) -> bytes:
    data: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(face), quality=quality, colorspace="RGB", colorsubsampling="444"
    )
    return data


def _items(
    paths: list[Path], batches: tuple[Tensor, ...], images_per_identity: int
) -> Iterator[tuple[bytes, int]]:
    for path, batch in zip(paths, batches, strict=True):
        state = read_weights(path)[0]
        data, end = state["files"].numpy().tobytes(), 0
        for number, size in zip(batch.tolist(), state["sizes"].tolist(), strict=True):
            yield data[end : end + size], number // images_per_identity
            end += size
