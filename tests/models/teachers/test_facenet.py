"""FaceNet: both makers' names, the frozen graph's bytes, and the arithmetic written again from TensorFlow's names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from facedistill.errors import AssetError
from facedistill.models.cost import count_params
from facedistill.models.teachers import FaceNet
from facedistill.models.teachers.facenet import convert
from facedistill.models.teachers.golden import draw_faces
from facedistill.models.teachers.graph_def import read_constants

ROOT = "InceptionResnetV1"
STEM = (("Conv2d_1a_3x3", 32, 3), ("Conv2d_2a_3x3", 32, 32), ("Conv2d_2b_3x3", 64, 32))
STEM2 = (("Conv2d_3b_1x1", 80, 64), ("Conv2d_4a_3x3", 192, 80), ("Conv2d_4b_3x3", 256, 192))


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def message(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def node(name: str, tensor: Tensor | None) -> bytes:
    body = message(1, name.encode()) + message(2, b"Const" if tensor is not None else b"Identity")
    if tensor is not None:
        shape = b"".join(message(2, varint(1 << 3) + varint(side)) for side in tensor.shape)
        proto = (
            varint(1 << 3) + varint(1) + message(2, shape) + message(4, tensor.contiguous().numpy().tobytes())
        )
        body += message(5, message(1, b"dtype") + message(2, varint(6 << 3) + varint(1)))
        body += message(5, message(1, b"value") + message(2, message(8, proto)))
    return message(1, body)


def scopes() -> Iterator[tuple[str, tuple[int, ...], bool]]:
    """Scope, shape of its weights (TensorFlow's order), and whether biases follow; in the graph's order."""
    for name, width, before in (*STEM, *STEM2):
        side = int(name[-1])
        yield name, (side, side, before, width), False
    for block in range(1, 6):
        at = f"Repeat/block35_{block}"
        yield f"{at}/Branch_0/Conv2d_1x1", (1, 1, 256, 32), False
        for branch, last in ((1, ("0b",)), (2, ("0b", "0c"))):
            yield f"{at}/Branch_{branch}/Conv2d_0a_1x1", (1, 1, 256, 32), False
            for letter in last:
                yield f"{at}/Branch_{branch}/Conv2d_{letter}_3x3", (3, 3, 32, 32), False
        yield f"{at}/Conv2d_1x1", (1, 1, 96, 256), True
    yield "Mixed_6a/Branch_0/Conv2d_1a_3x3", (3, 3, 256, 384), False
    for name, shape in (
        ("0a_1x1", (1, 1, 256, 192)),
        ("0b_3x3", (3, 3, 192, 192)),
        ("1a_3x3", (3, 3, 192, 256)),
    ):
        yield f"Mixed_6a/Branch_1/Conv2d_{name}", shape, False
    for at, width, inner, long in [
        *((f"Repeat_1/block17_{block}", 896, 128, 7) for block in range(1, 11)),
        ("MIXED_7A", 0, 0, 0),
        *((f"Repeat_2/block8_{block}", 1792, 192, 3) for block in range(1, 6)),
        ("Block8", 1792, 192, 3),
    ]:
        if not width:
            for branch, last in ((0, 384), (1, 256)):
                yield f"Mixed_7a/Branch_{branch}/Conv2d_0a_1x1", (1, 1, 896, 256), False
                yield f"Mixed_7a/Branch_{branch}/Conv2d_1a_3x3", (3, 3, 256, last), False
            yield "Mixed_7a/Branch_2/Conv2d_0a_1x1", (1, 1, 896, 256), False
            yield "Mixed_7a/Branch_2/Conv2d_0b_3x3", (3, 3, 256, 256), False
            yield "Mixed_7a/Branch_2/Conv2d_1a_3x3", (3, 3, 256, 256), False
            continue
        yield f"{at}/Branch_0/Conv2d_1x1", (1, 1, width, inner), False
        yield f"{at}/Branch_1/Conv2d_0a_1x1", (1, 1, width, inner), False
        yield f"{at}/Branch_1/Conv2d_0b_1x{long}", (1, long, inner, inner), False
        yield f"{at}/Branch_1/Conv2d_0c_{long}x1", (long, 1, inner, inner), False
        yield f"{at}/Conv2d_1x1", (1, 1, 2 * inner, width), True
    yield "Bottleneck", (1792, 512), False


@pytest.fixture(scope="module")
def constants() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    found: dict[str, Tensor] = {}
    for scope, shape, biases in scopes():
        width, inputs = shape[-1], torch.Size(shape[:-1]).numel()
        found[f"{ROOT}/{scope}/weights"] = torch.randn(shape, generator=generator) / inputs**0.5
        if biases:
            found[f"{ROOT}/{scope}/biases"] = 0.1 * torch.randn(width, generator=generator)
            continue
        found[f"{ROOT}/{scope}/BatchNorm/beta"] = 0.1 * torch.randn(width, generator=generator)
        found[f"{ROOT}/{scope}/BatchNorm/moving_mean"] = 0.1 * torch.randn(width, generator=generator)
        found[f"{ROOT}/{scope}/BatchNorm/moving_variance"] = 0.5 + torch.rand(width, generator=generator)
    return found


@pytest.fixture(scope="module")
def graph(constants: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("facenet") / "frozen.pb"
    parts = [node("image_batch", None)]
    for name, tensor in constants.items():
        parts += [node(name, tensor), node(f"{name}/read", None)]
    path.write_bytes(b"".join(parts))
    return path


def reference(constants: dict[str, Tensor], images: Tensor) -> Tensor:
    """The network's layers in float64 from TensorFlow's names; "SAME" keeps the size, "VALID" pads nothing."""

    def linear(maps: Tensor, scope: str, stride: int = 1, same: bool = True) -> Tensor:
        weight = constants[f"{ROOT}/{scope}/weights"].double().permute(3, 2, 0, 1)
        padding = (weight.shape[2] // 2, weight.shape[3] // 2) if same else 0
        bias = constants.get(f"{ROOT}/{scope}/biases")
        return F.conv2d(maps, weight, None if bias is None else bias.double(), stride, padding)

    def norm(maps: Tensor, scope: str) -> Tensor:
        beta, mean, variance = (
            constants[f"{ROOT}/{scope}/BatchNorm/{name}"].double()
            for name in ("beta", "moving_mean", "moving_variance")
        )
        shape = (1, -1) + (1,) * (maps.ndim - 2)
        return (maps - mean.view(shape)) / (variance.view(shape) + 1e-3).sqrt() + beta.view(shape)

    def conv(maps: Tensor, scope: str, stride: int = 1, same: bool = True) -> Tensor:
        return norm(linear(maps, scope, stride, same), scope).relu()

    def residual(maps: Tensor, at: str, scale: float, names: tuple[tuple[str, ...], ...]) -> Tensor:
        parts = []
        for branch, layers in enumerate(names):
            y = maps
            for layer in layers:
                y = conv(y, f"{at}/Branch_{branch}/Conv2d_{layer}")
            parts.append(y)
        return maps + scale * linear(torch.cat(parts, 1), f"{at}/Conv2d_1x1")

    x = conv(images, "Conv2d_1a_3x3", 2, False)
    x = conv(conv(x, "Conv2d_2a_3x3", same=False), "Conv2d_2b_3x3")
    x = conv(conv(F.max_pool2d(x, 3, 2), "Conv2d_3b_1x1", same=False), "Conv2d_4a_3x3", same=False)
    x = conv(x, "Conv2d_4b_3x3", 2, False)
    for block in range(1, 6):
        layers = (("1x1",), ("0a_1x1", "0b_3x3"), ("0a_1x1", "0b_3x3", "0c_3x3"))
        x = residual(x, f"Repeat/block35_{block}", 0.17, layers).relu()
    y = conv(conv(x, "Mixed_6a/Branch_1/Conv2d_0a_1x1"), "Mixed_6a/Branch_1/Conv2d_0b_3x3")
    y = conv(y, "Mixed_6a/Branch_1/Conv2d_1a_3x3", 2, False)
    x = torch.cat([conv(x, "Mixed_6a/Branch_0/Conv2d_1a_3x3", 2, False), y, F.max_pool2d(x, 3, 2)], 1)
    for block in range(1, 11):
        x = residual(x, f"Repeat_1/block17_{block}", 0.1, (("1x1",), ("0a_1x1", "0b_1x7", "0c_7x1"))).relu()
    parts = []
    for branch in range(3):
        at = f"Mixed_7a/Branch_{branch}"
        y = conv(x, f"{at}/Conv2d_0a_1x1")
        y = conv(y, f"{at}/Conv2d_0b_3x3") if branch == 2 else y
        parts.append(conv(y, f"{at}/Conv2d_1a_3x3", 2, False))
    x = torch.cat([*parts, F.max_pool2d(x, 3, 2)], 1)
    long = (("1x1",), ("0a_1x1", "0b_1x3", "0c_3x1"))
    for block in range(1, 6):
        x = residual(x, f"Repeat_2/block8_{block}", 0.2, long).relu()
    x = residual(x, "Block8", 1.0, long).mean((2, 3))
    return norm(x @ constants[f"{ROOT}/Bottleneck/weights"].double(), "Bottleneck")


def test_equals_the_graphs_arithmetic_in_float64(constants: dict[str, Tensor], graph: Path) -> None:
    network = FaceNet().eval().double()
    network.load_state_dict(convert({"frozen.pb": graph}))
    images = F.interpolate(draw_faces(1).double(), size=160, mode="bilinear")
    with torch.no_grad():
        found = network(images)
    expected = reference(constants, images)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9 * float(expected.abs().max()))


def test_reads_the_graphs_constants(constants: dict[str, Tensor], graph: Path) -> None:
    found = read_constants(graph)
    assert list(found) == list(constants)
    assert all(torch.equal(found[key], constants[key]) for key in constants)


@pytest.mark.slow
def test_facenet_pytorchs_file_without_its_classifier(graph: Path, tmp_path: Path) -> None:
    state = convert({"frozen.pb": graph})
    assert "repeat_1.0.branch2.1.bn.running_var" in state  # as facenet-pytorch's released files name it
    assert "mixed_7a.branch2.2.conv.weight" in state
    torch.save(
        state | {"logits.weight": torch.zeros(9, 512), "logits.bias": torch.zeros(9)},
        tmp_path / "vggface2.pt",
    )
    again = convert({"vggface2.pt": tmp_path / "vggface2.pt"})
    assert all(torch.equal(again[key], state[key]) for key in state)
    del state["block8.conv2d.bias"]
    torch.save(state, tmp_path / "vggface2.pt")
    with pytest.raises(AssetError) as caught:
        convert({"vggface2.pt": tmp_path / "vggface2.pt"})
    assert str(caught.value) == (
        "vggface2.pt does not fit FaceNet: it lacks block8.conv2d.bias; give weights of this network"
    )


def test_params() -> None:
    assert count_params(FaceNet()) / 1e6 == pytest.approx(
        23.48, abs=0.02
    )  # facenet-pytorch without logits: 23.48 M


def test_a_damaged_graph(tmp_path: Path) -> None:
    path = tmp_path / "cut.pb"
    for content in (node("x/weights", torch.zeros(9))[:-7], b"\xff" * 30, b"<html>" * 20):
        path.write_bytes(content)
        with pytest.raises(AssetError) as caught:
            convert({"cut.pb": path})
        assert str(caught.value) == "cut.pb is truncated or not a frozen TensorFlow graph; fetch it again"
    path.write_bytes(node("x/weights", torch.zeros(2)))
    with pytest.raises(AssetError) as caught:
        convert({"cut.pb": path})
    assert str(caught.value) == (
        "cut.pb has 0 layers of InceptionResnetV1 where FaceNet has 133; give 20180402-114759.pb"
    )
