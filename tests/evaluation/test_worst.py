"""The worst errors and their picture."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from facedistill.evaluation.benchmark import run_protocols
from facedistill.evaluation.protocols.archives import FolderArchive
from facedistill.evaluation.protocols.base import PairsProtocol
from facedistill.evaluation.protocols.images import ArrayImages
from facedistill.evaluation.protocols.pairs import pairs_protocol, parse_lfw_pairs
from facedistill.evaluation.worst import worst_errors, write_worst_errors
from tests.evaluation.protocols.miniature_benchmark import Averages, lfw_list, write_lfw


def test_the_most_confident_errors_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    score = torch.tensor([0.9, 0.1, 0.2, 0.8, 0.6, 0.7, 0.3, 0.5])
    same = torch.tensor([1, 1, 1, 0, 0, 0, 0, 0]).bool()
    accepts, rejects = worst_errors(score, same, 0.5)
    assert accepts.tolist() == [3, 5, 4, 7]  # a score on the threshold is accepted
    assert rejects.tolist() == [1, 2]
    assert worst_errors(score, same, 0.5 + 1e-12)[0].tolist() == [3, 5, 4]  # compared in float64
    monkeypatch.setattr("facedistill.evaluation.worst._MOST", 1)
    assert [x.tolist() for x in worst_errors(score, same, 0.5)] == [[3], [1]]


def test_the_picture_shows_the_faces_of_the_errors(tmp_path: Path) -> None:
    colors = torch.tensor([[250, 10, 10], [10, 250, 10], [10, 10, 250], [240, 240, 10]], dtype=torch.uint8)
    faces = ArrayImages(colors[:, :, None, None].expand(4, 3, 112, 112).contiguous())
    same = torch.tensor([False, True, True])
    protocol = PairsProtocol(
        "x", faces, torch.tensor([0, 2, 0]), torch.tensor([1, 3, 2]), same, torch.arange(3)
    )
    path = tmp_path / "worst" / "x.student.jpg"
    write_worst_errors(path, protocol, torch.tensor([0.8, 0.1, 0.9]), 0.5)
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    for color, shown in zip(colors.tolist(), (True, True, True, True), strict=True):
        near = (np.abs(pixels - color).max(axis=2) < 30).sum()
        assert (near > 10_000) == shown  # 112 x 112 = 12,544 pixels
    assert pixels[60, 20].tolist()[0] > 200  # false accepts come first


def test_a_picture_without_errors_has_no_faces(tmp_path: Path) -> None:
    faces = ArrayImages(torch.zeros(2, 3, 112, 112, dtype=torch.uint8))
    pair = torch.tensor([0]), torch.tensor([1])
    protocol = PairsProtocol("x", faces, *pair, torch.tensor([True]), torch.tensor([0]))
    write_worst_errors(tmp_path / "x.jpg", protocol, torch.tensor([0.9]), 0.5)
    assert (np.asarray(Image.open(tmp_path / "x.jpg")) < 60).mean() < 0.1  # text alone


def test_one_picture_per_pairs_protocol(tmp_path: Path) -> None:
    protocol = pairs_protocol("lfw", FolderArchive(write_lfw(tmp_path)), parse_lfw_pairs(lfw_list(), ""))
    worst = tmp_path / "run" / "worst"
    run_protocols(Averages(), [protocol], role="student", worst_dir=worst, resamples=5, quiet=True)
    assert [path.name for path in worst.iterdir()] == ["lfw.student.jpg"]
