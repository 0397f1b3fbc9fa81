"""The ONNX file embeds as the student, says what it wants, and betrays nothing of this machine."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from facedistill.errors import AssetError, DataError, UserError
from facedistill.export import Embedder, check_parity, export_onnx, save_student
from facedistill.export import onnx as onnx_export
from facedistill.export.student import KEY
from facedistill.models.backbones import Backbone, MobileFaceNet, TinyFaR

FACTS = {"run_id": "abc123"}


def trained(backbone: Backbone) -> Backbone:
    """The backbone with the statistics of a batch of images; with the initial ones, faces are embedded alike."""
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    ramp = torch.linspace(-1, 1, 112).expand(1, 3, 112, 112)
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        backbone.train()(torch.cat([noise(5), ramp]))
    for norm in norms:
        norm.momentum = 0.1
    return backbone


def noise(num_images: int) -> Tensor:
    return torch.rand(num_images, 3, 112, 112, generator=torch.Generator().manual_seed(4)) * 2 - 1


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    torch.manual_seed(0)
    return trained(MobileFaceNet("tface", embedding_dim=32)).train()


@pytest.fixture(scope="module")
def path(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "student.onnx"
    export_onnx(backbone, path, FACTS)
    return path


@pytest.fixture(scope="module")
def weights(backbone: Backbone, path: Path) -> Path:
    save_student(backbone, path.with_suffix(".safetensors"), FACTS)
    return path.with_suffix(".safetensors")


def test_passes_the_gate(backbone: Backbone, path: Path) -> None:
    assert check_parity(backbone, path, noise(5)) > 0.999999
    assert backbone.training  # neither export nor gate puts it to sleep


@pytest.mark.slow
@pytest.mark.parametrize(
    "other", [TinyFaR("c", 16), MobileFaceNet("insightface", 16)], ids=lambda b: type(b).__name__
)
def test_every_kind_of_backbone_passes_the_gate(other: Backbone, tmp_path: Path) -> None:
    export_onnx(trained(other), tmp_path / "s.onnx", FACTS)
    assert check_parity(other, tmp_path / "s.onnx", noise(3)) > 0.999999


def test_takes_any_batch(path: Path) -> None:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for num_images in (1, 2, 7):
        assert session.run(None, {"images": noise(num_images).numpy()})[0].shape == (num_images, 32)


def test_carries_its_contract_and_its_history(path: Path, backbone: Backbone) -> None:
    model = onnx.load(path)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["input_contract"] == (
        "RGB aligned faces of 112x112 px, float32 (N, 3, H, W), (x - 127.5) / 127.5 of values 0..255"
    )
    assert properties["embedding_dim"] == "32"
    description = json.loads(properties["facedistill"])
    assert description["backbone"] == {"class": "MobileFaceNet", "arguments": dict(backbone.arguments)}
    assert description["metadata"] == FACTS
    assert [(value.name,) for value in (*model.graph.input, *model.graph.output)] == [
        ("images",),
        ("embeddings",),
    ]


def test_tells_no_path_of_this_machine(path: Path) -> None:
    content = path.read_bytes()
    for text in (str(Path(torch.__file__).parent), str(Path(onnx_export.__file__).parents[2]), "stack_trace"):
        assert text.encode() not in content


def test_holds_its_weights_itself(path: Path) -> None:
    assert [entry.name for entry in path.parent.glob("student.onnx*")] == ["student.onnx"]
    assert path.stat().st_size > 4 * 900_000


def test_the_gate_refuses_another_student(path: Path, backbone: Backbone) -> None:
    torch.manual_seed(9)
    with pytest.raises(UserError) as caught:
        check_parity(trained(MobileFaceNet("tface", embedding_dim=32)), path, noise(2))
    assert str(caught.value).startswith(f"{path} does not embed as its student does (least cosine ")
    assert str(caught.value).endswith(", needed 0.99999); do not use the file, export it again")


def test_the_gate_refuses_what_is_not_a_number(path: Path, backbone: Backbone) -> None:
    with pytest.raises(UserError, match="least cosine nan"):
        check_parity(backbone, path, noise(2) * float("nan"))


def test_the_gate_refuses_files_that_are_no_graph(tmp_path: Path, backbone: Backbone) -> None:
    broken = tmp_path / "broken.onnx"
    with pytest.raises(AssetError) as caught:
        check_parity(backbone, broken, noise(1))
    assert str(caught.value) == f"{broken} does not exist; give the path of an ONNX file"
    broken.write_bytes(b"not a graph")
    with pytest.raises(AssetError) as caught:
        check_parity(backbone, broken, noise(1))
    assert str(caught.value) == f"{broken} is truncated or not an ONNX file; export it again"


def test_a_path_that_cannot_be_written(
    path: Path, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The export itself takes seconds; what follows it is what is tested here.
    class Program:
        model_proto = onnx.load(path)

    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: Program)
    with pytest.raises(UserError, match="cannot be written"):
        export_onnx(backbone, path / "inside.onnx", FACTS)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("faces")
    pixels = ((noise(3) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    paths = [folder / "a.png", folder / "b.jpg", folder / "c.png"]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image).save(path)
    return paths


def test_both_files_embed_alike(path: Path, weights: Path, files: list[Path], backbone: Backbone) -> None:
    from_onnx, from_torch = Embedder(path), Embedder(weights)
    assert from_onnx.embedding_dim == from_torch.embedding_dim == 32
    embeddings = from_torch.embed(files)
    torch.testing.assert_close(from_onnx.embed(files, batch_size=2), embeddings, rtol=0, atol=1e-5)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))
    pixels = np.asarray(Image.open(files[0])).astype(np.float32)
    image = torch.from_numpy((pixels - 127.5) / 127.5).permute(2, 0, 1)[None]  # the contract, by hand
    with torch.no_grad():
        expected = torch.nn.functional.normalize(backbone.eval()(image))
    backbone.train()
    torch.testing.assert_close(embeddings[:1], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("pixels", ["rgb", "bgr"])
def test_a_file_of_pixels_gets_pixels(path: Path, tmp_path: Path, pixels: str) -> None:
    """A graph that returns the mean of each channel of its uint8 input."""
    shapes = {"images": ["N", 112, 112, 3], "embeddings": ["N", 3]}
    kinds = {"images": onnx.TensorProto.UINT8, "embeddings": onnx.TensorProto.FLOAT}
    ends = [onnx.helper.make_tensor_value_info(name, kinds[name], shape) for name, shape in shapes.items()]
    nodes = [
        onnx.helper.make_node("Cast", ["images"], ["floats"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("ReduceMean", ["floats"], ["embeddings"], axes=[1, 2], keepdims=0),
    ]
    graph = onnx.helper.make_graph(nodes, "means", ends[:1], ends[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    notes = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    description = {**json.loads(notes[KEY]), "embedding_dim": 3}
    onnx.helper.set_model_props(model, {"pixels": pixels, KEY: json.dumps(description)})
    onnx.save(model, tmp_path / "student.onnx")
    Image.new("RGB", (112, 112), (200, 100, 0)).save(tmp_path / "face.png")
    (found,) = Embedder(tmp_path / "student.onnx").embed([tmp_path / "face.png"])
    expected = torch.tensor([200.0, 100.0, 0.0] if pixels == "rgb" else [0.0, 100.0, 200.0])
    torch.testing.assert_close(found, expected / expected.norm())


def test_no_files_no_embeddings(weights: Path) -> None:
    assert Embedder(weights).embed([]).shape == (0, 32)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_every_color_mode_is_read(weights: Path, tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("face.jpg" if mode == "CMYK" else "face.png")
    Image.new(mode, (64, 64)).save(path)
    assert Embedder(weights).embed([path]).isfinite().all()


def test_refuses_what_is_no_aligned_face(weights: Path, files: list[Path], tmp_path: Path) -> None:
    embedder = Embedder(weights)

    def message_of(path: Path) -> str:
        with pytest.raises(DataError) as caught:
            embedder.embed([files[0], path])
        return str(caught.value)

    path = tmp_path / "face.png"
    assert message_of(path) == f"{path} does not exist; give the path of a jpg or png image"
    Image.new("RGB", (112, 96)).save(path)
    assert message_of(path) == (
        f"{path} is 112x96 px and not a square aligned face; align it first with `facedistill data align`"
    )
    for content, what in (
        (files[0].read_bytes()[:2000], "is cut short or damaged (image file is truncated)"),
        (b"GIF89a", "is no JPEG, PNG, WebP or BMP image"),
        (b"", "has zero bytes"),
    ):
        path.write_bytes(content)
        assert message_of(path) == f"{path} {what}; replace or remove it"
    assert message_of(tmp_path) == f"{tmp_path} cannot be read (Is a directory); give a jpg or png file"


def test_refuses_files_that_are_no_student(path: Path, tmp_path: Path) -> None:
    with pytest.raises(AssetError) as caught:
        Embedder(tmp_path / "student.pt")
    assert str(caught.value) == (
        f"{tmp_path / 'student.pt'} is no student; "
        "give a .safetensors or .onnx file that facedistill exported"
    )
    foreign = onnx.load(path)
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    with pytest.raises(AssetError, match=r"foreign\.onnx carries no facedistill description"):
        Embedder(tmp_path / "foreign.onnx")
