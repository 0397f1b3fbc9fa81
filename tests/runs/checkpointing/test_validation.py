"""A curve has the row of every validation, wherever the fit is killed."""

import functools

import pytest
import torch
from lightning.pytorch import Callback

from facedistill.data.module import FaceDataModule
from facedistill.data.sources.rendered import RenderedFaces
from facedistill.methods.synthdistill import SynthDistill
from facedistill.runs.loggers import MetricsCsv
from tests.helpers.tiny_networks import TinyBackbone, TinyGenerator, TinyTeacher
from tests.helpers.trainers import quiet_trainer

BATCH, STEPS, EVERY = 4, 6, 2


class Killed(BaseException):
    """What no handler expects."""


class KillsInValidation(Callback):
    """Stops the fit in the validation after `step`, before or after its row is logged; counts validations."""

    def __init__(self, step=None, hook="on_validation_epoch_end"):
        self.validations = 0
        self.step, self.hook = step, hook

    def on_validation_epoch_end(self, trainer, pl_module):
        self.validations += 1
        self._kill("on_validation_epoch_end", trainer)

    def on_validation_end(self, trainer, pl_module):
        self._kill("on_validation_end", trainer)

    def _kill(self, hook, trainer):
        if (hook, trainer.global_step) == (self.hook, self.step):
            raise Killed


def _fit(folder, *kill, every_steps=EVERY):
    """Trains, from the checkpoint in `folder` if there is one; returns the number of validations."""
    folder.mkdir(exist_ok=True)
    torch.manual_seed(2)
    source = RenderedFaces(TinyGenerator(), seed=3, spread="isotropic")
    faces = torch.randint(0, 256, (5, 3, 112, 112), dtype=torch.uint8)
    data = FaceDataModule(source, faces, batch_size=BATCH, images=BATCH * STEPS)
    method = SynthDistill(
        student=TinyBackbone(), teacher=TinyTeacher(), optimizer=functools.partial(torch.optim.SGD, lr=0.1)
    )
    killer, checkpoint = KillsInValidation(*kill), folder / "last.ckpt"
    trainer = quiet_trainer(
        STEPS, checkpoint=checkpoint, every_images=every_steps * BATCH, callbacks=[killer], limit_val_batches=None,
        val_check_interval=EVERY, check_val_every_n_epoch=None, log_every_n_steps=1, logger=MetricsCsv(str(folder)),
    )  # fmt: skip
    resumed = checkpoint if checkpoint.exists() else None
    trainer.fit(method, datamodule=data, ckpt_path=resumed, weights_only=True)
    return killer.validations


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert _fit(folder) == STEPS / EVERY
    return (folder / "metrics.csv").read_text()


@pytest.mark.parametrize(("step", "hook", "validations"), [
    (4, "on_validation_epoch_end", 2),  # that of step 4 again
    (4, "on_validation_end", 1),  # its row is there
    (STEPS, "on_validation_epoch_end", 1),  # the last, of which Lightning resumes nothing
])  # fmt: skip
def test_a_killed_validation_is_done_again(step, hook, validations, whole, tmp_path):
    with pytest.raises(Killed):
        _fit(tmp_path, step, hook)
    if hook == "on_validation_epoch_end":
        assert (tmp_path / "metrics.csv").read_text() != whole
    assert _fit(tmp_path) == validations
    assert (tmp_path / "metrics.csv").read_text() == whole
