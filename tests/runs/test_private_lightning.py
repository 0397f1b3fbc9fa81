"""The private attributes of Lightning that facedistill replaces, and that no release promises to keep."""

from __future__ import annotations

import pytest
from lightning.pytorch import Trainer

REPLACED = ("_signal_connector.register_signal_handlers",)  # runs/train.py


@pytest.mark.parametrize("path", REPLACED)
def test_lightning_still_has_what_is_replaced(path):
    trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", barebones=False)
    value = trainer
    for name in path.split("."):
        assert hasattr(value, name), (
            f"Trainer.{path} is gone in this release of lightning; replace it in facedistill/runs/train.py, "
            "then raise the upper bound in pyproject.toml"
        )
        value = getattr(value, name)
    assert callable(value)
