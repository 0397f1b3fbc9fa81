from types import SimpleNamespace

import pytest
import torch
from torch import nn

from facedistill.errors import UserError
from facedistill.runs.checkpointing import FiniteOnly

NAN = float("nan")


class Method(nn.Linear):
    """A LightningModule as far as the callback needs one."""

    def __init__(self):
        super().__init__(2, 2)


def _trainer(step, precision="32-true", **terms):
    return SimpleNamespace(
        global_step=step, precision=precision, log_every_n_steps=10, world_size=1,
        callback_metrics={name: torch.tensor(value) for name, value in terms.items()},
    )  # fmt: skip


def _step(callback, step, loss, precision="32-true", **terms):
    callback.on_train_batch_end(
        _trainer(step, precision, **terms), Method(), {"loss": torch.tensor(loss)}, None, 0
    )


@pytest.mark.parametrize("bad", [NAN, float("inf")])
def test_message_names_step_method_and_term(bad):
    callback = FiniteOnly()
    _step(callback, 1, 0.5)
    terms = {"train/loss": bad, "train/mse": bad, "train/cosine": 0.5, "val/cosine": NAN}
    with pytest.raises(UserError) as caught:
        _step(callback, 2, bad, **terms)
    assert str(caught.value).startswith(
        f"Method: the loss is not finite at step 2 (loss is {bad}, mse is {bad}); the last good checkpoint stays; "
        "lower optimizer.lr"
    )


def test_half_precision_may_overflow_occasionally():
    callback = FiniteOnly()
    for step in range(1, 20):
        _step(callback, step, NAN, "16-mixed")
    _step(callback, 20, 0.1, "16-mixed")
    for step in range(21, 40):
        _step(callback, step, NAN, "16-mixed")
    with pytest.raises(UserError, match="not finite at step 21; the last"):
        _step(callback, 40, NAN, "16-mixed")


def test_infinite_weights_are_not_saved():
    callback, method = FiniteOnly(), Method()
    callback.on_save_checkpoint(_trainer(7), method, {})
    method.bias.data[1] = NAN
    with pytest.raises(UserError, match="Method: the weights bias are no longer finite after step 7"):
        callback.on_save_checkpoint(_trainer(7), method, {})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_losses_are_checked_when_terms_are_logged():
    callback = FiniteOnly()
    for step in range(1, 10):
        callback.on_train_batch_end(
            _trainer(step), Method(), {"loss": torch.tensor(NAN if step > 3 else 1.0).cuda()}, None, 0
        )
    with pytest.raises(UserError, match="at step 4; the last"):
        callback.on_train_batch_end(_trainer(10), Method(), {"loss": torch.tensor(NAN).cuda()}, None, 0)
