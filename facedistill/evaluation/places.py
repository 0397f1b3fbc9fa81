"""Finds a protocol's files, or says in one sentence what to put where."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from facedistill.errors import ConfigError, DataError
from facedistill.evaluation.archives import FolderArchive, TarArchive
from facedistill.evaluation.bin_file import load_bin
from facedistill.evaluation.pairs import PairList, pairs_protocol, parse_lfw_pairs, parse_tsv_pairs
from facedistill.evaluation.protocol import PairsProtocol
from facedistill.paths import config_dir

_PARSERS = {"lfw": parse_lfw_pairs, "tsv": parse_tsv_pairs}


@dataclass(frozen=True)
class Absent:
    """A protocol that cannot be run here, and the sentence that says what to put where."""

    name: str
    reason: str


@dataclass(frozen=True)
class Place:
    """How a protocol's files are called, in any searched folder.

    Attributes:
        images: Tars or folders of aligned faces; the first that exists is taken. Empty: only `<name>.bin`.
        pairs: Pair lists, beside the images or inside them.
        layout: `lfw` (pairs.txt) or `tsv`.
        num_pairs: How many pairs the list must hold; 0 does not ask.
    """

    images: tuple[str, ...] = ()
    pairs: tuple[str, ...] = ()
    layout: str = "tsv"
    num_pairs: int = 0


def default_places() -> dict[str, Place]:
    """The places of `conf/evaluation/default.yaml`."""
    text = (config_dir() / "evaluation" / "default.yaml").read_text(encoding="utf-8")
    return read_places(yaml.safe_load(text)["places"])


def read_places(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, Place]:
    """Checks the `evaluation.places` of a configuration.

    Raises:
        ConfigError: If an entry has an unknown key or an unknown layout.
    """
    known = [field.name for field in fields(Place)]
    places = {}
    for name, entry in entries.items():
        for key in entry:
            if key not in known:
                raise ConfigError(f"evaluation.places.{name}: unknown key {key!r}; known: {', '.join(known)}")
        place = Place(
            images=tuple(entry.get("images", ())),
            pairs=tuple(entry.get("pairs", ())),
            layout=str(entry.get("layout", Place.layout)),
            num_pairs=int(entry.get("num_pairs", 0)),
        )
        if place.layout not in _PARSERS:
            raise ConfigError(f"evaluation.places.{name}.layout: must be lfw or tsv, got {place.layout!r}")
        places[name] = place
    return places


def search_dirs(data_dir: str | Path | None = None) -> list[Path]:
    """Folders in which benchmarks are looked for, in order.

    Args:
        data_dir: The configuration's own; the environment's FACEDISTILL_DATA, or `data`, if None.

    Returns:
        `data_dir`, then the developers' `data` below FACEDISTILL_SHARED, or below `../shared` of a checkout.
    """
    first = Path(data_dir or os.environ.get("FACEDISTILL_DATA") or "data").expanduser()
    shared = Path(os.environ.get("FACEDISTILL_SHARED") or Path("..") / "shared").expanduser()
    return [first, shared / "data"]


def find_protocol(
    name: str, search_dirs: Sequence[Path], places: Mapping[str, Place] | None = None
) -> PairsProtocol | Absent:
    """Opens a protocol by name, or by the path of a `.bin` file or of a folder of faces with its pair list.

    Args:
        name: A key of `places`, the stem of a `.bin` in a searched folder, or a path.
        search_dirs: Folders to look in, in order.
        places: How known protocols' files are called; `default_places()` if None.

    Raises:
        ConfigError: If the name is neither known nor a file.
        DataError: If files are there and are not what they should be.
    """
    places = default_places() if places is None else places
    if name not in places and ("/" in name or name.endswith(".bin")):
        return _open_path(Path(name).expanduser())
    place = places.get(name, Place())
    for folder in search_dirs:
        found = _open_in(folder, name, place)
        if found is not None:
            return found
        if (folder / f"{name}.bin").is_file():
            return load_bin(folder / f"{name}.bin", name)
    if name not in places:
        close = difflib.get_close_matches(name, places, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(places)}"
        raise ConfigError(
            f"evaluation.protocols: no protocol is named {name!r} and there is no {name}.bin; {hint}"
        )
    return Absent(name, _what_to_put_where(name, place, search_dirs))


def _open_in(folder: Path, name: str, place: Place) -> PairsProtocol | None:
    """The protocol from images and pair list in one folder; None where either is not there."""
    images = next((folder / entry for entry in place.images if (folder / entry).exists()), None)
    if images is None:
        return None
    archive = FolderArchive(images) if images.is_dir() else TarArchive(images)
    for entry in place.pairs:
        if (folder / entry).is_file():
            text = (folder / entry).read_text(encoding="utf-8")
            return _join(name, archive, place, text, str(folder / entry))
        inside = archive.read_text(entry)
        if inside is not None:
            return _join(name, archive, place, inside, f"{images}:{entry}")
    return None


def _join(
    name: str, archive: FolderArchive | TarArchive, place: Place, text: str, where: str
) -> PairsProtocol:
    pairs: PairList = _PARSERS[place.layout](text, where)
    if place.num_pairs and len(pairs) != place.num_pairs:
        raise DataError(
            f"{where}: holds {len(pairs)} of the {place.num_pairs} pairs of {name}; download it again"
        )
    return pairs_protocol(name, archive, pairs)


def _open_path(path: Path) -> PairsProtocol:
    if path.is_file() and path.suffix == ".bin":
        return load_bin(path)
    for entry, layout in (("pairs.txt", "lfw"), ("pairs.tsv", "tsv")):
        if (path / entry).is_file():
            text = (path / entry).read_text(encoding="utf-8")
            return _join(path.name, FolderArchive(path), Place(layout=layout), text, str(path / entry))
    raise DataError(
        f"{path}: is neither a .bin file nor a folder of faces with pairs.txt or pairs.tsv; correct the path"
    )


def _what_to_put_where(name: str, place: Place, search_dirs: Sequence[Path]) -> str:
    wanted = f"{name}.bin"
    if place.images:
        archives = " or ".join(entry if "." in entry else f"a folder {entry}" for entry in place.images)
        wanted = f"{archives} of aligned 112x112 faces with {' or '.join(place.pairs)}, or {wanted}"
    where = search_dirs[0] if search_dirs else "data"
    return f"{name} is not here: put {wanted} into {where}, or name their folder in FACEDISTILL_DATA"
