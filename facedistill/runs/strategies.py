"""Turns the `trainer` settings into arguments of Lightning's Trainer, and checks them against this machine."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, Strategy
from torch.distributed.fsdp import MixedPrecision

from facedistill.errors import ConfigError
from facedistill.models.execution import Execution
from facedistill.system.machine import vectors_end_at_256_bits

# Settings that `Execution` and `DistillationMethod` implement instead of Lightning's Trainer.
_OWN_SETTINGS = ("compile", "channels_last", "accumulate_grad_batches", "sync_batchnorm")


@dataclass(frozen=True)
class Launch:
    """Processes that a launcher has started.

    Attributes:
        launcher: Its name, for messages.
        per_node: Processes on this machine.
        nodes: Machines.
    """

    launcher: str
    per_node: int
    nodes: int


def launched() -> Launch | None:
    """The launcher that started this process; None if the run starts its own processes.

    Raises:
        ConfigError: If SLURM does not say how many of its tasks run on this machine.
    """
    if TorchElasticEnvironment.detect():
        per_node = int(os.environ["LOCAL_WORLD_SIZE"])
        return Launch("torchrun", per_node, int(os.environ["WORLD_SIZE"]) // per_node)
    if SLURMEnvironment.detect():
        tasks, per_node_text = int(os.environ["SLURM_NTASKS"]), os.environ.get("SLURM_NTASKS_PER_NODE")
        if per_node_text is None and tasks > 1:
            raise ConfigError(
                f"SLURM started {tasks} tasks without saying how many on each machine; ask for them with "
                "--ntasks-per-node instead of --ntasks"
            )
        per_node = int(per_node_text or 1)
        return Launch("SLURM", per_node, tasks // per_node)
    return None


def execution(settings: Mapping[str, Any], images: int = 0, *, eager: bool = False) -> Execution:
    """How the student runs under the `trainer` settings.

    Args:
        settings: The `trainer` node.
        images: Image budget of the run, which decides whether compiling is worth its time where the settings do not.
        eager: Whether the student cannot be compiled.
    """
    compile: Any = settings.get("compile")
    if compile is None:
        allowed = settings["strategy"] != "fsdp" and not eager
        compile = "auto" if allowed and images >= _compiled_from_images(runs_on_cuda(settings)) else False
    return Execution(
        channels_last=settings.get("channels_last", True),
        parts=settings.get("accumulate_grad_batches", 1),
        compile=compile,
        half=settings["precision"] == "bf16-true",
        synchronized=settings.get("sync_batchnorm", False),
    )


def _compiled_from_images(on_gpu: bool) -> float:
    """The image budget from which compiling the student repays its time.

    A MobileNetV2 takes 71 s to compile on an H100 and saves 12 µs an image of the GPU's time (benchmarks/results/gpu_step.md); on a core
    with AVX-512 it takes 19 s and saves about 3 ms, and on one with AVX2 it takes 53 s and saves nothing (benchmarks/results/cpu.md).
    """
    if on_gpu:
        return 10_000_000
    return math.inf if vectors_end_at_256_bits() else 30_000


def trainer_arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of Lightning's Trainer for the `trainer` settings, on this machine and under its launcher.

    Raises:
        ConfigError: As `check_machine`.
    """
    arguments = {key: value for key, value in settings.items() if key not in _OWN_SETTINGS}
    devices, nodes = _devices_and_nodes(settings)
    launch = launched()
    if launch is not None and launch.launcher == "SLURM":
        # `runs.checkpointing` queues the job again, from a newer checkpoint than Lightning's.
        arguments["plugins"] = [SLURMEnvironment(auto_requeue=False)]
    return {
        **arguments,
        "devices": devices,
        "num_nodes": nodes,
        "strategy": _strategy(settings["strategy"]),
        # `Execution` converts the student to bfloat16; Lightning would also convert heads, statistics and latents.
        "precision": "32-true" if settings["precision"] == "bf16-true" else settings["precision"],
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
    }


def root_device(settings: Mapping[str, Any]) -> torch.device:
    """The device of this process under the settings."""
    trainer = Trainer(**trainer_arguments(settings), logger=False, enable_checkpointing=False)
    return trainer.strategy.root_device


def check_machine(
    settings: Mapping[str, Any],
    batch_size: int,
    validation_faces: int | None = None,
    has_batch_norm: Callable[[], bool] = lambda: False,
) -> None:
    """Refuses settings that do not fit this machine or the launcher of this process.

    Args:
        settings: The `trainer` node.
        batch_size: Global batch size.
        validation_faces: Number of faces of the validation.
        has_batch_norm: Whether the student has batch normalization; asked only where parts hold one image.

    Raises:
        ConfigError: With the key, the value and the fix.
    """
    gpus, precision = num_gpus(), settings["precision"]
    wants_gpu = settings["accelerator"] in ("gpu", "cuda", "mps")
    if wants_gpu and not gpus:
        raise ConfigError(
            f"trainer.accelerator={settings['accelerator']}: this machine has no GPU; choose strategy=cpu, or "
            "strategy=ddp_cpu for several processes"
        )
    on_gpu = bool(gpus) and settings["accelerator"] != "cpu"
    if precision == "16-mixed" and not on_gpu:
        raise ConfigError(
            "trainer.precision=16-mixed: float16 trains on a GPU only; choose bf16-mixed or 32-true"
        )
    if (
        precision.startswith("bf16")
        and on_gpu
        and torch.cuda.is_available()
        and not torch.cuda.is_bf16_supported(including_emulation=False)
    ):
        raise ConfigError(
            f"trainer.precision={precision}: {torch.cuda.get_device_name()} has no bfloat16; choose 16-mixed or 32-true"
        )
    devices, nodes = _devices_and_nodes(settings)
    if on_gpu and devices > gpus:
        raise ConfigError(
            f"trainer.devices={devices}: this machine has {gpus} GPU(s); set trainer.devices={gpus}"
        )
    processes, parts = devices * nodes, settings.get("accumulate_grad_batches", 1)
    if batch_size % processes:
        raise ConfigError(
            f"data.batch_size={batch_size}: must be a multiple of the {processes} processes, so that each has an equal "
            "share"
        )
    if batch_size % (processes * parts):
        raise ConfigError(
            f"data.batch_size={batch_size}: must be a multiple of {processes} process(es) x "
            f"trainer.accumulate_grad_batches={parts}, so that all parts are equal"
        )
    if validation_faces is not None and validation_faces < processes:
        raise ConfigError(
            f"data.validation.faces={validation_faces}: less than one face for each of the {processes} processes; set "
            f"data.validation.faces={processes} or more"
        )
    together = batch_size // parts if settings.get("sync_batchnorm") else batch_size // (parts * processes)
    if together == 1 and has_batch_norm():
        raise ConfigError(
            f"data.batch_size={batch_size}: {processes} process(es) x trainer.accumulate_grad_batches={parts} leave 1 image "
            "at a time, and the student's batch normalization needs 2 or more; raise data.batch_size"
        )


def runs_on_cuda(settings: Mapping[str, Any]) -> bool:
    """Whether training runs on a CUDA GPU of this machine."""
    return torch.cuda.is_available() and settings["accelerator"] in ("auto", "gpu", "cuda")


def num_processes(settings: Mapping[str, Any]) -> int:
    """Processes of the run, on all machines."""
    devices, nodes = _devices_and_nodes(settings)
    return devices * nodes


def num_gpus() -> int:
    """Number of GPUs visible to this process."""
    return torch.cuda.device_count() or int(torch.backends.mps.is_available())


def _devices_and_nodes(settings: Mapping[str, Any]) -> tuple[int, int]:
    """Processes on this machine, and machines; the launcher decides what the settings leave open."""
    devices, nodes, launch = settings.get("devices", 1), settings.get("num_nodes"), launched()
    is_open = devices in ("auto", -1, "-1")
    gpus = num_gpus() if settings["accelerator"] != "cpu" else 0
    if launch is None:
        return (max(1, gpus) if is_open else int(devices)), nodes or 1
    if is_open and launch.launcher == "SLURM" and launch.per_node < gpus:
        raise ConfigError(
            f"trainer.devices={devices}: SLURM started {launch.per_node} task(s) on this machine, which has {gpus} GPUs; "
            f"ask for --ntasks-per-node={gpus}, or set trainer.devices={launch.per_node}"
        )
    devices = launch.per_node if is_open else int(devices)
    nodes = launch.nodes if nodes is None else nodes
    if (devices, nodes) != (launch.per_node, launch.nodes):
        raise ConfigError(
            f"trainer.devices={devices}: {launch.launcher} started {launch.per_node} process(es) on each of "
            f"{launch.nodes} machine(s), and the configuration wants {devices} on {nodes}; start as many, or choose a "
            f"strategy and trainer.devices={launch.per_node} that fit"
        )
    return devices, nodes


def _strategy(name: str) -> str | Strategy:
    if name == "ddp":
        # Buffers are equal in all processes already, and CRD's memory banks can be gigabytes.
        return DDPStrategy(broadcast_buffers=False)
    if name == "fsdp":
        # Buffers (thresholds, centers, memory banks) need float32; autocast takes care of the rest. All modules form one
        # unit, because methods use a head's weight outside the head's forward.
        float32 = MixedPrecision(
            param_dtype=torch.float32, reduce_dtype=torch.float32, buffer_dtype=torch.float32
        )
        return FSDPStrategy(sharding_strategy="SHARD_GRAD_OP", mixed_precision=float32)
    return name
