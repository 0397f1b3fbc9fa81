import errno

import pytest
import torch

from facedistill.checkpointing import LastCheckpoint, check_readable
from facedistill.errors import UserError


class FullDisk:
    """A trainer whose disk fills up while it writes."""

    is_global_zero = True

    def save_checkpoint(self, path):
        path.write_bytes(b"half a checkpoint")
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_the_last_good_checkpoint_and_one_sentence(tmp_path):
    path = tmp_path / "last.ckpt"
    path.write_bytes(b"good")
    with pytest.raises(UserError) as caught:
        LastCheckpoint(path, every_images=1)._save(FullDisk(), None)
    assert str(caught.value) == (
        f"cannot write the checkpoint {path} (No space left on device); the last good one stays: free some space and "
        "give the same command again to continue from it"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]
    assert path.read_bytes() == b"good"


@pytest.mark.parametrize("cut", [0, 10, 600])
def test_a_torn_checkpoint_is_named(tmp_path, cut):
    path = tmp_path / "last.ckpt"
    torch.save({"weight": torch.zeros(100)}, path)
    check_readable(path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError) as caught:
        check_readable(path)
    assert str(caught.value) == f"{path} is damaged and cannot be continued; force=true starts the run over"
