"""A drawn TinyFace against a loop, and its .mat files against scipy."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from facedistill.errors import DataError
from facedistill.evaluation.benchmark import run_protocols
from facedistill.evaluation.embedder import embed
from facedistill.evaluation.protocols.mat_file import read_mat
from facedistill.evaluation.protocols.places import Place, find_protocol
from facedistill.evaluation.protocols.tinyface import open_tinyface
from tests.evaluation.protocols.miniature_benchmark import Averages
from tests.evaluation.protocols.miniature_identification import write_tinyface


@pytest.mark.parametrize("compress", [True, False])
def test_ranks_are_those_of_a_loop(tmp_path: Path, compress: bool) -> None:
    protocol = open_tinyface(write_tinyface(tmp_path, compress=compress), "tinyface")
    network = Averages()
    figures = run_protocols(network, [protocol], role="student", resamples=20, quiet=True)["tinyface"]
    unit = embed(network, protocol, quiet=True).double().numpy()
    unit /= np.sqrt((unit**2).sum(axis=1, keepdims=True))
    probe, gallery = protocol.probe.tolist(), protocol.gallery.tolist()
    assert (len(probe), len(gallery), protocol.num_images) == (15, 10 + 7, 32)
    ranks = []
    for number, person in enumerate(probe):
        scores = unit[15:] @ unit[number]
        best = max(s for s, g in zip(scores, gallery, strict=True) if g == person)
        ranks.append(1 + sum(s >= best for s, g in zip(scores, gallery, strict=True) if g != person))
    found = figures["identification"]
    assert (found["searches"], found["mated"], found["gallery"]) == (15, 15, 17)
    assert list(found["rank"]) == ["1", "5", "10", "20"]
    for k, entry in found["rank"].items():
        assert entry["rate"] == pytest.approx(np.mean([rank <= int(k) for rank in ranks]))


def test_faces_are_those_of_their_identities(tmp_path: Path) -> None:
    protocol = open_tinyface(write_tinyface(tmp_path), "tinyface")
    names = protocol.image_set.names  # type: ignore[attr-defined]
    for name, person in zip(names, [*protocol.probe.tolist(), *protocol.gallery.tolist()], strict=True):
        if person >= 0:
            assert name.rpartition("/")[2].startswith(f"{person}_")
        else:
            assert name.startswith("Gallery_Distractor/")


def test_the_place_opens_it(tmp_path: Path) -> None:
    write_tinyface(tmp_path)
    found = find_protocol("tinyface", [tmp_path], {"tinyface": Place(("tinyface",), layout="tinyface")})
    assert found.name == "tinyface"


def test_missing_faces_are_counted(tmp_path: Path) -> None:
    root = write_tinyface(tmp_path)
    for name in ("4_probe_0.jpg", "2_probe_1.jpg"):
        (root / "aligned" / "Probe" / name).unlink()
    with pytest.raises(DataError) as caught:
        open_tinyface(root, "tinyface")
    assert str(caught.value) == (
        f"tinyface: 2 of 25 images are missing from {root / 'aligned'}, the first is Probe/2_probe_1; "
        "align all of the published images"
    )


def test_unaligned_originals_are_not_enlarged(tmp_path: Path) -> None:
    root = write_tinyface(tmp_path)
    (root / "aligned").rename(root / "faces")
    with pytest.raises(DataError) as caught:
        open_tinyface(root, "tinyface")
    assert str(caught.value) == (
        f"{root}: has no folder with the faces; put Probe, Gallery_Match and Gallery_Distractor of aligned 112x112 "
        f"faces into {root / 'aligned'}"
    )


def test_no_distractors_is_another_benchmark(tmp_path: Path) -> None:
    root = write_tinyface(tmp_path)
    for path in (root / "aligned" / "Gallery_Distractor").iterdir():
        path.unlink()
    with pytest.raises(
        DataError, match="Gallery_Distractor holds no image; rank-k without distractors is another"
    ):
        open_tinyface(root, "tinyface")


def test_probes_without_mates_are_counted(tmp_path: Path) -> None:
    root = write_tinyface(tmp_path)
    path = root / "Testing_Set" / "probe_img_ID_pairs.mat"
    cells = np.empty((2, 1), dtype=object)
    cells[:, 0] = ["4_probe_0.jpg", "2_probe_0.jpg"]
    savemat(path, {"probe_set": cells, "probe_ids": np.array([[4], [9]])})
    with pytest.raises(DataError) as caught:
        open_tinyface(root, "tinyface")
    assert str(caught.value) == (
        f"{root / 'Testing_Set'}: 1 of 2 probes have no mate in the gallery, the first is Probe/2_probe_0; "
        "take both .mat files from one package"
    ).replace("Probe/", "")


@pytest.mark.parametrize("compress", [True, False])
def test_matlab_files_read_as_scipy_wrote_them(tmp_path: Path, compress: bool) -> None:
    path = tmp_path / "x.mat"
    cells = np.empty((3, 1), dtype=object)
    cells[:, 0] = ["a.jpg", "bc", "a longer name, with 日本"]
    numbers = {
        f"n{kind.__name__}": np.arange(6, dtype=kind).reshape(2, 3)
        for kind in (
            np.int8,
            np.uint8,
            np.int16,
            np.uint16,
            np.int32,
            np.uint32,
            np.int64,
            np.float32,
            np.float64,
        )
    }
    savemat(
        path,
        {"cells": cells, "text": "hello", "skipped": 1j * np.ones(2), **numbers},
        do_compression=compress,
    )
    found = read_mat(path)
    assert found["cells"] == cells[:, 0].tolist()
    assert found["text"] == "hello"
    assert "skipped" not in found
    for name, values in numbers.items():
        np.testing.assert_array_equal(found[name], values)


def test_damaged_matlab_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    root = write_tinyface(tmp_path)
    whole = (root / "Testing_Set" / "probe_img_ID_pairs.mat").read_bytes()
    path = tmp_path / "x.mat"
    path.write_bytes(b"\x89HDF" + bytes(200))
    with pytest.raises(DataError) as caught:
        read_mat(path)
    assert str(caught.value) == (
        f"{path}: is not a readable MATLAB file (it has no version 5 header); save it with version 7 or take it anew"
    )
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
