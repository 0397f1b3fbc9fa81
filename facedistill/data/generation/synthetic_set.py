"""Synthetic identities rendered once to tar shards, in a cache or where the user wants them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch
from torch import nn

from facedistill.data.formats.shards.writer import NOTE, write_shards
from facedistill.data.generation.separation import Separation, measure_separation
from facedistill.errors import ConfigError, DataError, reason
from facedistill.models.fingerprint import network_fingerprint
from facedistill.models.synthetic_identities import (
    ChosenIdentities,
    Generator,
    SyntheticIdentities,
    choose_identities,
    render_identity_images,
)
from facedistill.models.weights import read_weights, write_weights
from facedistill.system.locks import one_at_a_time
from facedistill.system.progress import ProgressBar

_VERSION = 1
_PART = 256  # images between two points from which an interrupted generation goes on


@dataclass(frozen=True)
class MadeSet:
    """A rendered set.

    Attributes:
        folder: Of the shards.
        meta: What the set's note says of how it was made and how well the teacher separates it.
        is_new: Whether it was rendered now, and not found.
    """

    folder: Path
    meta: Mapping[str, Any]
    is_new: bool


def synthetic_set(
    generator: Generator,
    teacher: nn.Module,
    cache: Path,
    settings: SyntheticIdentities,
    images_per_identity: int,
    *,
    quiet: bool = False,
) -> Path:
    """The folder of shards of these identities in the cache, rendered first where it is not there yet.

    Args:
        generator: A frozen face generator, also an `nn.Module`.
        teacher: A frozen teacher on the same device.
        cache: Folder of the set, whose name carries a hash of all that decides its content.
        settings: What to make.
        images_per_identity: M; the set holds K·M images.
        quiet: Shows no progress.

    Raises:
        ConfigError: If a setting is wrong or cannot be met.
        UserError: If the set cannot be written.
    """
    parts = describe(generator, teacher, settings, images_per_identity)
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache / f"synthetic-{settings.identities}x{images_per_identity}-{key}"
    if not folder.is_dir():
        make_synthetic_set(generator, teacher, folder, settings, images_per_identity, quiet=quiet)
    return folder


def describe(
    generator: Generator,
    teacher: nn.Module,
    settings: SyntheticIdentities,
    images_per_identity: int,
    quality: int = 95,
) -> dict[str, Any]:
    """All that decides a set's content, as JSON."""
    for name, value, most in (
        ("images_per_identity", images_per_identity, 1 << 20),
        ("quality", quality, 100),
    ):
        if not isinstance(value, int) or not 1 <= value <= most:
            raise ConfigError(f"{name}: must be a whole number within 1 and {most}, got {value}")
    assert isinstance(generator, nn.Module)
    return {
        "version": _VERSION,
        "generator": network_fingerprint(generator),
        "teacher": network_fingerprint(teacher),
        "synthetic": asdict(settings),
        "images_per_identity": images_per_identity,
        "quality": quality,
    }


def make_synthetic_set(
    generator: Generator,
    teacher: nn.Module,
    folder: Path,
    settings: SyntheticIdentities,
    images_per_identity: int,
    *,
    quality: int = 95,
    per_shard: int = 10_000,
    facts: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> MadeSet:
    """Renders K·M images to shards in `folder`, identity by identity, JPEG without chroma subsampling.

    Finished parts are in a hidden folder next to it until the set is complete, so that an interrupted generation
    goes on; two processes that ask at once do the work once. The folder exists only when the set is whole.

    Args:
        generator: A frozen face generator, also an `nn.Module`.
        teacher: A frozen teacher on the same device.
        folder: Where the set shall be.
        settings: What to make.
        images_per_identity: M.
        quality: Of the JPEG files, 1..100.
        per_shard: Most images of one shard.
        facts: What else the set's note shall say (names, licences).
        quiet: Shows no progress.

    Raises:
        ConfigError: If a setting is wrong or cannot be met.
        DataError: If `folder` holds something else than this very set.
        UserError: If it cannot be written.
    """
    if not isinstance(per_shard, int) or per_shard < 1:
        raise ConfigError(f"per_shard: must be a whole number from 1, got {per_shard}")
    made_of = describe(generator, teacher, settings, images_per_identity, quality)
    work = folder.with_name(f".{folder.name}.parts")
    if folder.exists():
        return MadeSet(folder, _same_set(folder, made_of), is_new=False)
    with _locked(folder):
        if folder.exists():  # another process was faster
            return MadeSet(folder, _same_set(folder, made_of), is_new=False)
        _open_work(work, made_of, folder)
        chosen = _chosen(generator, teacher, settings, work, quiet)
        paths = _render_parts(generator, teacher, chosen, settings, images_per_identity, quality, work, quiet)
        separation = _separation(paths, images_per_identity)
        meta = {
            **made_of,
            **asdict(separation),
            "replaced_identities": chosen.replaced,
            **(facts or {}),
        }
        names = [f"synthetic-{settings.seed}-{k}" for k in range(settings.identities)]
        write_shards(folder, _items(paths, images_per_identity), names, per_shard, meta)
        shutil.rmtree(work, ignore_errors=True)
    return MadeSet(folder, meta, is_new=True)


def _same_set(folder: Path, made_of: Mapping[str, Any]) -> dict[str, Any]:
    try:
        meta = json.loads((folder / NOTE).read_text(encoding="utf-8"))["meta"]
        there = {**meta, **meta["synthetic"]}
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{folder}: is there and is no set of generated faces; name another folder") from None
    _demand_same({**made_of, **made_of["synthetic"]}, there, folder)
    return dict(meta)


def _demand_same(wanted: Mapping[str, Any], there: Mapping[str, Any], folder: Path) -> None:
    keys = [key for key, value in wanted.items() if key != "synthetic" and there.get(key) != value]
    if keys:
        differs = ", ".join(
            f"{key} {_short(there.get(key))} instead of {_short(wanted[key])}" for key in keys
        )
        raise DataError(f"{folder}: holds another set ({differs}); name another folder or delete it")


def _short(value: object) -> str:
    return value[:8] if isinstance(value, str) else str(value)


def _open_work(work: Path, made_of: Mapping[str, Any], folder: Path) -> None:
    """Makes the folder of parts, or finds one that was begun with the same settings."""
    note = work / "set.json"
    try:
        if note.is_file():
            begun = json.loads(note.read_text(encoding="utf-8"))
            _demand_same({**made_of, **made_of["synthetic"]}, {**begun, **begun["synthetic"]}, work)
            return
        work.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps(made_of), encoding="utf-8")
    except OSError as error:
        raise _unwritable(folder, error) from error
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{work}: is damaged; delete it, its images will be rendered again") from None


def _chosen(
    generator: Generator, teacher: nn.Module, settings: SyntheticIdentities, work: Path, quiet: bool
) -> ChosenIdentities:
    path = work / "identities.safetensors"
    if path.is_file():
        kept = read_weights(path)[0]
        return ChosenIdentities(kept["candidates"], kept["embeddings"])
    with ProgressBar("choosing identities", settings.identities, "identities", quiet=quiet) as progress:
        chosen = choose_identities(generator, teacher, settings, progress.advance)
    write_weights(path, {"candidates": chosen.candidates, "embeddings": chosen.embeddings}, {})
    return chosen


def _render_parts(
    generator: Generator,
    teacher: nn.Module,
    chosen: ChosenIdentities,
    settings: SyntheticIdentities,
    images_per_identity: int,
    quality: int,
    work: Path,
    quiet: bool,
) -> list[Path]:
    """Renders what is missing; part p holds images p·256 … of the set."""
    batches = torch.arange(settings.identities * images_per_identity).split(_PART)
    paths = [work / f"{number:08d}.safetensors" for number in range(len(batches))]
    missing = [(path, batch) for path, batch in zip(paths, batches, strict=True) if not path.is_file()]
    with ProgressBar("rendering", sum(len(batch) for _, batch in missing), quiet=quiet) as progress:
        for path, batch in missing:
            made = []
            for some in batch.split(32):
                k, j = some // images_per_identity, some % images_per_identity
                made.append(render_identity_images(generator, teacher, chosen, k, j, settings))
                progress.advance(len(some))
            faces = torch.cat([one.faces for one in made])
            files = [_jpeg(face, quality) for face in faces.permute(0, 2, 3, 1).numpy()]
            state = {
                "files": torch.from_numpy(np.frombuffer(b"".join(files), np.uint8).copy()),
                "sizes": torch.tensor([len(file) for file in files]),
                "embeddings": torch.cat([one.embeddings for one in made]),
                "spread": torch.cat([one.spread for one in made]),
                "teacher_cosine": torch.cat([one.teacher_cosine for one in made]),
            }
            write_weights(path, state, {})
    return paths


def _jpeg(face: np.ndarray, quality: int) -> bytes:
    data: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(face), quality=quality, colorspace="RGB", colorsubsampling="444"
    )
    return data


def _items(paths: list[Path], images_per_identity: int) -> Iterator[tuple[bytes, int]]:
    number = 0
    for path in paths:
        state = read_weights(path)[0]
        data, end = state["files"].numpy().tobytes(), 0
        for size in state["sizes"].tolist():
            yield data[end : end + size], number // images_per_identity
            number, end = number + 1, end + size


def _separation(paths: list[Path], images_per_identity: int) -> Separation:
    parts = [read_weights(path)[0] for path in paths]
    embeddings = torch.cat([part["embeddings"] for part in parts])
    labels = torch.arange(len(embeddings)) // images_per_identity
    return measure_separation(embeddings, labels)


def _unwritable(folder: Path, error: OSError) -> DataError:
    return DataError(f"{folder}: cannot be written ({reason(error)}); free or change the place")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time makes `folder`; the others wait."""
    path = folder.with_name(f".{folder.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise _unwritable(folder, error) from error
    with one_at_a_time(path):
        yield
        path.unlink(missing_ok=True)
