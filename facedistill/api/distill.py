"""`distill`: a training run from Python, the same run as that of the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from facedistill.api.overrides import as_overrides
from facedistill.api.student import Student, load
from facedistill.assets import cache_dir
from facedistill.assets.archive import sha256_of
from facedistill.config import compose, validate
from facedistill.config.files import options
from facedistill.config.overrides import parsed
from facedistill.errors import ConfigError
from facedistill.export import load_student, read_metadata
from facedistill.images import SIZE_PX
from facedistill.models.backbones import Backbone
from facedistill.models.backbones.own import OwnBackbone, StartedBackbone, register
from facedistill.models.fingerprint import state_fingerprint
from facedistill.models.imported import embedding_width
from facedistill.models.teachers import FrozenTeacher
from facedistill.models.weights import write_weights
from facedistill.runs.inputs import open_inputs
from facedistill.runs.processes import is_main_process
from facedistill.runs.train import train
from facedistill.types import InputSpec

Named: TypeAlias = str | Path | nn.Module | Mapping[str, Any]
"""A choice of the group in conf/, a file, a module, or keys below the group."""


def distill(
    *overrides: str,
    student: Named | None = None,
    teacher: Named | Sequence[str] | None = None,
    data: str | Path | Mapping[str, Any] | None = None,
    images: int | None = None,
    **settings: Any,
) -> Student:
    """Trains a student, as `facedistill train` does: the same settings are the same run in the same folder.

    An interrupted run is continued, and a finished one is only loaded.

    Args:
        *overrides: As on the command line, for instance "experiment=demo" or "++data.source.rho=0.5".
        student: A choice of conf/backbone, a `student.safetensors` to start from, or a module
            (N, 3, 112, 112) RGB in [-1, 1] -> (N, D). A module is copied; its initial weights are part of the run id.
        teacher: A choice of conf/teacher, a `student.safetensors` or `.onnx` file, or a module as for `student`. A module
            with an attribute `input_spec` is fed as that says. A list of choices names several teachers.
        data: A choice of conf/data, or the path of a face set.
        images: Image budget.
        **settings: Any other key: `optimizer={"lr": 1e-3}`, `method="ekd"`, `seed=7`; `**{"data.source.rho": 0.5}`.

    Returns:
        The trained student; `student.path.parent` is the run's folder.

    Raises:
        UserError: As the command line; ConfigError lists every problem of the settings.
    """
    for line in overrides:
        if not isinstance(line, str):
            raise ConfigError(
                f"{type(line).__name__}: expected key=value or group=choice as text; name a module, student=… or teacher=…"
            )
    modules, given = {}, dict(settings)
    for group, value in (("backbone", student), ("teacher", teacher)):
        if isinstance(value, nn.Module):
            modules[group] = value
        elif isinstance(value, str | Path) and group == "backbone" and Path(value).suffix == ".safetensors":
            modules[group] = load_student(Path(value))
        elif value is not None:
            given[group] = value
    lines = [*overrides, *_teacher_file(given), *_face_set(data)]
    lines += as_overrides(given | ({} if images is None else {"images": images}))
    config = _compose(lines, modules)
    validate(config)
    inputs = open_inputs(config)
    recorded = [
        *lines,
        *(f"{group}=<{type(module).__name__} of a program>" for group, module in modules.items()),
    ]
    with inputs.folder.held() if is_main_process() else nullcontext():
        folder = train(config, recorded, inputs)
    own = modules.get("backbone")
    is_own = own is not None and not isinstance(own, Backbone)
    return load(folder.student, network=own if is_own else None)


def _teacher_file(given: dict[str, Any]) -> list[str]:
    """Overrides for a teacher that is a file, which is taken out of `given`."""
    value = given.get("teacher")
    if not isinstance(value, str | Path) or Path(value).suffix not in (".safetensors", ".onnx"):
        return []
    del given["teacher"]
    path = Path(value)
    if path.suffix == ".onnx":
        return as_overrides({"teacher": "onnx", "teacher.file": path})
    width = read_metadata(path)["embedding_dim"]
    return as_overrides({"teacher": "student", "teacher.file": path, "teacher.embedding_dim": width})


def _face_set(data: str | Path | Mapping[str, Any] | None) -> list[str]:
    if data is None:
        return []
    if isinstance(data, Mapping) or data in _data_choices():
        return as_overrides({"data": data})
    if not isinstance(data, str | Path):
        raise ConfigError(f"data={data!r}: expected a choice, the path of a face set, or a dict of keys")
    if not Path(data).exists():
        raise ConfigError(f"data={data}: is no path, and no choice; there are {', '.join(_data_choices())}")
    return as_overrides({"data": "faces", "data.path": data})


def _compose(overrides: list[str], modules: Mapping[str, nn.Module]) -> DictConfig:
    """The configuration, with the node of each module in place of its group; keys below the group still apply."""
    own = [line for line in overrides if line.lstrip("+").split("=")[0].split(".")[0] in modules]
    config = compose("train", [line for line in overrides if line not in own])
    OmegaConf.set_struct(config, False)
    for group, module in modules.items():
        config[group] = (_student_node if group == "backbone" else _teacher_node)(module)
    OmegaConf.set_struct(config, True)
    for line in own:
        key = line.lstrip("+").partition("=")[0]
        group = key.split(".")[0]
        if key == group:
            raise ConfigError(f"{line}: a module is given as {key} already; leave one out")
        if group == "backbone":
            raise ConfigError(f"{line}: the student is a module, which is used as it is; leave the key out")
        try:
            OmegaConf.update(config, key, parsed(line).value(), force_add=line.startswith("+"))
        except (HydraException, OmegaConfBaseException) as error:
            known = ", ".join(map(str, config[group]))
            raise ConfigError(f"{line}: cannot be set below a module, whose keys are {known}") from error
    return config


def _student_node(module: nn.Module) -> dict[str, Any]:
    """A student of this package stays of its class; any other module is wrapped."""
    return _given(module, StartedBackbone if isinstance(module, Backbone) else OwnBackbone)


def _teacher_node(module: nn.Module) -> dict[str, Any]:
    """The node of a teacher with its weights in a file of the cache, as if they had been downloaded."""
    spec = getattr(module, "input_spec", InputSpec())
    module = module.network if isinstance(module, FrozenTeacher) else module
    name, network = type(module).__name__, _given(module, OwnBackbone, spec.size_px)
    path = cache_dir() / f"own-{name.lower()}-{state_fingerprint(module)[:12]}.safetensors"
    if not path.is_file():
        write_weights(path, {f"network.{key}": value for key, value in module.state_dict().items()}, {})
    return {
        "name": name,
        "file": str(path),
        "sha256": sha256_of(path),
        "convert": "",
        "licence": "not stated by its owner",
        "embedding_dim": network["embedding_dim"],
        "network": network,
        "input_spec": asdict(spec),
        "precision": "fp32",
        "compile": False,
        "card": {"flip": "none", "classifier": "none", "accuracy": None, "golden": None},
    }


def _given(module: nn.Module, kind: type[Backbone], size_px: int = SIZE_PX) -> dict[str, Any]:
    return {
        "_target_": f"{kind.__module__}.{kind.__qualname__}",
        "fingerprint": register(module),
        "name": type(module).__name__,
        "embedding_dim": embedding_width(module, type(module).__name__, size_px),
    }


def _data_choices() -> list[str]:
    return options("train", (), "data")
