"""Synthetic identities rendered once to tar shards: in a cache, where the user wants them, or by many machines."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from facedistill.assets import cache_dir
from facedistill.data.generation.plan import SetPlan, describe
from facedistill.data.generation.set_note import begin, finish, missing_shards
from facedistill.data.generation.shard import choose, make_shard, receipt_name
from facedistill.errors import ConfigError, DataError, os_errors_as
from facedistill.models.synthetic_identities import Generator, SyntheticIdentities
from facedistill.system.files import flush
from facedistill.system.locks import one_at_a_time
from facedistill.system.progress import ProgressBar
from facedistill.system.store import Store, is_remote


@dataclass(frozen=True)
class MadeSet:
    """A rendered set.

    Attributes:
        folder: Of the shards: a local path, or an address.
        meta: What the set's note says of how it was made and how well the teacher separates it; empty if shards are
            missing.
        is_new: Whether some of it was rendered now.
        missing: Shards that other processes have not finished yet.
    """

    folder: Path | str
    meta: Mapping[str, Any]
    is_new: bool
    missing: int = 0


def synthetic_set(
    generator: Generator,
    teacher: nn.Module,
    cache: Path,
    settings: SyntheticIdentities,
    images_per_identity: int,
) -> Path:
    """The folder of shards of these identities in the cache, rendered first where it is not there yet.

    Args:
        generator: A frozen face generator, also an `nn.Module`.
        teacher: A frozen teacher on the same device.
        cache: Folder of the set, whose name carries a hash of all that decides its content.
        settings: What to make.
        images_per_identity: M; the set holds K·M images.

    Raises:
        ConfigError: If a setting is wrong or cannot be met.
        UserError: If the set cannot be written.
    """
    parts = describe(generator, teacher, settings, images_per_identity)
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache / f"synthetic-{settings.identities}x{images_per_identity}-{key}"
    if not folder.is_dir():
        make_synthetic_set(generator, teacher, folder, settings, images_per_identity)
    return folder


def make_synthetic_set(
    generator: Generator,
    teacher: nn.Module,
    folder: Path | str,
    settings: SyntheticIdentities,
    images_per_identity: int,
    *,
    quality: int = 95,
    per_shard: int = 10_000,
    share: tuple[int, int] | None = None,
    facts: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> MadeSet:
    """Renders K·M images to shards in `folder`, identity by identity, JPEG without chroma subsampling.

    The bytes of a shard are a function of the settings and its number. Without `share`, a local folder exists only when
    the set is complete; two processes that ask at once do the work once. With `share`, and at an address, shards appear
    one by one, and the process that finds all of them completes the note; until then no reader accepts the folder.
    An interrupted generation is continued in either case, and a shard that is rendered twice has the same bytes.

    Args:
        generator: A frozen face generator, also an `nn.Module`.
        teacher: A frozen teacher on the same device.
        folder: Where the set shall be: a local path, or an address for fsspec.
        settings: What to make.
        images_per_identity: M.
        quality: Of the JPEG files, 1..100.
        per_shard: Most images of one shard.
        share: (i, n): render shards i, i + n, i + 2n, … only; n processes make the set together.
        facts: What else the set's note shall say (names, licences).
        quiet: Shows no progress.

    Raises:
        ConfigError: If a setting is wrong or cannot be met.
        DataError: If `folder` holds something else than this very set, or a shard of another one.
        UserError: If it cannot be written.
    """
    index, count = share or (0, 1)
    if not 0 <= index < count:
        raise ConfigError(f"share {index}/{count}: must be i/n with 0 <= i < n")
    made_of = describe(generator, teacher, settings, images_per_identity, quality)
    plan = SetPlan(made_of, settings, images_per_identity, quality, per_shard)
    work = _Work(generator, teacher, plan, range(index, plan.shards, count), facts or {}, quiet)
    if share is not None or is_remote(folder):
        scratch = cache_dir() / "generation" / plan.key
        return work.fill(Store(folder), scratch, folder)
    folder = Path(folder)
    if folder.exists():
        return work.fill(Store(folder), cache_dir() / "generation" / plan.key, folder)
    with _locked(folder):
        if folder.exists():  # another process was faster
            return work.fill(Store(folder), cache_dir() / "generation" / plan.key, folder)
        stage = folder.with_name(f".{folder.name}.parts")
        made = work.fill(Store(stage), stage / "parts", folder)
        with os_errors_as(DataError, f"{folder}: cannot be written", "free or change the place"):
            shutil.rmtree(stage / "parts", ignore_errors=True)
            os.rename(stage, folder)
            flush(folder.parent)
    return made


@dataclass(frozen=True)
class _Work:
    """What one process has to render of a set."""

    generator: Generator
    teacher: nn.Module
    plan: SetPlan
    shards: range
    facts: Mapping[str, Any]
    quiet: bool

    def fill(self, store: Store, scratch: Path, folder: Path | str) -> MadeSet:
        """Renders what is missing of this process's shards, and completes the set if no shard is missing then."""
        meta = begin(store, self.plan)
        if meta is not None:
            return MadeSet(folder, meta, is_new=False)
        with os_errors_as(DataError, f"{folder}: cannot be written", "free or change the place"):
            scratch.mkdir(parents=True, exist_ok=True)
        mine = [shard for shard in missing_shards(store, self.plan) if shard in self.shards]
        if mine:
            self._render(mine, store, scratch)
        left = missing_shards(store, self.plan)
        if left:
            meta = begin(store, self.plan)  # complete meanwhile, and its receipts removed
            return MadeSet(folder, meta or {}, is_new=bool(mine), missing=0 if meta else len(left))
        try:
            meta = finish(store, self.plan, scratch, self.facts)
        except DataError:
            meta = begin(store, self.plan)  # another process may have finished at the same time
            if meta is None:
                raise
        return MadeSet(folder, meta, is_new=True)

    def _render(self, mine: list[int], store: Store, scratch: Path) -> None:
        chosen = choose(self.generator, self.teacher, self.plan, store, scratch, quiet=self.quiet)
        images = sum(len(self.plan.images_of(shard)) for shard in mine)
        with ProgressBar("rendering", images, quiet=self.quiet) as progress:
            for shard in mine:
                if begin(store, self.plan) is not None:
                    return
                make_shard(
                    self.generator, self.teacher, chosen, self.plan, shard, store, scratch, progress.advance
                )
                if (
                    begin(store, self.plan) is not None
                ):  # others completed the set meanwhile, and removed the receipts
                    store.remove(receipt_name(shard))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time makes `folder`; the others wait."""
    path = folder.with_name(f".{folder.name}.lock")
    with os_errors_as(DataError, f"{folder}: cannot be written", "free or change the place"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with one_at_a_time(path):
        yield
        path.unlink(missing_ok=True)
