"""Composes yaml files as Hydra does, but reads each file once and leaves Hydra's own configuration out.

Hydra reads every file again at each composition, its own dozen included, and merges node by node: 0.2 s for one
configuration. A sweep, a table or a test composes many. Here Hydra chooses the files and applies the overrides; in
between, the files are merged as plain containers. `tests/config/test_compose.py` compares the result with Hydra's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository
from hydra._internal.defaults_list import create_defaults_list
from hydra.core.default_element import ResultDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from facedistill.errors import ConfigError
from facedistill.system.paths import config_dir

_AUGMENT = "data.source.augment"
_ROOTS = ("train", "generate")


def compose_files(root: str, overrides: Sequence[str]) -> DictConfig:
    """Composes `conf/<root>.yaml` with overrides; files that changed since the last call are read again.

    Raises:
        ConfigError: If an override lists several values, or is one of Hydra's own settings.
        HydraException: If an override cannot be read or names nothing that exists.
        OmegaConfBaseException: If a value cannot be set.
    """
    given = [parsed(_as_group(text)) for text in overrides]
    search = [one for one in given if one.key_or_group == "hydra.searchpath"]
    own = [one for one in given if one not in search]
    for one in own:
        _check(one)
    folders = (str(config_dir()), *_folders(search))
    repository = _repository(root, tuple(str(one.input_line) for one in search), _state(folders))
    groups = [one for one in own if repository.group_exists(one.key_or_group)]
    config = OmegaConf.create(repository.composed(tuple(str(one.input_line) for one in groups)))
    OmegaConf.set_struct(config, True)
    ConfigLoaderImpl._apply_overrides_to_config([one for one in own if one not in groups], config)
    return config


def _as_group(text: str) -> str:
    """Turns `augment=photo` and `data.source.augment=photo` into the choice of that group in its place."""
    key, _, value = text.partition("=")
    if key.lstrip("+") not in ("augment", _AUGMENT) or "{" in value or value == "null":
        return text
    if value == "none":
        return f"{_AUGMENT}=null"
    return f"augment@{_AUGMENT}={value}"


class _Repository:
    """The files of one root, each read once; compositions are cached."""

    def __init__(self, root: str, search: Sequence[str]) -> None:
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            loader = GlobalHydra.instance().config_loader()
            assert isinstance(loader, ConfigLoaderImpl)
            _, self.files = loader._parse_overrides_and_create_caching_repo(root, list(search))
        self.root = root
        self.group_exists = lru_cache(self.files.group_exists)
        self.composed = lru_cache(maxsize=256)(self._compose)

    def _compose(self, groups: tuple[str, ...]) -> dict[str, Any]:
        overrides = [parsed(text) for text in groups]
        chosen = create_defaults_list(
            self.files, self.root, overrides, prepend_hydra=False, skip_missing=False
        )
        return _merged(chosen.defaults, self.files)


_repository = lru_cache(maxsize=8)(lambda root, search, state: _Repository(root, search))


@lru_cache(maxsize=4096)
def parsed(text: str) -> Override:
    """Reads one override by Hydra's grammar."""
    (override,) = OverridesParser.create().parse_overrides([text])
    return override


def choices(group: str) -> list[str]:
    """The names of `conf/<group>/`; none where there is no such group."""
    return sorted(path.stem for path in (config_dir() / group).glob("*.yaml"))


def _check(override: Override) -> None:
    text, group = override.input_line, override.key_or_group
    if override.is_hydra_override():
        raise ConfigError(
            f"{text}: of Hydra's own settings only hydra.searchpath has an effect here; leave it out"
        )
    if override.is_sweep_override():
        raise ConfigError(
            f"{text}: several values are a sweep; add -m, or write a list as [a,b] and a text with commas in quotes"
        )
    if choices(group) and not override.is_delete() and not isinstance(override.value(), str | list):
        raise ConfigError(f"{text}: there is no such {group}; there are {', '.join(choices(group))}")


def _folders(search: Sequence[Override]) -> Iterator[str]:
    for one in search:
        value = one.value()
        for place in value if isinstance(value, list) else [value]:
            yield str(place).removeprefix("file://")


def _state(folders: Sequence[str]) -> tuple[tuple[str, int], ...]:
    """What tells whether any file changed: every path with its time of modification."""
    found = []
    for folder in folders:
        for place, _, names in os.walk(folder):
            for name in names:
                path = os.path.join(place, name)
                found.append((path, os.stat(path).st_mtime_ns))
    return tuple(sorted(found))


def _merged(defaults: Sequence[ResultDefault], repository: CachingConfigRepository) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for default in defaults:
        assert default.config_path is not None
        loaded = repository.load_config(default.config_path)
        assert loaded is not None
        content = OmegaConf.to_container(loaded.config)
        package = loaded.header["package"] if default.package is None else default.package
        for name in reversed(package.split(".") if package else []):
            content = {name: content}
        assert isinstance(content, dict)
        if (
            "hydra" in content and default.config_path not in _ROOTS
        ):  # Hydra would build the classes that it names
            raise ConfigError(
                f"{default.config_path}.yaml: hydra: sets Hydra itself, which only the command line may do"
            )
        _merge(merged, content, default.config_path)
    merged.pop("hydra", None)
    return merged


def _merge(into: dict[Any, Any], content: dict[Any, Any], path: str) -> None:
    """OmegaConf's merge of untyped nodes: `???` keeps the earlier value, lists are replaced."""
    for key, value in content.items():
        there = into.get(key)
        if isinstance(value, dict) and isinstance(there, dict):
            _merge(there, value, path)
        elif isinstance(value, dict) and isinstance(there, str) and there.startswith("${"):
            raise ConfigError(f"{Path(path)}.yaml: {key} changes parts of {there}; write all of it")
        elif key not in into or value != "???":
            into[key] = value
