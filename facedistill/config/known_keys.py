"""Which keys a configuration may have, and what the user may have meant by one that it does not have."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from facedistill.errors import ConfigError
from facedistill.system.paths import config_dir

# Groups whose files define no key of the same name.
_WITHOUT_NODE = ("experiment", "debug", "strategy", "asset")
_CHECKED_ELSEWHERE = ("trainer",)  # by facedistill.config.trainer_settings
_OTHERS = "teacher.others"  # children with free names and the keys of a teacher
_BY_NAME = ("evaluation.places",)  # children with free names and equal keys
_INSTEAD = dict.fromkeys(
    ("epochs", "max_epochs", "max_steps", "num_epochs", "steps"),
    "the budget is counted in images; set images=N, the number of images seen",
)
_READ = re.compile(r"\$\{([\w.]+)\}")


def demand_known(config: DictConfig, root: str, chosen: Callable[[], Sequence[str]] = lambda: ()) -> None:
    """Refuses keys that no file of `conf/` defines and no interpolation reads.

    The arguments of a node with a `_target_` are checked by `facedistill.config.validate`.

    Args:
        config: Composed configuration.
        root: Its file in `conf/`, without the suffix.
        chosen: Gives the choices it was composed from, as "data/stylegan".

    Raises:
        ConfigError: If there is one.
    """
    plain: Any = OmegaConf.to_container(config, resolve=False)
    found = list(_unknown(plain, _schema(root)))
    if found:
        read = _READ.findall(str(plain))
        found = [key for key in found if not any(f"{one}.".startswith(f"{key}.") for one in read)]
    if found:
        raise ConfigError("\n".join(f"unknown key {key!r}{hint(key, plain, chosen())}" for key in found))


def hint(key: str, config: Mapping[str, Any], chosen: Sequence[str] = ()) -> str:
    """The end of a sentence on an unknown key: what it may have been meant to be.

    Args:
        key: Dotted.
        config: A configuration without that key.
        chosen: The choices it was composed from, as "data/stylegan".

    >>> hint("lr", {"optimizer": {"lr": 0.1}})
    '; did you mean optimizer.lr?'
    >>> hint("image", {"images": 1, "launcher": {"image": ""}})
    '; did you mean images or launcher.image?'
    """
    group, _, rest = key.partition(".")
    parent, _, last = key.rpartition(".")
    if last in _INSTEAD:
        return f": {_INSTEAD[last]}"
    keys = [
        one
        for one in dotted(config)
        if not f"{key}.".startswith(f"{one}.") and not f"{one}.".startswith(f"{key}.")
    ]
    deeper = [one for one in keys if one.endswith(f".{last}")]
    if within := [one for one in deeper if one.startswith(f"{group}.")]:
        return _did_you_mean(within)
    if others := [name for name, node in _files(group) if rest and rest in set(dotted(node))]:
        own = next((one.replace("/", "=", 1) for one in chosen if one.startswith(f"{group}/")), group)
        return f": {own} has no {rest}; it is a key of {group}={', '.join(others)}"
    siblings = {one.rpartition(".")[2]: one for one in keys if one.rpartition(".")[0] == parent}
    if same := deeper or ([] if rest else list(_elsewhere(last))):
        return _did_you_mean([*difflib.get_close_matches(last, siblings, n=1, cutoff=0.85), *same])
    if near := difflib.get_close_matches(last, siblings, n=1, cutoff=0.6):
        return _did_you_mean([siblings[near[0]]])
    if near := difflib.get_close_matches(key, keys, n=1, cutoff=0.75):
        return _did_you_mean(near)
    if parent and siblings:
        return f"; there are {', '.join(siblings)}"
    return "; see `facedistill train --help` for the keys"


def _elsewhere(last: str) -> Iterator[str]:
    """Keys of that name that only other choices of a group have."""
    for folder in sorted(path.name for path in config_dir().iterdir() if path.is_dir()):
        if folder not in _WITHOUT_NODE and any(last in node for _, node in _files(folder)):
            yield f"{folder}.{last}"


def dotted(node: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Every key of nested dictionaries, with dots.

    >>> list(dotted({"a": {"b": 1}}))
    ['a', 'a.b']
    """
    for key, child in node.items():
        yield f"{prefix}{key}"
        if isinstance(child, Mapping):
            yield from dotted(child, f"{prefix}{key}.")


def _did_you_mean(keys: Sequence[str]) -> str:
    nearest = sorted(keys, key=lambda one: one.count("."))[:3]
    return f"; did you mean {' or '.join(nearest)}?"


def _unknown(node: Mapping[str, Any], known: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, child in node.items():
        name = f"{prefix}{key}"
        if name in _CHECKED_ELSEWHERE:
            continue
        if key not in known:
            yield name
        elif isinstance(child, Mapping) and isinstance(known[key], Mapping) and "_target_" not in child:
            below = dict.fromkeys(child, known) if name == _OTHERS else known[key]
            if name in _BY_NAME:
                entry: dict[str, Any] = {}
                for one in below.values():
                    _join(entry, one)
                below = dict.fromkeys(child, entry)
            yield from _unknown(child, below, f"{name}.")


@lru_cache(maxsize=4)
def _schema(root: str) -> dict[str, Any]:
    """The keys that the root's file and the files of all groups define."""
    known: dict[str, Any] = {}
    _join(known, yaml.load((config_dir() / f"{root}.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader))
    for folder in config_dir().iterdir():
        if folder.is_dir() and folder.name not in _WITHOUT_NODE:
            _join(known, {folder.name: {}})
            for _, node in _files(folder.name):
                _join(known[folder.name], node)
    known["teacher"] |= {"others": {}, "weights": None}  # added by facedistill.config.overrides.with_others
    return known


@lru_cache(maxsize=64)
def _files(group: str) -> list[tuple[str, dict[str, Any]]]:
    """Name and content of each file of a group; a file that builds on another of the group has its keys too."""
    loaded = {
        path.stem: yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader) or {}
        for path in sorted((config_dir() / group).glob("*.yaml"))
    }

    def content(name: str) -> dict[str, Any]:
        node: dict[str, Any] = {}
        for base in loaded[name].get("defaults", []):
            if isinstance(base, str) and base in loaded:
                _join(node, content(base))
        _join(node, {key: value for key, value in loaded[name].items() if key != "defaults"})
        return node

    return [(name, content(name)) for name in loaded]


def _join(into: dict[str, Any], node: Mapping[str, Any]) -> None:
    for key, value in node.items():
        if isinstance(value, Mapping):
            there = into.get(key)
            into[key] = there if isinstance(there, dict) else {}
            _join(into[key], value)
        else:
            into.setdefault(key, value)
