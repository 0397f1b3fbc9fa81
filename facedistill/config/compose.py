"""Composes a configuration outside `hydra.main`, so that every mistake becomes one sentence."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from facedistill.errors import ConfigError
from facedistill.paths import config_dir


def compose(root: str, overrides: Sequence[str]) -> DictConfig:
    """Composes `conf/<root>.yaml` with Hydra overrides.

    Raises:
        ConfigError: If an override cannot be read or names nothing that exists.
    """
    try:
        return _compose(root, list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_sentence(error, root, overrides)) from error


def _compose(root: str, overrides: list[str]) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return hydra_compose(root, overrides)


def _sentence(error: Exception, root: str, overrides: Sequence[str]) -> str:
    text = str(error)
    if isinstance(error, OverrideParseException):
        return f"cannot read the override {error.override!r}; write key=value or group=choice"
    found = re.search(r"Could not find '(\S+?)/(\S+)'", text)
    if found:
        group, choice = found.groups()
        return f"{group}={choice}: there is no such {group}; there are {', '.join(_choices(group))}"
    found = re.search(r"Could not override '([^']+)'", text) or re.search(
        r"Key '([^']+)' is not in struct", text
    )
    if found or isinstance(error, ConfigCompositionException):
        key = found.group(1) if found else text.splitlines()[0]
        return f"unknown override {key!r}" + _did_you_mean(key, root, overrides)
    return text.splitlines()[0]


def _choices(group: str) -> list[str]:
    return sorted(path.stem for path in (config_dir() / group).glob("*.yaml"))


def _did_you_mean(key: str, root: str, overrides: Sequence[str]) -> str:
    config = _compose(root, [text for text in overrides if _is_group_choice(text)])
    near = difflib.get_close_matches(key, _keys(config), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else "; see `facedistill train --help` for the keys"


def _is_group_choice(text: str) -> bool:
    override = OverridesParser.create().parse_override(text)
    return (config_dir() / str(override.key_or_group)).is_dir() and override.value() in _choices(
        str(override.key_or_group)
    )


def _keys(config: DictConfig, prefix: str = "") -> list[str]:
    keys = []
    for key in map(str, config):
        name = f"{prefix}{key}"
        keys.append(name)
        node = (
            None
            if OmegaConf.is_missing(config, key) or OmegaConf.is_interpolation(config, key)
            else config[key]
        )
        if isinstance(node, DictConfig):
            keys += _keys(node, f"{name}.")
    return keys
