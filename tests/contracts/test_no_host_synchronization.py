"""A training step gives a GPU its work and waits for nothing: on the meta device for every method, and on a GPU if there is one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.utilities import move_data_to_device
from torch import Tensor

from facedistill.config import compose
from facedistill.data.augment import Augment
from facedistill.data.module import FaceDataModule
from facedistill.data.sources.rendered import RenderedFaces
from facedistill.methods.synthdistill import SynthDistill
from facedistill.models.generators import FaceGenerator
from facedistill.runs.checkpointing import FiniteOnly
from facedistill.runs.sources import instantiate
from tests.contracts.test_every_method import METHODS, SIZE, N, build
from tests.helpers.no_waits import META, DeviceOnly, NothingWaits, autocast_on_meta
from tests.helpers.tiny_networks import TinyBackbone, TinyGenerator, TinyTeacher
from tests.helpers.trainers import quiet_trainer
from tests.models.generators.tiny_generator import write_tiny_generator

WAITS = {"triplet_distillation": "how many triplets there are depends on the embeddings"}
CONSTANTS = ("ekd",)  # copied to the device in the first step


def prepared(method: Any, source: Any, device: torch.device) -> Any:
    """A method and its optimizer on `device`, with a trainer that only passes things on."""
    method.to(device).train()
    if method.teacher is not None:
        getattr(method.teacher, "network", method.teacher).to(device)
    data = FaceDataModule(
        source, torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8), batch_size=N, images=10 * N
    )
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad])
    method._trainer = SimpleNamespace(datamodule=data, world_size=1, optimizers=[optimizer], strategy=None)
    method.log = logged
    return data


def logged(name: str, value: Any, **settings: Any) -> None:
    """What Lightning does not read before it writes the row: a tensor that is not on its progress bar."""
    assert isinstance(value, Tensor), name
    assert not settings, name


def step(method: Any, data: Any, raw: Any) -> None:
    """All that a training step does, from the raw batch on the device to the checks after the update."""
    optimizer, finite = method._trainer.optimizers[0], FiniteOnly()
    loss = method.training_step(data.on_after_batch_transfer(raw, 0), 0)
    optimizer.zero_grad()
    loss.backward()
    method.configure_gradient_clipping(optimizer, 1.0)
    optimizer.step()
    trainer: Any = SimpleNamespace(precision="32-true", global_step=1, log_every_n_steps=10)
    finite.on_train_batch_end(trainer, method, loss, None, 0)


def prepared_method(name: str, device: torch.device) -> tuple[Any, Any, Any]:
    method, source = build(name)
    data = prepared(method, source, device)
    raw = move_data_to_device(source.raw(0, batch_size=N), device)
    if name in CONSTANTS:
        method._said = {"genuine", "impostor"}  # it looks at its counts in every hundredth step only
        step(method, data, raw)
    return method, data, raw


@pytest.mark.parametrize("name", METHODS)
def test_a_step_of_a_method_waits_for_nothing(name: str) -> None:
    with autocast_on_meta():
        method, data, raw = prepared_method(name, META)
        with NothingWaits(), pytest.raises(AssertionError) if name in WAITS else nullcontext():
            step(method, data, raw)


def test_synthdistills_loop_waits_for_nothing(tmp_path: Path) -> None:
    """The agreement on a fresh batch stays on the device, and the resampled batch is made of it there."""
    generator = FaceGenerator(write_tiny_generator(tmp_path), exit=64, compile=False, micro_batch=N)
    method, source, data = synthdistill(META, generator)
    with autocast_on_meta():
        for number in range(2):
            raw = move_data_to_device(source.raw(number, batch_size=N), META)
            with NothingWaits():
                step(method, data, raw)
    assert source._agreement.device == META


@pytest.mark.parametrize("name", ["light", "photo", "photo_strong"])
def test_an_augmentation_waits_for_nothing(name: str) -> None:
    augment = instantiate(compose("train", [f"augment={name}"]).data.source.augment)
    source = RenderedFaces(TinyGenerator().to(META), seed=0, resampling="static", augment=augment)
    data = FaceDataModule(source, torch.empty(0), batch_size=64, images=6400)
    first, second = (move_data_to_device(source.raw(number, batch_size=64), META) for number in range(2))
    data.on_after_batch_transfer(first, 0)  # constants go to the device in the first step
    with NothingWaits(), DeviceOnly() as given:
        assert data.on_after_batch_transfer(second, 0).images.device == META
    assert given.operations < 210


def synthdistill(device: torch.device, generator: Any, augment: Any = None) -> tuple[Any, Any, Any]:
    source = RenderedFaces(generator.to(device), seed=0, augment=augment)
    method = SynthDistill(student=TinyBackbone(), teacher=TinyTeacher(), optimizer=torch.optim.Adam)
    return method, source, prepared(method, source, device)


@pytest.mark.parametrize(
    "waits",
    [
        lambda x: x[0].item(), lambda x: x[x > 0], lambda x: x.unique(), lambda x: x.cpu(), lambda x: x.tolist(),
        lambda x: x + torch.ones(4).to(META), lambda x: x[torch.arange(2)], lambda x: x.copy_(torch.ones(4)), lambda x: bool(x.sum() > 0), lambda x: x.nonzero(),
        lambda x: x.index_put_((x > 0,), torch.zeros(2, device=META)), lambda x: torch.ones(4)[x.long()],
    ],
)  # fmt: skip
def test_the_mode_refuses_what_waits(waits: Any) -> None:
    values = torch.ones(4, device=META)
    with NothingWaits(), pytest.raises(AssertionError):
        waits(values)


@pytest.mark.skipif(torch.__version__ < "2.15", reason="older versions make such tensors unseen by a mode")
@pytest.mark.parametrize("waits", [lambda x: x * torch.tensor([2.0], device=META), lambda x: x[[0, 1]]])
def test_the_mode_refuses_numbers_of_the_host(waits: Any) -> None:
    test_the_mode_refuses_what_waits(waits)


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@contextmanager
def cuda_refuses_to_wait() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.fixture
def float32_products() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


@needs_gpu
@pytest.mark.usefixtures("float32_products")
@pytest.mark.parametrize("name", ["light", "photo", "photo_strong"])
def test_an_augmentation_on_a_gpu_waits_for_nothing_and_is_that_of_a_cpu(name: str) -> None:
    augment = instantiate(compose("train", [f"augment={name}"]).data.source.augment)
    faces = torch.rand(64, 3, 112, 112, generator=torch.Generator().manual_seed(0)) * 2 - 1
    samples, on_gpu = torch.arange(64), faces.cuda()
    augment(on_gpu, seed=0, step=0, samples=samples)
    with cuda_refuses_to_wait():
        changed = augment(on_gpu, seed=0, step=0, samples=samples)
    gap = (changed.cpu() - augment(faces, seed=0, step=0, samples=samples)).abs()
    assert gap.mean() < 2e-3  # JPEG rounds a few coefficients the other way


@needs_gpu
@pytest.mark.parametrize("name", METHODS)
def test_a_step_of_a_method_waits_for_nothing_on_a_gpu(name: str) -> None:
    method, data, raw = prepared_method(name, torch.device("cuda"))
    step(method, data, raw)
    with cuda_refuses_to_wait(), pytest.raises(RuntimeError) if name in WAITS else nullcontext():
        step(method, data, raw)


class RefusesWaits(Callback):
    """From the fifth to the ninth step, everything in Lightning's loop included."""

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        torch.cuda.set_sync_debug_mode("error" if 3 <= batch_idx < 8 else "default")


@needs_gpu
def test_a_run_waits_for_nothing_on_a_gpu() -> None:
    method, source, data = synthdistill(torch.device("cuda"), TinyGenerator(), Augment(scale=0.1, gray=0.5))
    del method.log
    trainer = quiet_trainer(10, accelerator="gpu", devices=1, callbacks=[RefusesWaits()])
    try:
        trainer.fit(method, datamodule=data)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert source._agreement.device.type == "cuda"
