"""Composes yaml files as Hydra does, but reads each file once and leaves Hydra's own configuration out.

Hydra reads every file again at each composition, its own dozen included, and merges node by node: 0.2 s for one
configuration. A sweep, a table or a test composes many. Here Hydra chooses the files and applies the overrides; in
between, the files are merged as plain containers. `tests/config/test_compose.py` compares the result with Hydra's.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository
from hydra._internal.defaults_list import create_defaults_list
from hydra.core.default_element import ResultDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf

from facedistill.config.overrides import WEIGHTS, as_group, parsed, unreadable, with_others
from facedistill.errors import ConfigError
from facedistill.system.files import refuse_aliases
from facedistill.system.paths import config_dir

_ENTRIES_BY_NAME = ("method.losses",)
_ROOTS = ("train", "generate")


def compose_files(root: str, overrides: Sequence[str]) -> DictConfig:
    """Composes `conf/<root>.yaml` with overrides; files that changed since the last call are read again.

    Raises:
        ConfigError: If an override lists several values, or is one of Hydra's own settings.
        HydraException: If an override cannot be read or names nothing that exists.
        OmegaConfBaseException: If a value cannot be set.
    """
    repository, groups, values = _opened(root, overrides)
    config = OmegaConf.create(repository.composed(groups))
    OmegaConf.set_struct(config, True)
    for one in values:
        _demand_all_named(one, config)
        ConfigLoaderImpl._apply_overrides_to_config([one], config)
    return config


def chosen_files(root: str, overrides: Sequence[str]) -> list[str]:
    """The files that `compose_files` merges, as "data/stylegan", in their order."""
    repository, groups, _ = _opened(root, overrides)
    return [str(default.config_path) for default in repository.defaults(groups)]


def options(root: str, overrides: Sequence[str], group: str) -> list[str]:
    """The choices of a group, those of the overrides' search path included; none where there is no such group."""
    search = [text for text in overrides if text.startswith("hydra.searchpath=")]
    repository = _opened(root, search)[0]
    return list(repository.options(group)) if repository.group_exists(group) else []


def _opened(root: str, overrides: Sequence[str]) -> tuple[_Repository, tuple[str, ...], list[Override]]:
    """The files of a root and its search path, the overrides that choose files, and those that set values."""
    given = [parsed(as_group(one)) for text in overrides for one in with_others(text)]
    given.sort(
        key=lambda one: not (one.is_add() and one.key_or_group == WEIGHTS)
    )  # before a change of a weight
    search = [one for one in given if one.key_or_group == "hydra.searchpath"]
    for folder in _folders(search):
        if not folder.startswith("pkg://") and not os.path.isdir(folder):
            raise ConfigError(f"hydra.searchpath={folder}: there is no such folder")
    own = [one for one in given if one not in search]
    folders = (str(config_dir()), *_folders(search))
    repository = _repository(root, tuple(str(one.input_line) for one in search), _state(folders))
    for one in own:
        _check(one, repository)
    groups = [one for one in own if repository.group_exists(one.key_or_group)]
    return repository, tuple(str(one.input_line) for one in groups), [one for one in own if one not in groups]


class _Repository:
    """The files of one root, each read once; compositions are cached."""

    def __init__(self, root: str, search: Sequence[str]) -> None:
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            loader = GlobalHydra.instance().config_loader()
            assert isinstance(loader, ConfigLoaderImpl)
            _, self.files = loader._parse_overrides_and_create_caching_repo(root, list(search))
        self.root = root
        self._load, self._folders = self.files.load_config, list(_folders(map(parsed, search)))
        self.files.load_config = self._checked
        self.group_exists = lru_cache(self.files.group_exists)
        self.options = lru_cache(self.files.get_group_options)
        self.composed = lru_cache(maxsize=256)(self._compose)

    def defaults(self, groups: Sequence[str]) -> list[ResultDefault]:
        """The files that a choice of groups merges."""
        overrides = [parsed(text) for text in groups]
        found = create_defaults_list(
            self.files, self.root, overrides, prepend_hydra=False, skip_missing=False
        )
        return list(found.defaults)

    def _checked(self, config_path: str) -> ConfigResult | None:
        """Loads a file; one of the user's own folders must write everything out, so that its size is what it says."""
        for folder in self._folders:
            file = Path(folder, f"{config_path}.yaml")
            if file.is_file():
                refuse_aliases(file.read_text(encoding="utf-8", errors="replace"), str(file))
        return self._load(config_path)

    def _compose(self, groups: tuple[str, ...]) -> dict[str, Any]:
        return _merged(self.defaults(groups), self.files)


_repository = lru_cache(maxsize=8)(lambda root, search, state: _Repository(root, search))


def _check(override: Override, repository: _Repository) -> None:
    text, group = str(override.input_line), override.key_or_group
    if not group:
        raise ConfigError(unreadable(text))
    if override.is_hydra_override():
        raise ConfigError(
            f"{text}: of Hydra's own settings only hydra.searchpath has an effect here; leave it out"
        )
    if override.is_sweep_override():
        raise ConfigError(
            f"{text}: several values are a sweep; add -m, or write a list as [a,b] and a text with commas in quotes"
        )
    if override.is_delete() or not repository.group_exists(group):
        return
    options, value = repository.options(group), override.value()
    for name in value if isinstance(value, list) else [value]:
        if str(name) not in options:
            raise ConfigError(no_such_choice(group, text.partition("=")[2], str(name), options))


def no_such_choice(group: str, given: str, name: str, options: Sequence[str]) -> str:
    """A sentence on a choice that a group does not have, with the nearest name."""
    near = difflib.get_close_matches(name, options, n=1)
    meant = f"did you mean {near[0]}? There are" if near else "there are"
    own = "; `facedistill teacher add FILE` adds a file of yours" if group == "teacher" else ""
    return f"{group}={given}: there is no such {group}; {meant} {', '.join(options)}{own}"


def _demand_all_named(override: Override, config: DictConfig) -> None:
    """Refuses `method.losses={…}` that leaves losses in that it does not name: Hydra merges dictionaries."""
    key, value = override.key_or_group, override.value()
    for by_name in _ENTRIES_BY_NAME if not (override.is_add() or override.is_delete()) else ():
        if by_name != key and not by_name.startswith(f"{key}."):
            continue
        for part in filter(None, by_name.removeprefix(key).split(".")):
            value = value.get(part) if isinstance(value, dict) else None
        kept = set(OmegaConf.select(config, by_name) or {}) - set(value if isinstance(value, dict) else ())
        if kept and isinstance(value, dict):
            without = " ".join(f"~{by_name}.{name}" for name in sorted(kept))
            raise ConfigError(
                f"{override.input_line}: would keep {', '.join(sorted(kept))}, because a dictionary adds to {by_name}; "
                f"delete the others first with {without}, or name them all"
            )


def _folders(search: Iterable[Override]) -> Iterator[str]:
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
