"""Every exported format embeds as the student does, takes any batch, and says what it wants."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from facedistill.errors import ConfigError, UserError
from facedistill.evaluation.protocols.base import PairsProtocol
from facedistill.evaluation.protocols.images import ArrayImages
from facedistill.evaluation.thresholds import Threshold, parse_thresholds
from facedistill.export.formats import FORMATS, NOTES, NUM_CALIBRATION, Export, find_format
from facedistill.export.gate import Row, as_text, check, compare
from facedistill.export.onnx import TracingError, onnx_model
from facedistill.export.pixels import PIXELS, PixelInput, Pixels, as_input
from facedistill.images import to_float
from facedistill.metrics.confidence import mean_interval
from facedistill.models.backbones import Backbone, TinyFaR
from facedistill.models.backbones.own import OwnBackbone, register
from facedistill.models.imported import ImportedBackbone
from facedistill.types import InputSpec
from tests.helpers.errors import error_message


def pixel_images(number: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(4)
    return to_float(torch.randint(256, (number, 3, 112, 112), generator=generator, dtype=torch.uint8))


FITTED = Threshold("lfw", 1e-3, 0.30000000000000004, 0.95, (0.94, 0.96), 3000, 3000)


@pytest.fixture(scope="module")
def student() -> Backbone:
    torch.manual_seed(2)
    return TinyFaR("c", 16).eval()


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_pixel_input_gives_the_unit_embeddings_of_the_scaled_image(student: Backbone, order: Pixels) -> None:
    images = pixel_images(3)
    assert order != "float"
    found = PixelInput(student, student.input_spec, order)(as_input(images, order))
    expected = nn.functional.normalize(student(images))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_network_trained_on_bgr_gets_bgr() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 12, bias=False))
    nn.init.eye_(network[1].weight)
    pixels = torch.zeros(1, 2, 2, 3, dtype=torch.uint8)
    pixels[..., 0] = 255  # red
    found = PixelInput(network, InputSpec(size_px=2, color="BGR", mean=0.0), "rgb")(pixels)
    assert found[0, :8].abs().max() == 0
    assert (found[0, 8:] == 0.5).all()


@pytest.mark.slow
@pytest.mark.parametrize("pixels", PIXELS)
@pytest.mark.parametrize("name", [name for name, kind in FORMATS.items() if kind.is_exact])
def test_exact_formats_embed_as_the_student(
    name: str, pixels: Pixels, student: Backbone, tmp_path: Path
) -> None:
    kind = find_format(name)
    path = tmp_path / f"student{kind.suffix}"
    export = Export(student, {"run": "r"}, pixels, pixel_images(4), [FITTED])
    kind.write(export, path)
    rows = compare(student, kind.open(path), pixel_images(5), [])
    check(path, rows, is_exact=True, allowed_loss=0, least_cosine=kind.least_cosine)
    assert kind.open(path)(pixel_images(64)).shape == (64, 16)
    assert kind.open(path).notes == export.notes


def test_a_file_says_how_to_feed_it_and_its_thresholds(student: Backbone) -> None:
    notes = Export(student, {}, "bgr", pixel_images(1), [FITTED]).notes
    assert tuple(notes) == NOTES
    assert notes["input_contract"].startswith("BGR aligned faces of 112x112 px, uint8")
    assert parse_thresholds(notes, "student") == [FITTED]


class Branching(nn.Module):
    """A network that torch cannot trace."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        means = images.mean((2, 3))
        return 2 * means if means.sum() > 1 else means


@pytest.mark.parametrize(
    "name", ["torch-export", *(pytest.param(n, marks=pytest.mark.slow) for n in ("onnx", "openvino"))]
)
def test_a_network_of_the_users_that_torch_cannot_trace_is_one_sentence(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    own = OwnBackbone(register(Branching()), "Branching", 3)
    for network, called in ((ImportedBackbone(Branching(), "mine.Net", {}), "mine.Net"), (own, "Branching")):
        message = error_message(
            TracingError,
            find_format(name).write,
            Export(network, {}, "float", pixel_images(1)),
            tmp_path / "f",
        )
        assert message.startswith(
            f"backbone: torch cannot trace {called} (GuardOnDataDependentSymNode: Could not guard"
        )
        assert "\n" not in message
    assert capfd.readouterr() == ("", "")
    assert not (tmp_path / "f").exists()


def test_a_graph_for_one_batch_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exporter's last resort for a network of the user's."""
    import onnx

    images = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [2, 3, 112, 112])
    model = onnx.helper.make_model(onnx.helper.make_graph([], "graph", [images], [images]))
    monkeypatch.setattr(torch.onnx, "export", lambda *parts, **options: SimpleNamespace(model_proto=model))
    network = ImportedBackbone(Branching(), "mine.Net", {})
    assert error_message(TracingError, onnx_model, network, {}).startswith(
        "backbone: torch cannot trace mine.Net (RuntimeError: the graph takes one batch size only); "
    )


@pytest.mark.slow
def test_float16_is_half_the_size_and_finite_for_long_embeddings(student: Backbone, tmp_path: Path) -> None:
    long = copy.deepcopy(student)
    with torch.no_grad():
        for parameter in list(long.parameters())[-2:]:
            parameter *= 300 / student(pixel_images(4)).norm(dim=1).mean()  # a squared norm is no float16
    for name in ("onnx", "onnx-fp16"):
        find_format(name).write(Export(long, {}, "rgb", pixel_images(1)), tmp_path / name)
    assert (tmp_path / "onnx-fp16").stat().st_size < 0.55 * (tmp_path / "onnx").stat().st_size
    rows = compare(long, find_format("onnx-fp16").open(tmp_path / "onnx-fp16"), pixel_images(4), [])
    check(tmp_path / "x", rows, is_exact=True, allowed_loss=0, least_cosine=0.999)


@pytest.mark.slow
def test_int8_is_a_quarter_of_the_size_and_close(student: Backbone, tmp_path: Path) -> None:
    kind, faces = find_format("onnx-int8"), pixel_images(NUM_CALIBRATION + 8)
    path = tmp_path / "student.int8.onnx"
    kind.write(Export(student, {}, "float", faces), path)
    find_format("onnx").write(Export(student, {}, "float", faces), tmp_path / "float.onnx")
    assert path.stat().st_size < 0.45 * (tmp_path / "float.onnx").stat().st_size
    assert compare(student, kind.open(path), faces[NUM_CALIBRATION:], [])[0].mean_cosine > 0.98


def test_the_check_refuses_other_embeddings(student: Backbone, tmp_path: Path) -> None:
    rows = compare(student, lambda_network(lambda images: student(images).flip(1)), pixel_images(2), [])
    with pytest.raises(UserError, match="does not embed as its student does"):
        check(tmp_path / "student.onnx", rows, is_exact=True, allowed_loss=0)


def test_the_check_refuses_embeddings_that_are_no_numbers(student: Backbone, tmp_path: Path) -> None:
    rows = compare(student, lambda_network(lambda images: student(images) * torch.nan), pixel_images(2), [])
    with pytest.raises(UserError, match="does not embed"):
        check(tmp_path / "student.onnx", rows, is_exact=False, allowed_loss=1)


def test_the_check_refuses_a_loss_of_accuracy_and_tells_its_interval(tmp_path: Path) -> None:
    rows = [Row("faces", 0, 0.99, 0.9), Row("cfp_fp", 7000, 0.99, 0.9, (0.90, 0.89), loss=(0.004, 0.016))]
    message = error_message(UserError, check, tmp_path / "s.onnx", rows, is_exact=False, allowed_loss=0.003)
    assert message == (
        "s.onnx has 89.00 % on cfp_fp where the student has 90.00 % (95 % interval of the loss: 0.40 to 1.60 points); "
        "it was not kept; --allowed-loss admits more than 0.3 points"
    )
    check(tmp_path / "s.onnx", rows, is_exact=False, allowed_loss=0.011)
    assert as_text(rows).splitlines()[-1].split()[-6:] == ["90.00", ">", "89.00", "0.40", "to", "1.60"]


def test_the_loss_is_of_the_same_pairs() -> None:
    """The exported network is wrong in one pair of 4 in two of three folds."""
    wrong = [0, 4]
    scores = [torch.tensor([1.0, 1.0, 0.0, 0.0] * 3), torch.tensor([1.0, 1.0, 0.0, 0.0] * 3)]
    scores[1][wrong] = -1
    protocol = Scored(
        "pairs",
        ArrayImages(torch.zeros(2, 3, 112, 112, dtype=torch.uint8)),
        torch.zeros(12).long(),
        torch.ones(12).long(),
        torch.tensor([1, 1, 0, 0] * 3).bool(),
        torch.arange(12) // 4,
    )
    object.__setattr__(protocol, "scores", scores)
    row = compare(lambda_network(_flat), lambda_network(_flat), pixel_images(1), [protocol])[1]
    assert row.accuracy == (1, pytest.approx(10 / 12))
    assert row.loss == pytest.approx(mean_interval(torch.tensor([0.25, 0.25, 0.0])))


class Scored(PairsProtocol):
    """Pairs with given scores."""

    def score(self, embeddings: torch.Tensor) -> torch.Tensor:
        return self.scores.pop(0)  # type: ignore[attr-defined]


def _flat(images: torch.Tensor) -> torch.Tensor:
    return images.flatten(1)[:, :4] + torch.arange(len(images))[:, None] + 1


def test_an_unknown_format_is_named() -> None:
    with pytest.raises(ConfigError, match="--format tflite: must be one of onnx, onnx-fp16, onnx-int8"):
        find_format("tflite")


def lambda_network(run: object) -> nn.Module:
    class Network(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return run(images)  # type: ignore[operator]

    return Network()
