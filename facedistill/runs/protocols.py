"""Opens the protocols that a configuration names."""

from __future__ import annotations

from omegaconf import DictConfig

from facedistill.errors import ConfigError
from facedistill.evaluation.protocols.base import Protocol
from facedistill.evaluation.protocols.find import Absent, open_protocols, search_dirs
from facedistill.runs.inputs import GENERATED, protocol_places
from facedistill.runs.robustness import robustness_settings
from facedistill.runs.yaw import yaw_settings


def open_configured_protocols(config: DictConfig) -> tuple[list[Protocol], list[Absent]]:
    """Opens the protocols of `config.evaluation` but `generated`, and names those whose files are missing.

    Raises:
        ConfigError: If the settings of the evaluation cannot be run.
    """
    settings = config.evaluation
    if settings.flip not in ("none", "sum", "unit_sum"):
        raise ConfigError(f"evaluation.flip: must be none, sum or unit_sum, got {settings.flip!r}")
    robustness_settings(settings), yaw_settings(settings)
    names = [name for name in settings.protocols if name != GENERATED]
    return open_protocols(names, search_dirs(settings.data_dir), protocol_places(settings))
