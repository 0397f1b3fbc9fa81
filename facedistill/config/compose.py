"""Composes a configuration outside `hydra.main`, so that every mistake becomes one sentence."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from hydra.errors import ConfigCompositionException, HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from facedistill.config.files import choices, compose_files, parsed
from facedistill.config.trust import refuse_foreign_code
from facedistill.errors import ConfigError


def compose(root: str, overrides: Sequence[str]) -> DictConfig:
    """Composes `conf/<root>.yaml` with Hydra overrides.

    Raises:
        ConfigError: If an override cannot be read or names nothing that exists, or the configuration names code that is
            not admitted; see `facedistill.config.trust`.
    """
    try:
        config = compose_files(root, overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_sentence(error, root, overrides)) from error
    refuse_foreign_code(config)
    return config


def _sentence(error: Exception, root: str, overrides: Sequence[str]) -> str:
    text = str(error)
    if isinstance(error, OverrideParseException):
        return f"cannot read the override {error.override!r}; write key=value or group=choice"
    found = re.search(r"Could not find '(\S+?)/(\S+)'", text)
    if found:
        group, choice = found.groups()
        return f"{group}={choice}: there is no such {group}; there are {', '.join(choices(group))}"
    found = re.search(r"Could not override '([^']+)'", text) or re.search(
        r"Key '([^']+)' is not in struct", text
    )
    if found or isinstance(error, ConfigCompositionException):
        key = found.group(1) if found else text.splitlines()[0]
        return f"unknown override {key!r}" + _did_you_mean(key, root, overrides)
    return text.splitlines()[0]


def _did_you_mean(key: str, root: str, overrides: Sequence[str]) -> str:
    config = compose_files(root, [text for text in overrides if _is_group_choice(text)])
    keys = _keys(config)
    if key in keys:  # the key exists, and the value adds keys below it
        return f": it adds keys to {key}; write ++{key}=… to add them"
    near = difflib.get_close_matches(key, keys, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else "; see `facedistill train --help` for the keys"


def _is_group_choice(text: str) -> bool:
    override = parsed(text)
    return override.value() in choices(str(override.key_or_group))


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
