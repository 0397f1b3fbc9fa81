"""One run of many: checked before any of them starts, then started from its written, resolved configuration."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from facedistill.config import compose, validate
from facedistill.config.class_names import with_current_paths
from facedistill.config.known_keys import demand_known
from facedistill.config.numbers import with_whole_numbers
from facedistill.config.trust import refuse_foreign_code
from facedistill.errors import ConfigError, UserError, reason
from facedistill.reporting.run.facts import network_name
from facedistill.runs.folder import RunFolder
from facedistill.runs.inputs import open_inputs
from facedistill.system.files import refuse_aliases, write_atomically

_PLANNED = "planned"


@dataclass(frozen=True)
class Job:
    """What `facedistill train` is started with, and the folder of its run.

    Attributes:
        label: How messages call it.
        overrides: What the configuration was composed from; nothing is left to be swept over.
        folder: `runs/<name>-<identity>`; equal jobs have equal folders.
        config: Composed and validated configuration.
        gpus: Number of GPUs that only this job uses; 0 on a CPU.
    """

    label: str
    overrides: tuple[str, ...]
    folder: RunFolder
    config: DictConfig
    gpus: int = 0

    @property
    def id(self) -> str:
        """Name of the run's folder."""
        return self.folder.path.name

    @property
    def images(self) -> int:
        """Image budget."""
        return int(self.config.images)

    def write(self) -> Path:
        """Writes `runs/jobs/<id>.yaml`, from which the job starts whatever happens to `conf/` or the environment."""
        path = self.folder.path.parent / "jobs" / f"{self.id}.yaml"
        planned = {_PLANNED: {"run": self.id, "overrides": list(self.overrides)}}
        write_atomically(path, OmegaConf.to_yaml(planned) + OmegaConf.to_yaml(self.config, resolve=True))
        return path


def plan_job(label: str, overrides: Sequence[str], *, num_gpus: int = 0, group: str | None = None) -> Job:
    """Composes and validates one job without loading anything.

    Args:
        label: How messages call it.
        overrides: For `facedistill train`.
        num_gpus: How many the machine has.
        group: Of a sweep: wandb group of the job's run, unless the overrides name one. The run of a sweep is named
            <name>-<method>-<backbone>-seed<seed>, the method once if the name is its own, unless the overrides name it or it was begun with its plain name.

    Raises:
        UserError: If the configuration is refused, or asks for more GPUs than there are.
    """
    config = compose("train", overrides)
    validate(config)
    chosen = any(text.startswith("logger.wandb.group=") for text in overrides)
    if group and not chosen and OmegaConf.select(config, "logger.wandb.group") is not None:
        config.logger.wandb.group = group
    trainer = config.trainer
    wanted = 0
    if num_gpus and trainer.accelerator in ("auto", "gpu", "cuda"):
        devices = trainer.get("devices", 1)
        wanted = num_gpus if devices in ("auto", -1, "-1") else int(devices)
    folder = open_inputs(config).folder
    if group and not folder.path.exists() and not any(text.startswith("name=") for text in overrides):
        run_id = folder.path.name.removeprefix(f"{config.name}-")
        config.name = _sweep_name(config)
        folder = RunFolder(folder.path.with_name(f"{config.name}-{run_id}"))
        overrides = [*overrides, f"name={config.name}"]  # so that the command in its record finds the folder
    return Job(label, tuple(overrides), folder, config, wanted)


def _sweep_name(config: DictConfig) -> str:
    method, backbone = (network_name(config, group) for group in ("method", "backbone"))
    named = [config.name] if config.name.replace("_", "") == method.lower() else [config.name, method]
    return re.sub(r"[^\w.-]+", "_", "-".join([*named, backbone, f"seed{config.seed}"]))


def read_job(path: Path) -> tuple[DictConfig, tuple[str, ...], str | None]:
    """The configuration of a job's file, or of a run's config.yaml; the overrides that it was composed from; its run id.

    Raises:
        ConfigError: If there is no such file, it is no configuration, or it names code that is not admitted.
    """
    try:
        refuse_aliases(path.read_text(encoding="utf-8"), f"--config {path}")
        config = OmegaConf.load(path)
    except UserError:
        raise
    except OSError as error:
        raise ConfigError(f"--config {path}: cannot be read ({reason(error)})") from error
    except Exception as error:  # whatever yaml finds wrong
        raise ConfigError(f"--config {path}: is not valid yaml ({str(error).splitlines()[0]})") from error
    if not isinstance(config, DictConfig) or "method" not in config:
        raise ConfigError(f"--config {path}: is no configuration; give a run's config.yaml or a job's file")
    config = with_current_paths(config)
    planned = config.pop(_PLANNED, None)
    refuse_foreign_code(config, f"--config {path}")
    OmegaConf.set_struct(config, True)
    if planned is None:
        demand_known(config, "train")
        return with_whole_numbers(config), (), None
    return config, tuple(planned.overrides), planned.run


def demand_planned(path: str, planned: str, found: str) -> None:
    """Refuses a job whose run is not the planned one.

    Raises:
        ConfigError: If the names of the two runs differ.
    """
    if found != planned:
        raise ConfigError(
            f"--config {path}: planned as {planned}, and now it would be {found}: weights, faces or facedistill "
            "itself have changed since; start the sweep again to plan it again"
        )
