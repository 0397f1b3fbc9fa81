"""`facedistill train`: one configuration, or a sweep."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omegaconf import DictConfig

from facedistill.errors import ConfigError
from facedistill.system.paths import config_dir

_SWEEP_FLAGS = ("-m", "--multirun")
_DRY = "--dry"
_HYDRA_FLAGS = ("--help", "-h", "--cfg", "-c", "--info", "-i")


def main(arguments: Sequence[str]) -> int:
    """Runs one configuration, or a sweep (`-m`), or passes `--cfg`, and `--help` with overrides, to Hydra."""
    if list(arguments) in (["--help"], ["-h"]):
        from facedistill.cli.train_help import help_text

        print(help_text())
        return 0
    if any(flag in arguments for flag in _SWEEP_FLAGS):
        from facedistill.sweeps.sweep import sweep

        others = [argument for argument in arguments if argument not in (*_SWEEP_FLAGS, _DRY)]
        return sweep(others, dry=_DRY in arguments)
    if _DRY in arguments:
        raise ConfigError(f"{_DRY}: prints the job file of a sweep, train -m … launcher=skypilot {_DRY}")
    if any(
        argument.split("=")[0] in _HYDRA_FLAGS or argument.startswith("--hydra") for argument in arguments
    ):
        _run_hydra(arguments)
        return 0
    from facedistill.runs.inputs import open_inputs
    from facedistill.runs.processes import is_main_process
    from facedistill.runs.train import check_start, train
    from facedistill.sweeps.job import demand_planned

    config, given, planned = _requested(arguments)
    check_start(config)
    inputs = open_inputs(config)
    if planned is not None:
        demand_planned(arguments[1], planned, inputs.folder.path.name)
    with inputs.folder.held() if is_main_process() else nullcontext():
        train(config, given, inputs)
    return 0


def _requested(arguments: Sequence[str]) -> tuple[DictConfig, Sequence[str], str | None]:
    """The configuration, the overrides that it was composed from, and the run that a job's file was planned as."""
    from facedistill.config import compose
    from facedistill.sweeps.job import read_job

    if not arguments or arguments[0] != "--config":
        return compose("train", arguments), arguments, None
    if len(arguments) != 2:
        raise ConfigError(
            "--config FILE: takes one file and no overrides; the file is the whole configuration"
        )
    config, overrides, planned = read_job(Path(arguments[1]))
    return config, overrides if planned else arguments, planned


def _run_hydra(arguments: Sequence[str]) -> None:
    """Prints what Hydra prints for `--help` and `--cfg`; nothing is trained."""
    import hydra

    from facedistill.config import compose
    from facedistill.config.overrides import as_group

    compose("train", [text for text in arguments if "=" in text and not text.startswith("-")])
    sys.argv = ["facedistill train", *map(as_group, arguments)]
    hydra.main(config_path=str(config_dir()), config_name="train", version_base="1.3")(lambda config: None)()
