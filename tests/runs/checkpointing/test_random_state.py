import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from facedistill.errors import UserError
from facedistill.runs.checkpointing import LastCheckpoint
from facedistill.runs.checkpointing.random_state import random_states, restore


def _draw():
    return torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random(), np.random.standard_normal()


def test_restored_generators_repeat_their_numbers(tmp_path):
    np.random.standard_normal()  # draws a pair and caches the second number
    (state,) = random_states()
    torch.save(state, tmp_path / "state")
    expected = _draw()
    restore(torch.load(tmp_path / "state", weights_only=True))
    assert _draw() == expected


def _trainer(processes):
    return SimpleNamespace(world_size=processes, global_rank=0, is_global_zero=True)


def test_another_number_of_processes_is_a_warning(tmp_path, capsys):
    callback = LastCheckpoint(tmp_path / "last.ckpt", every_images=1)
    callback.on_load_checkpoint(_trainer(1), None, {"random_states": random_states() * 2})
    message = capsys.readouterr().err
    assert message.startswith(
        f"{tmp_path / 'last.ckpt'} was made by 2 process(es) and this run has 1: faces and losses are the same"
    )


def test_another_number_of_processes_is_refused_if_each_replays_its_own_faces(tmp_path):
    callback = LastCheckpoint(tmp_path / "last.ckpt", every_images=1, own_state="data.source.replay")
    with pytest.raises(
        UserError, match=r"made by 2 process\(es\) and this run has 1: with data.source.replay each keeps"
    ):
        callback.on_load_checkpoint(_trainer(1), None, {"random_states": random_states() * 2})
