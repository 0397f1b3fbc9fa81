"""Settings that do not fit the machine or the launcher are refused before anything is loaded."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch.strategies import FSDPStrategy

from facedistill.config import compose
from facedistill.errors import ConfigError
from facedistill.runs import strategies
from facedistill.runs.assembly import has_batch_norm, settings_of
from facedistill.runs.strategies import check_machine, execution, launched, trainer_arguments
from tests.helpers.errors import error_message

TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0"}


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """A machine without a GPU, outside any launcher."""
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "SLURM_JOB_NAME"):
        monkeypatch.delenv(name, raising=False)
    _gpus(monkeypatch, 0)


def _gpus(monkeypatch, number):
    monkeypatch.setattr(strategies, "num_gpus", lambda: number)


def _torchrun(monkeypatch, per_node, nodes=1):
    sizes = {"LOCAL_WORLD_SIZE": str(per_node), "WORLD_SIZE": str(per_node * nodes)}
    for name, value in {**TORCHRUN, **sizes}.items():
        monkeypatch.setenv(name, value)


def _slurm(monkeypatch, tasks, per_node=None):
    values = {"SLURM_NTASKS": str(tasks), "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
    values |= {"SLURM_NTASKS_PER_NODE": str(per_node)} if per_node else {}
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def _settings(*overrides):
    config = compose("train", overrides)
    return settings_of(config), config.data.batch_size


def _refused(*overrides):
    return error_message(ConfigError, check_machine, *_settings(*overrides))


@pytest.mark.parametrize("strategy", ["auto", "cpu", "ddp_cpu"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
def test_cpu_runs_every_precision(strategy, precision):
    check_machine(*_settings(f"strategy={strategy}", f"trainer.precision={precision}"))


@pytest.mark.parametrize("strategy", ["gpu", "ddp", "fsdp"])
def test_gpu_strategies_need_a_gpu(strategy):
    assert _refused(f"strategy={strategy}") == (
        "trainer.accelerator=gpu: this machine has no GPU; choose strategy=cpu, or strategy=ddp_cpu for several processes"
    )


@pytest.mark.parametrize("strategy", ["auto", "cpu"])
def test_float16_needs_a_gpu(strategy):
    assert _refused(f"strategy={strategy}", "trainer.precision=16-mixed") == (
        "trainer.precision=16-mixed: float16 trains on a GPU only; choose bf16-mixed or 32-true"
    )


def test_more_devices_than_gpus(monkeypatch):
    _gpus(monkeypatch, 2)
    assert _refused("strategy=ddp", "trainer.devices=4") == (
        "trainer.devices=4: this machine has 2 GPU(s); set trainer.devices=2"
    )


@pytest.mark.parametrize(("overrides", "sentence"), [
    (["data.batch_size=9"],
     "data.batch_size=9: must be a multiple of the 2 processes, so that each has an equal share"),
    (["data.batch_size=12", "trainer.accumulate_grad_batches=4"],
     "data.batch_size=12: must be a multiple of 2 process(es) x trainer.accumulate_grad_batches=4, so that all parts are "
     "equal"),
])  # fmt: skip
def test_batches_that_cannot_be_divided(overrides, sentence):
    assert _refused("strategy=ddp_cpu", *overrides) == sentence


def test_one_image_at_a_time_and_batch_normalization(monkeypatch):
    with_norm, without = ["backbone=tinyfar_c"], ["backbone=timm", "backbone.name=vit_tiny_patch16_224"]
    for overrides, refused in [
        ([*with_norm, "data.batch_size=1"], True),
        ([*with_norm, "data.batch_size=8", "trainer.accumulate_grad_batches=8"], True),
        ([*with_norm, "data.batch_size=2", "strategy=ddp_cpu"], False),  # statistics of both processes
        ([*without, "data.batch_size=1"], False),
    ]:
        config = compose("train", overrides)
        arguments = (*_settings(*overrides), 8, lambda: has_batch_norm(config.backbone))  # noqa: B023
        if refused:
            assert "leave 1 image at a time" in error_message(ConfigError, check_machine, *arguments)
        else:
            check_machine(*arguments)


def test_each_process_has_a_face_to_validate_on(monkeypatch):
    _torchrun(monkeypatch, 4)
    arguments = _settings("strategy=ddp_cpu", "trainer.devices=auto", "data.batch_size=8")
    assert error_message(ConfigError, check_machine, *arguments, 3) == (
        "data.validation.faces=3: less than one face for each of the 4 processes; set data.validation.faces=4 or more"
    )


def test_torchrun_with_another_number_of_processes(monkeypatch):
    _torchrun(monkeypatch, 2)
    check_machine(*_settings("strategy=ddp_cpu"))
    assert _refused("strategy=ddp_cpu", "trainer.devices=4") == (
        "trainer.devices=4: torchrun started 2 process(es) on each of 1 machine(s), and the configuration wants 4 on 1; "
        "start as many, or choose a strategy and trainer.devices=2 that fit"
    )
    assert _refused("strategy=cpu").startswith("trainer.devices=1: torchrun started 2 process(es)")


def test_launcher_decides_unset_devices_and_nodes(monkeypatch):
    _torchrun(monkeypatch, 3, nodes=2)
    settings, _ = _settings("strategy=ddp_cpu", "trainer.devices=auto")
    arguments = trainer_arguments(settings)
    assert (arguments["devices"], arguments["num_nodes"]) == (3, 2)
    with pytest.raises(ConfigError, match="multiple of the 6 processes"):
        check_machine(settings, 32)


def test_slurm(monkeypatch):
    _slurm(monkeypatch, 4, per_node=2)
    assert launched() == strategies.Launch("SLURM", 2, 2)
    (environment,) = trainer_arguments(_settings("strategy=ddp_cpu")[0])["plugins"]
    assert not environment.auto_requeue
    _slurm(monkeypatch, 1, per_node=1)
    assert _refused("strategy=ddp_cpu").startswith("trainer.devices=2: SLURM started 1 process(es)")
    _gpus(monkeypatch, 4)
    assert _refused("strategy=ddp") == (
        "trainer.devices=auto: SLURM started 1 task(s) on this machine, which has 4 GPUs; ask for --ntasks-per-node=4, or "
        "set trainer.devices=1"
    )


def test_slurm_tasks_without_a_number_per_node(monkeypatch):
    _slurm(monkeypatch, 2)
    assert _refused("strategy=ddp_cpu") == (
        "SLURM started 2 tasks without saying how many on each machine; ask for them with --ntasks-per-node instead of "
        "--ntasks"
    )


def test_fsdp_keeps_buffers_in_float32(monkeypatch):
    _gpus(monkeypatch, 2)
    arguments = trainer_arguments(_settings("strategy=fsdp")[0])
    assert isinstance(arguments["strategy"], FSDPStrategy)
    assert str(arguments["strategy"].mixed_precision_config.buffer_dtype) == "torch.float32"
    assert arguments["devices"] == 2


def test_bf16_true_converts_the_student_only():
    settings, _ = _settings("trainer.precision=bf16-true")
    assert trainer_arguments(settings)["precision"] == "32-true"
    assert execution(settings).half


def test_a_long_run_compiles_its_student(monkeypatch):
    settings, _ = _settings()
    assert settings["compile"] is None
    monkeypatch.setattr(strategies, "vectors_end_at_256_bits", lambda: True)
    assert execution(settings, 10**9).compile is False  # it would save nothing
    monkeypatch.setattr(strategies, "vectors_end_at_256_bits", lambda: False)
    for on_gpu, long in ((False, 30_000), (True, 10_000_000)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda on_gpu=on_gpu: on_gpu)
        assert [execution(settings, images).compile for images in (long - 1, long)] == [False, "auto"]
    assert execution(settings, long, eager=True).compile is False
    for changed in ({"strategy": "fsdp"}, {"compile": False}):
        assert execution(settings | changed, long).compile is False
