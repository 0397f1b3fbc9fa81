"""A real Lightning fit of SynthDistill on small stand-ins, against the paper's loop written out."""

from __future__ import annotations

import copy
import functools
import os
import signal

import pytest
import torch
from lightning.pytorch import Callback

from facedistill.data.augment import Augment
from facedistill.data.module import FaceDataModule
from facedistill.data.sources.rendered import RenderedFaces
from facedistill.methods.schedules import StepDecay, WarmupCosine
from facedistill.methods.synthdistill import SynthDistill
from facedistill.models.latents import draw_latents
from tests.helpers.trainers import quiet_trainer

BATCH, LR = 8, 1e-2


def _parts(student, teacher, generator, *, steps, pool=None, **source):
    stream = RenderedFaces(generator, seed=3, **source)
    if pool is not None and stream.pool is not None:
        stream.pool.open(pool)
    faces = torch.randint(0, 256, (4, 3, 112, 112), dtype=torch.uint8)
    data = FaceDataModule(stream, faces, batch_size=BATCH, images=BATCH * steps)
    optimizer = functools.partial(torch.optim.Adam, lr=LR)
    schedule = StepDecay(every_images=3 * BATCH, gamma=0.5)
    method = SynthDistill(
        student=copy.deepcopy(student), teacher=teacher, optimizer=optimizer, schedule=schedule
    )
    return method, data


def _fit(method, data, *, stop_after=None, path=None, resume=None, every_images=10**9, watchers=()):
    trainer = quiet_trainer(
        stop_after or data.num_steps, checkpoint=path, every_images=every_images, callbacks=watchers,
        limit_val_batches=None, val_check_interval=2, check_val_every_n_epoch=None,
    )  # fmt: skip
    trainer.fit(method, datamodule=data, ckpt_path=resume, weights_only=True)
    return trainer


def test_two_optimizer_steps_per_drawn_batch_as_in_the_paper(tiny_student, tiny_teacher, tiny_generator):
    method, data = _parts(tiny_student, tiny_teacher, tiny_generator, steps=6, spread="isotropic")
    _fit(method, data)

    student = copy.deepcopy(tiny_student).train()
    optimizer = torch.optim.Adam(student.parameters(), lr=LR)
    for iteration in range(3):
        indices = iteration * BATCH + torch.arange(BATCH)
        w = tiny_generator.map(draw_latents(3, "fresh", indices, 8))
        for half in range(2):
            for group in optimizer.param_groups:
                group["lr"] = LR * 0.5 ** ((2 * iteration + half) // 3)
            images = tiny_generator.render(w)
            embedding, target = student(images), tiny_teacher(images)
            loss = ((embedding - target) ** 2).sum() / (BATCH * 6)
            coefficient = (torch.cosine_similarity(embedding, target).detach() + 1) / 2  # before the update
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            w = w + coefficient[:, None] * 1.0 * draw_latents(3, "resample", indices, 8)
    for name, expected in student.state_dict().items():
        assert torch.allclose(method.student.state_dict()[name], expected, atol=1e-5), name
    assert method.images_seen == 6 * BATCH


@pytest.mark.parametrize("stop_after", [4, 5])
@pytest.mark.parametrize(
    "source", [{}, {"resampling": "static"}, {"replay": 2, "pool_images": 20, "augment": Augment()}]
)
def test_resume_is_exact(tiny_student, tiny_teacher, tiny_generator, tmp_path, stop_after, source):
    def parts(name):
        return _parts(tiny_student, tiny_teacher, tiny_generator, steps=9, pool=tmp_path / name, **source)

    whole, data = parts("whole.pool")
    _fit(whole, data)
    first, data = parts("cut.pool")
    _fit(first, data, stop_after=stop_after, path=tmp_path / "last.ckpt")
    second, data = parts("cut.pool")
    trainer = _fit(second, data, resume=tmp_path / "last.ckpt")
    assert trainer.global_step == 9
    assert second.images_seen == whole.images_seen == 9 * BATCH
    for name, expected in whole.student.state_dict().items():
        assert torch.equal(second.student.state_dict()[name], expected), name


class At(Callback):
    """Does something in the middle of a step."""

    def __init__(self, step, action):
        self.step, self.action = step, action

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if trainer.global_step == self.step:
            self.action()


def _crash():
    raise RuntimeError("power failure")


@pytest.mark.parametrize(("action", "stopped_by"), [
    (_crash, RuntimeError),  # resumes from the checkpoint of step 4
    (lambda: os.kill(os.getpid(), signal.SIGINT), SystemExit),  # finishes its step and saves
    (lambda: os.kill(os.getpid(), signal.SIGTERM), SystemExit),
])  # fmt: skip
def test_resume_is_exact_wherever_the_run_was_cut(
    tiny_student, tiny_teacher, tiny_generator, tmp_path, action, stopped_by
):
    def parts(name):
        source = {"replay": 1, "pool_images": 20}
        return _parts(tiny_student, tiny_teacher, tiny_generator, steps=11, pool=tmp_path / name, **source)

    whole, data = parts("whole.pool")
    _fit(whole, data)
    first, data = parts("cut.pool")
    path = tmp_path / "last.ckpt"
    handlers = signal.getsignal(signal.SIGTERM)
    with pytest.raises(stopped_by):
        _fit(first, data, path=path, every_images=4 * BATCH, watchers=[At(6, action)])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Lightning leaves it ignored
    assert signal.getsignal(signal.SIGTERM) == handlers
    saved = torch.load(path, weights_only=True)["global_step"]
    assert saved == (4 if stopped_by is RuntimeError else 7)
    second, data = parts("cut.pool")
    _fit(second, data, resume=path)
    assert second.images_seen == 11 * BATCH
    for name, expected in whole.student.state_dict().items():
        assert torch.equal(second.student.state_dict()[name], expected), name


def test_checkpoint_holds_no_teacher_and_loads_with_weights_only(
    tiny_student, tiny_teacher, tiny_generator, tmp_path
):
    method, data = _parts(tiny_student, tiny_teacher, tiny_generator, steps=2)
    _fit(method, data, path=tmp_path / "last.ckpt")
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert all(name.startswith("student.") for name in checkpoint["state_dict"])
    assert checkpoint["images_seen"] == 2 * BATCH
    assert not list(tmp_path.glob(".*.writing"))


def test_a_student_loaded_asleep_is_woken(tiny_student, tiny_teacher, tiny_generator):
    method, data = _parts(tiny_student.eval(), tiny_teacher, tiny_generator, steps=1)
    before = method.student.layers[3].running_mean.clone()
    _fit(method, data)
    assert not torch.equal(method.student.layers[3].running_mean, before)


def test_it_learns(tiny_student, tiny_teacher, tiny_generator):
    method, data = _parts(tiny_student, tiny_teacher, tiny_generator, steps=150)
    images = tiny_generator.render(tiny_generator.map(draw_latents(99, "held out", torch.arange(64), 8)))
    method.schedule = WarmupCosine(warmup=0.1)

    def agreement():
        with torch.no_grad():
            return torch.cosine_similarity(method.student.eval()(images), tiny_teacher(images)).mean().item()

    before = agreement()
    _fit(method, data)
    assert agreement() > max(0.6, before + 0.3)


def test_schedules_count_images():
    decay = StepDecay(every_images=100, gamma=0.5)
    assert [decay(seen, 300) for seen in (0, 99, 100, 299)] == [1, 1, 0.5, 0.25]
    cosine = WarmupCosine(warmup=0.1, floor=0.2)
    assert cosine(50, 1000) == pytest.approx(0.5)
    assert cosine(100, 1000) == pytest.approx(1)
    assert cosine(550, 1000) == pytest.approx(0.6)
    assert cosine(1000, 1000) == pytest.approx(0.2)
