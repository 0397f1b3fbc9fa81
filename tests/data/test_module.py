"""How validation faces are divided among processes."""

from itertools import product

import pytest
import torch

from facedistill.data.module import FaceDataModule


class InProcess(FaceDataModule):
    """One of several processes."""

    place = (0, 1)

    def _rank_and_world_size(self):
        return self.place


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_each_process_validates_as_many_batches_and_each_face_once(world_size):
    for images, batch in product(range(world_size, 40), (world_size, 2 * world_size)):
        data = InProcess(None, torch.arange(images), batch_size=batch, images=batch)
        batches = []
        for rank in range(world_size):
            data.place = (rank, world_size)
            batches += data.val_dataloader()
            assert len(batches) == (rank + 1) * -(-images // (batch * world_size))
        assert sorted(torch.cat(batches).tolist()) == list(range(images))
        assert all(0 < len(faces) <= batch for faces in batches)
