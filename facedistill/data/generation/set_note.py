"""`faces.json` of a generated set: from the first shard on it says what the set is, and at the end that it is complete."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from facedistill.data.formats.shards.note import bytes_id
from facedistill.data.formats.shards.writer import NOTE, note_text, shard_name
from facedistill.data.generation.plan import SetPlan, demand_same
from facedistill.data.generation.separation import measure_separation
from facedistill.data.generation.shard import CHOICE, choice_key, read_choice, receipt_name
from facedistill.errors import DataError
from facedistill.models.weights import read_weights
from facedistill.system.files import atomic_path
from facedistill.system.store import Store


def begin(store: Store, plan: SetPlan) -> dict[str, Any] | None:
    """Claims an empty folder for a set, or finds it claimed by the same one.

    Returns:
        What the note of a complete set says of how it was made; None while shards are missing.

    Raises:
        DataError: If something else is there.
    """
    foreign = f"{store.address}: is there and is no set of generated faces; name another folder or delete it"
    if not store.has(NOTE) and store.is_empty():
        note = {"unfinished": True, "names": [], "meta": plan.layout, "shards": {}}
        store.write(NOTE, note_text(note).encode())
        return None
    if not store.has(NOTE):  # asked again: another process may just have claimed the folder
        raise DataError(foreign)
    try:
        note = json.loads(store.read(NOTE))
        meta, unfinished = note["meta"], note.get("unfinished", False)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(foreign) from None
    demand_same(plan.layout if unfinished else plan.made_of, meta, store.address)
    return None if unfinished else dict(meta)


def missing_shards(store: Store, plan: SetPlan) -> list[int]:
    """The shards that are not complete yet."""
    names = store.names()
    return [shard for shard in range(plan.shards) if receipt_name(shard) not in names]


def finish(store: Store, plan: SetPlan, scratch: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Measures the complete set, writes its note, and removes what only the generation needed.

    The note holds `id`, a hash of every byte of the shards, which becomes part of the fingerprint of the set.

    Raises:
        DataError: If a shard belongs to another set, or was rendered with another choice of identities.
    """
    chosen = read_choice(store, scratch)
    embeddings, labels, shards = [], [], {}
    for shard in range(plan.shards):
        name = receipt_name(shard)
        copy = scratch / f"read-{name}"  # another process may have its own receipt here under its name
        with atomic_path(copy) as local:
            store.download(name, local)
            state, metadata = read_weights(local)
        copy.unlink(missing_ok=True)
        said = json.loads(metadata.get("shard", "{}"))
        where = store.where(shard_name(shard))
        demand_same(plan.layout, said.get("made_of"), where)
        if said["choice"] != choice_key(chosen):
            raise DataError(
                f"{where}: was rendered with another choice of identities than {CHOICE}; delete it and {name}, and render "
                "this shard again"
            )
        embeddings.append(state["embeddings"])
        labels.append(state["labels"])
        shards[shard_name(shard)] = {"images": said["images"], "sha256": said["sha256"]}
    _, dense = torch.cat(labels).unique(return_inverse=True)
    separation = measure_separation(torch.cat(embeddings), dense)
    settings = plan.settings
    meta = {**plan.layout, **asdict(separation), "replaced_identities": chosen.replaced, **facts}
    note = {
        "images": plan.images,
        "identities": settings.identities,
        "id": bytes_id(shards),
        "names": [f"synthetic-{settings.seed}-{k}" for k in range(settings.identities)],
        "meta": meta,
        "shards": shards,
    }
    store.write(NOTE, note_text(note).encode())
    for name in (CHOICE, *map(receipt_name, range(plan.shards))):
        store.remove(name)
    return meta
