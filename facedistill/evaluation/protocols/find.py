"""Finds the files of protocols, or returns a sentence on what to put where."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from facedistill.errors import ConfigError, DataError
from facedistill.evaluation.protocols.archives import FolderArchive, TarArchive, read_list
from facedistill.evaluation.protocols.base import FolderLayout, PairsProtocol, Protocol
from facedistill.evaluation.protocols.bin_file import load_bin
from facedistill.evaluation.protocols.groups import with_groups
from facedistill.evaluation.protocols.pairs import PairsLayout, demand_measurable, pairs_protocol
from facedistill.evaluation.protocols.titles import default_entries
from facedistill.system.discovery import public_subclasses


def _pairs_layouts() -> dict[str, type[PairsLayout]]:
    return {kind.name: kind for kind in public_subclasses(__package__, PairsLayout).values()}


def _folder_layouts() -> dict[str, type[FolderLayout]]:
    return {kind.name: kind for kind in public_subclasses(__package__, FolderLayout).values()}


@dataclass(frozen=True)
class Absent:
    """A protocol without files, and a sentence on what to put where."""

    name: str
    reason: str


@dataclass(frozen=True)
class Place:
    """Names of a protocol's files in any searched folder.

    Attributes:
        images: Tars or folders of aligned faces; the first that exists is used. Empty: only `<name>.bin`.
            For the layouts `ijb`, `tinyface` and `rfw`, the folder with all files.
        pairs: Pair lists, next to the images or inside them.
        layout: `lfw` (pairs.txt), `tsv`, or a folder layout: `ijb`, `tinyface`, `rfw`.
        num_pairs: Number of pairs that the list must hold; 0 for any.
        groups: Tables of groups for the pairs, next to the images or inside them; see `with_groups`.
        title: Published name of the protocol; its key if empty.
        pose: `frontal` or `profile`, where the faces are mostly one of the two; decides which thresholds are compared.
    """

    images: tuple[str, ...] = ()
    pairs: tuple[str, ...] = ()
    layout: str = "tsv"
    num_pairs: int = 0
    groups: tuple[str, ...] = ()
    title: str = ""
    pose: str = ""


@cache
def default_places() -> dict[str, Place]:
    """The places of `conf/evaluation/default.yaml`."""
    return read_places(default_entries())


def read_places(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, Place]:
    """Checks the `evaluation.places` of a configuration.

    Raises:
        ConfigError: If an entry has an unknown key, a text instead of a list, or an unknown layout.
    """
    known = [field.name for field in fields(Place)]
    places = {}
    for name, entry in entries.items():
        for key in entry:
            if key not in known:
                raise ConfigError(f"evaluation.places.{name}: unknown key {key!r}; known: {', '.join(known)}")
            if isinstance(getattr(Place, key), tuple) and isinstance(entry[key], str):
                raise ConfigError(f"evaluation.places.{name}.{key}: must be a list; write [{entry[key]}]")
        given = {key: value for key, value in entry.items() if value is not None}
        place = Place(**{key: type(getattr(Place, key))(value) for key, value in given.items()})
        layouts = [*_pairs_layouts(), *_folder_layouts()]
        if place.layout not in layouts:
            known_layouts = f"{', '.join(layouts[:-1])} or {layouts[-1]}"
            raise ConfigError(
                f"evaluation.places.{name}.layout: must be {known_layouts}, got {place.layout!r}"
            )
        places[name] = place
    return places


def search_dirs(data_dir: str | Path | None = None) -> list[Path]:
    """Folders to search for benchmarks, in order.

    Args:
        data_dir: From the configuration; the environment's FACEDISTILL_DATA, or `data`, if None.

    Returns:
        `data_dir`; after the default one FACEDISTILL_DATA, which a run may have been configured without; then the
        developers' `data` below FACEDISTILL_SHARED, or below `../shared` of a checkout.

    Raises:
        ConfigError: If there is no such folder, unless it is the default `data`.
    """
    named = [Path(name).expanduser() for name in [os.environ.get("FACEDISTILL_DATA")] if name]
    configured = [Path(data_dir).expanduser()] if data_dir else named or [Path("data")]
    folders = [*configured, *named] if configured == [Path("data")] else configured
    for folder in folders:
        if folder != Path("data") and not folder.is_dir():
            key = "FACEDISTILL_DATA" if folder in named else "evaluation.data_dir"
            raise ConfigError(
                f"{key}={folder}: there is no such folder; name the one that holds the benchmarks"
            )
    shared = Path(os.environ.get("FACEDISTILL_SHARED") or Path("..") / "shared").expanduser()
    return [*folders, shared / "data"]


def open_protocols(
    names: Sequence[str], search_dirs: Sequence[Path], places: Mapping[str, Place] | None = None
) -> tuple[list[Protocol], list[Absent]]:
    """Opens several protocols; those without files are returned as `Absent`.

    Args:
        names: See `find_protocol`.
        search_dirs: Folders to search, in order.
        places: Names of the files of known protocols; `default_places()` if None.

    Raises:
        ConfigError: If two protocols have one name, or a name is neither known nor a file.
        DataError: If files are malformed.
    """
    found = [(name, find_protocol(name, search_dirs, places)) for name in names]
    origin = dict.fromkeys(("generated", "validation"), "the generated pairs")
    for name, protocol in found:
        if protocol.name in origin:
            raise ConfigError(
                f"evaluation.protocols: two protocols are named {protocol.name}: {origin[protocol.name]} and {name}; "
                "rename a file, or ask for one of them"
            )
        origin[protocol.name] = name
    opened = [protocol for _, protocol in found]
    return [p for p in opened if not isinstance(p, Absent)], [p for p in opened if isinstance(p, Absent)]


def find_protocol(
    name: str, search_dirs: Sequence[Path], places: Mapping[str, Place] | None = None
) -> Protocol | Absent:
    """Opens a protocol by name, or by the path of a `.bin` file or of a folder of faces with its pair list.

    Args:
        name: A key of `places`, the stem of a `.bin` in a searched folder, or a path.
        search_dirs: Folders to search, in order.
        places: Names of the files of known protocols; `default_places()` if None.

    Raises:
        ConfigError: If the name is neither known nor a file.
        DataError: If files are malformed.
    """
    places = default_places() if places is None else places
    if name not in places and ("/" in name or name.endswith(".bin")):
        return _open_path(Path(name).expanduser())
    place = places.get(name, Place())
    for folder in search_dirs:
        found = _open_in(folder, name, place)
        if found is not None:
            return found
        bin_file = folder / f"{name}.bin"  # it holds pairs without groups, so it cannot replace other layouts
        if bin_file.is_file() and not place.groups and place.layout in _pairs_layouts():
            return load_bin(bin_file, name)
    if name not in places:
        close = difflib.get_close_matches(name, places, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(places)}"
        raise ConfigError(
            f"evaluation.protocols: no protocol is named {name!r} and there is no {name}.bin; {hint}"
        )
    return Absent(name, _missing_files(name, place, search_dirs))


def _open_in(folder: Path, name: str, place: Place) -> Protocol | None:
    """The protocol from the files in one folder; None if one of them is missing."""
    images = next((folder / entry for entry in place.images if (folder / entry).exists()), None)
    if images is None:
        return None
    if place.layout in _folder_layouts():
        return _folder_layouts()[place.layout].open(images, name)
    archive = FolderArchive(images) if images.is_dir() else TarArchive(images)
    pairs = _first_text(folder, images, archive, place.pairs)
    if pairs is None:
        return None
    protocol = _join(name, archive, place, *pairs)
    if not place.groups:
        return protocol
    groups = _first_text(folder, images, archive, place.groups)
    return None if groups is None else with_groups(protocol, *groups)


def _first_text(
    folder: Path, images: Path, archive: FolderArchive | TarArchive, entries: Sequence[str]
) -> tuple[str, str] | None:
    """Content and location of the first text file found, next to the images or inside them."""
    for entry in entries:
        if (folder / entry).is_file():
            return read_list(folder / entry), str(folder / entry)
        inside = archive.read_text(entry)
        if inside is not None:
            return inside, f"{images}:{entry}"
    return None


def _join(
    name: str, archive: FolderArchive | TarArchive, place: Place, text: str, where: str
) -> PairsProtocol:
    pairs = _pairs_layouts()[place.layout].parse(text, where)
    if place.num_pairs and len(pairs) != place.num_pairs:
        raise DataError(
            f"{where}: holds {len(pairs)} of the {place.num_pairs} pairs of {name}; download it again"
        )
    demand_measurable(pairs, where)
    return pairs_protocol(name, archive, pairs)


def _open_path(path: Path) -> PairsProtocol:
    if path.is_file() and path.suffix == ".bin":
        return load_bin(path)
    lists = {name: path / layout.file_name for name, layout in _pairs_layouts().items()}
    for layout, file in lists.items():
        if file.is_file():
            return _join(path.name, FolderArchive(path), Place(layout=layout), read_list(file), str(file))
    raise DataError(
        f"{path}: is neither a .bin file nor a folder of faces with pairs.txt or pairs.tsv; correct the path"
    )


def _missing_files(name: str, place: Place, search_dirs: Sequence[Path]) -> str:
    wanted = f"{name}.bin"
    if place.layout in _folder_layouts():
        contents = _folder_layouts()[place.layout].contents
        wanted = f"a folder {' or '.join(place.images)} {contents},"
    elif place.images:
        archives = " or ".join(entry if "." in entry else f"a folder {entry}" for entry in place.images)
        wanted = f"{archives} of aligned 112x112 faces with {' or '.join(place.pairs)}, or {wanted}"
        if place.groups:
            lists = f"{' or '.join(place.pairs)} and {' or '.join(place.groups)}"
            wanted = f"{archives} of aligned 112x112 faces with {lists}"
    where = search_dirs[0] if search_dirs else "data"
    return f"{name} is not here: put {wanted} into {where}, or name their folder in FACEDISTILL_DATA"
