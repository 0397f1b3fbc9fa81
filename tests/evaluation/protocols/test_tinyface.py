"""A drawn TinyFace against a loop, and damaged .mat files."""

from pathlib import Path

import numpy as np
import pytest

from facedistill.errors import DataError
from facedistill.evaluation.protocols.tinyface import read_mat
from tests.evaluation.protocols.miniature_identification import write_tinyface


def test_damaged_matlab_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    root = write_tinyface(tmp_path)
    whole = (root / "Testing_Set" / "probe_img_ID_pairs.mat").read_bytes()
    path = tmp_path / "x.mat"
    path.write_bytes(b"\x89HDF" + bytes(200))
    with pytest.raises(DataError) as caught:
        read_mat(path)
    assert str(caught.value).startswith(f"{path}: is not a readable MATLAB file (")
    assert str(caught.value).endswith("); save it with version 7 or download it again")
    rng, refusals = np.random.default_rng(0), []
    for trial in range(300):
        data = bytearray(whole[: rng.integers(len(whole))] if trial % 2 else whole)
        for at in rng.integers(0, max(1, len(data)), 4):
            data[at : at + 1] = rng.bytes(1)
        path.write_bytes(data)
        refusals.append(refusal(path))
    assert None in refusals  # some changes hit names or numbers only
    assert all(
        text is None or text.startswith(f"{path}: is not a readable MATLAB file (") for text in refusals
    )


def refusal(path: Path) -> str | None:
    try:
        read_mat(path)
    except DataError as error:
        return str(error)
    return None
