"""Composes a configuration outside `hydra.main`, so that every mistake becomes one sentence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.errors import ConfigCompositionException, HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from facedistill.config.files import chosen_files, compose_files, no_such_choice, options
from facedistill.config.known_keys import demand_known, dotted, hint
from facedistill.config.numbers import with_whole_numbers
from facedistill.config.overrides import parsed, unreadable
from facedistill.config.trust import refuse_foreign_code
from facedistill.errors import ConfigError

_TURNED = "only faces of data=stylegan and data=mixed are turned; a turned face has another identity, so labeled faces are not"
# Keys that some choices of a group lack, with the reason.
_ELSEWHERE = {"data.source.yaw": _TURNED, "data.source.yaw_share": _TURNED}


def compose(root: str, overrides: Sequence[str]) -> DictConfig:
    """Composes `conf/<root>.yaml` with Hydra overrides. A run without a name gets that of its method.

    Raises:
        ConfigError: If an override cannot be read or names nothing that exists, a key is unknown, or the configuration
            names code that is not admitted; see `facedistill.config.trust`.
    """
    try:
        config = compose_files(root, overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_sentence(error, root, overrides)) from error
    demand_known(config, root, lambda: chosen_files(root, overrides))
    refuse_foreign_code(config)
    if "method" in config and not OmegaConf.is_missing(config, "name") and config.name is None:
        config.name = [Path(one).name for one in chosen_files(root, overrides) if one.startswith("method/")][
            -1
        ]
    return with_whole_numbers(config)


def _sentence(error: Exception, root: str, overrides: Sequence[str]) -> str:
    text = str(error)
    if isinstance(error, OverrideParseException):
        return unreadable(str(error.override))
    if found := re.search(r"Could not find '(\S+?)/(\S+)'", text):
        group, choice = found.groups()
        return no_such_choice(group, choice, choice, options(root, overrides, group))
    if found := re.search(r"Could not delete from config\. '([^']+)' does not exist", text):
        return f"~{found.group(1)}: there is no such key to delete"
    if found := re.match(r"Multiple values for (\S+?)\.", text):
        return f"+{found.group(1)}: is a group of the configuration already; leave out the +"
    if found := re.match(r"Error merging override (.+)", text):
        return f"{found.group(1)}: does not fit what is there, a list or keys; give each key below it by its full name"
    if "Could not append" in text and (found := re.search(r"'([^']+)'", text)):
        return f"+{found.group(1)}: is there already; leave out the +"
    found = re.search(r"Could not override '([^']+)'", text) or re.search(
        r"Key '([^']+)' is not in struct", text
    )
    if found or isinstance(error, ConfigCompositionException):
        key = found.group(1) if found else text.splitlines()[0]
        return f"unknown override {key!r}" + _did_you_mean(key, root, overrides)
    return text.splitlines()[0]


def _did_you_mean(key: str, root: str, overrides: Sequence[str]) -> str:
    if key in _ELSEWHERE:
        return f": {_ELSEWHERE[key]}"
    chosen = [text for text in overrides if _is_choice(text, root, overrides)]
    config: Any = OmegaConf.to_container(compose_files(root, chosen), resolve=False)
    if key in dotted(config):  # the key exists, and the value adds keys below it
        return f": it adds keys to {key}; write ++{key}=… to add them"
    return hint(key, config, chosen_files(root, chosen))


def _is_choice(text: str, root: str, overrides: Sequence[str]) -> bool:
    override = parsed(text)
    return override.key_or_group == "hydra.searchpath" or bool(
        options(root, overrides, str(override.key_or_group))
    )
