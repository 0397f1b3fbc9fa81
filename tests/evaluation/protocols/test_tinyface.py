"""MATLAB files of a synthetic TinyFace: damaged, and too large when decompressed."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from facedistill.errors import DataError
from facedistill.evaluation.protocols import tinyface
from facedistill.evaluation.protocols.tinyface import read_mat
from tests.evaluation.protocols.miniature_identification import write_tinyface


def test_damaged_matlab_files_raise_one_sentence(tmp_path: Path) -> None:
    root = write_tinyface(tmp_path)
    intact = (root / "Testing_Set" / "probe_img_ID_pairs.mat").read_bytes()
    path = tmp_path / "x.mat"
    path.write_bytes(b"\x89HDF" + bytes(200))
    with pytest.raises(DataError) as caught:
        read_mat(path)
    assert str(caught.value).startswith(f"{path}: is not a readable MATLAB file (")
    assert str(caught.value).endswith("); save it with version 7 or download it again")
    rng, refusals = np.random.default_rng(0), []
    for trial in range(300):
        data = bytearray(intact[: rng.integers(len(intact))] if trial % 2 else intact)
        for at in rng.integers(0, max(1, len(data)), 4):
            data[at : at + 1] = rng.bytes(1)
        path.write_bytes(data)
        refusals.append(refusal(path))
    assert None in refusals  # some changes hit names or numbers only
    assert all(
        text is None or text.startswith(f"{path}: is not a readable MATLAB file (") for text in refusals
    )


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_matlab_file_may_not_decompress_beyond_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    monkeypatch.setattr(tinyface, "_MAX_BYTES", 2**20)
    path = tmp_path / "x.mat"
    savemat(path, {"a": np.zeros(2**19, np.uint8), "b": np.ones(2**18, np.uint8)}, do_compression=True)
    assert read_mat(path)["b"].sum() == 2**18
    savemat(path, {"a": np.zeros(2**19, np.uint8), "b": np.zeros(2**19, np.uint8)}, do_compression=True)
    assert path.stat().st_size < 2**13
    if order == ">":  # the byte order of the outer headers
        data = bytearray(path.read_bytes())
        size = int.from_bytes(data[132:136], "little")
        data[126:128], data[128:136] = b"MI", (15).to_bytes(4, "big") + size.to_bytes(4, "big")
        at = 136 + size
        data[at : at + 8] = (15).to_bytes(4, "big") + int.from_bytes(
            data[at + 4 : at + 8], "little"
        ).to_bytes(4, "big")
        path.write_bytes(data)
    message = (
        r"x.mat: is not a readable MATLAB file \(more than 1 MiB when decompressed\); save it with version 7"
    )
    with pytest.raises(DataError, match=message):
        read_mat(path)


def refusal(path: Path) -> str | None:
    try:
        read_mat(path)
    except DataError as error:
        return str(error)
    return None
