"""dlib's ResNet: its stream read strictly, its arithmetic written again, its chip laid onto the crop."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from facedistill.errors import AssetError
from facedistill.models.cost import count_params
from facedistill.models.teachers import DlibResNet, FrozenTeacher
from facedistill.models.teachers.dlib_file import read_dlib
from facedistill.models.teachers.dlib_resnet import convert
from facedistill.models.teachers.golden import draw_faces
from facedistill.types import InputSpec
from tests.helpers.assets import asset_or_skip
from tests.models.teachers.dlib_layout import BLOCKS, MEANS, Weights, dlib_bytes, random_weights

NAME = "dlib_face_recognition_resnet_model_v1.dat"


@pytest.fixture(scope="module")
def drawn() -> tuple[Weights, Tensor]:
    return random_weights()


@pytest.fixture(scope="module")
def file(drawn: tuple[Weights, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dlib") / NAME
    path.write_bytes(dlib_bytes(*drawn))
    return path


def chips(images: Tensor) -> Tensor:
    """Bilinear sampling pixel by pixel: x112 = (x150 + 9.543) / 1.5187, y112 = (y150 + 32.660) / 1.5187."""
    out = torch.empty(*images.shape[:2], 150, 150, dtype=torch.float64)
    for row in range(150):
        y = min((row + 32.660) / 1.5187, 111.0)
        top = int(y)
        below = min(top + 1, 111)
        for column in range(150):
            x = min((column + 9.543) / 1.5187, 111.0)
            left = int(x)
            right = min(left + 1, 111)
            upper, lower = (
                images[:, :, line, left] * (1 - (x - left)) + images[:, :, line, right] * (x - left)
                for line in (top, below)
            )
            out[:, :, row, column] = upper * (1 - (y - top)) + lower * (y - top)
    return out


def reference(weights: Weights, linear: Tensor, images: Tensor) -> Tensor:
    """dlib's layers in float64, affine layers kept apart, zero-padded sums by index."""

    def convolve(maps: Tensor, number: int, stride: int, padding: int) -> Tensor:
        weight, bias, gain, offset = (t.double() for t in weights[number])
        maps = F.conv2d(maps, weight, bias, stride, padding)
        return maps * gain.view(1, -1, 1, 1) + offset.view(1, -1, 1, 1)

    maps = (chips(images.double()) - torch.tensor(MEANS, dtype=torch.float64).view(1, 3, 1, 1)) / 256
    maps = F.max_pool2d(convolve(maps, 0, 2, 0).relu(), 3, 2)
    for number, (_, stride) in enumerate(BLOCKS):
        inner = convolve(convolve(maps, 1 + 2 * number, stride, 2 - stride).relu(), 2 + 2 * number, 1, 1)
        kept = F.avg_pool2d(maps, 2) if stride == 2 else maps
        total = torch.zeros(
            [len(maps), *(max(a, b) for a, b in zip(inner.shape[1:], kept.shape[1:], strict=True))]
        )
        total = total.double()
        for part in (inner, kept):
            total[:, : part.shape[1], : part.shape[2], : part.shape[3]] += part
        maps = total.relu()
    return maps.mean((2, 3)) @ linear.double().T


def test_equals_dlibs_arithmetic_in_float64(drawn: tuple[Weights, Tensor], file: Path) -> None:
    network = DlibResNet().eval()
    network.load_state_dict(convert({NAME: file}))
    images = (draw_faces(2) + 1) * 127.5
    with torch.no_grad():
        found = network(images)
    expected = reference(*drawn, images)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_params(file: Path) -> None:
    # 29 layers: 28 3x3 convolutions and the stem with biases, and the linear layer
    widths = [32, *(width for width, _ in BLOCKS)]
    pairs = pairwise(widths)
    blocks = sum(9 * a * b + b + 9 * b * b + b for a, b in pairs)
    assert count_params(DlibResNet()) == 49 * 3 * 32 + 32 + blocks + 256 * 128


def test_reads_the_stream(drawn: tuple[Weights, Tensor], file: Path) -> None:
    content = read_dlib(file)
    assert content.size_px == 150
    assert content.means == pytest.approx(MEANS, abs=1e-4)
    kinds = [layer.kind for layer in content.layers]
    assert (kinds.count("con"), kinds.count("affine"), kinds.count("add_prev"), kinds[-1]) == (
        29,
        29,
        14,
        "fc",
    )
    assert torch.equal(content.layers[0].values[:-32], drawn[0][0][0].flatten())


def test_a_damaged_file_is_refused(file: Path, tmp_path: Path) -> None:
    whole = file.read_bytes()
    path = tmp_path / "cut.dat"
    for content in (
        b"",
        whole[:3],
        whole[:100],
        whole[:5000],
        whole[:-1],
        b"\x01\x02" + whole[2:],
        b"<html>" * 99,
    ):
        path.write_bytes(content)
        with pytest.raises(
            AssetError,
            match=r"^cut\.dat is damaged or not dlib's face recognition network \(at byte \d+\); give dlib_face",
        ):
            convert({"cut.dat": path})


def test_a_stream_that_claims_more_than_there_is(file: Path, tmp_path: Path) -> None:
    content = bytearray(file.read_bytes())
    at = content.index(b"con_4") + 5
    content[at : at + 2] = b"\x01\x02"
    content[at + 2 : at + 5] = b"\x08" + b"\xff" * 2  # sides of 2^63
    path = tmp_path / "huge.dat"
    path.write_bytes(bytes(content))
    with pytest.raises(AssetError, match="is damaged or not dlib's face recognition network"):
        convert({"huge.dat": path})


def test_another_network(drawn: tuple[Weights, Tensor], file: Path, tmp_path: Path) -> None:
    content = file.read_bytes()
    end = content.rindex(b"\x01\x04fc_2")
    path = tmp_path / "other.dat"
    path.write_bytes(content[:end])
    with pytest.raises(AssetError) as caught:
        convert({"other.dat": path})
    assert str(caught.value) == f"other.dat is another dlib network; give {NAME}"


@pytest.mark.assets
def test_the_published_file() -> None:
    weights = asset_or_skip("dlib_resnet")
    teacher = FrozenTeacher(DlibResNet(), weights, InputSpec(mean=0.0, std=1.0))
    norms = teacher(draw_faces(4)).norm(dim=1)
    assert ((norms > 1.2) & (norms < 1.6)).all()  # assets.md: about 1.43 on photographs
