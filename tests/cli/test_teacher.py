"""`facedistill teacher add`: names the file, proves the input spec on faces, writes yaml, and never guesses a tie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import timm
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from facedistill.assets import read_card
from facedistill.cli import teacher as teacher_command
from facedistill.cli.teacher import main
from facedistill.config import compose
from facedistill.errors import AssetError, ConfigError, DataError
from facedistill.export import save_student
from facedistill.metrics.decidability import Decidability, decidability
from facedistill.models.backbones import MobileFaceNet, TinyFaR
from facedistill.models.teachers import ArcFaceMobileFaceNet, IResNet
from facedistill.models.teachers.iresnet import convert
from facedistill.models.teachers.recognize import Family, recognize
from facedistill.runs.frozen_networks import load_teacher
from facedistill.runs.new_teacher import choose
from facedistill.types import InputSpec
from tests.evaluation.protocols.miniature_benchmark import write_lfw
from tests.helpers.assets import published_graph_or_skip
from tests.models.teachers.arcface_layout import arcface_state
from tests.models.teachers.dlib_layout import dlib_bytes, random_weights
from tests.models.teachers.test_ir import ir_state
from tests.models.teachers.test_program_teachers import Pooled
from tests.models.teachers.test_vit import vit_state


@pytest.fixture(autouse=True)
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Colored squares for people: 20 of them, two pictures each, without a generator; no benchmark is found."""
    monkeypatch.setenv("FACEDISTILL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("FACEDISTILL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("FACEDISTILL_SHARED", str(tmp_path / "shared"))
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 256, (20, 3, 4, 4), generator=generator)
    base = torch.nn.functional.interpolate(coarse.float(), size=112).to(torch.uint8)
    variation = (
        (base.float() + 40 * torch.randn(base.shape, generator=generator)).clamp(0, 255).to(torch.uint8)
    )
    monkeypatch.setattr(
        "facedistill.runs.new_teacher.probe_faces", lambda identities, quiet: (base, variation)
    )


def color_graph(path: Path) -> Path:
    """D = 16 means of the red channel above 0, after (x - 127.5) / 127.5; knows nobody when fed 0..255 or 0..1."""
    kernel = np.zeros((1, 3, 28, 28), np.float32)
    kernel[0, 0] = 1 / 784
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], strides=[28, 28]),
        helper.make_node("Tanh", ["c"], ["t"]),
        helper.make_node("Flatten", ["t"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 112, 112])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16])],
        [numpy_helper.from_array(kernel, "k")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_a_tie_is_no_guess(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = color_graph(tmp_path / "m.onnx")
    with pytest.raises(ConfigError) as caught:
        main(["add", str(path), "--out", str(tmp_path / "out")])
    said = str(caught.value)
    assert said.startswith("the probe faces cannot tell ")
    assert "(x - 127.5) / 127.5" in said
    assert "(x - 127.5) / 128" in said
    assert "say which, for example --color" in said
    assert "\n" not in said
    assert not (tmp_path / "out").exists()
    assert "best" in capsys.readouterr().out


def test_the_users_word_decides_and_the_yaml_composes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = color_graph(tmp_path / "My Net.onnx"), tmp_path / "out"
    words = [
        "add",
        str(path),
        "--out",
        str(out),
        "--color",
        "BGR",
        "--mean",
        "127.5",
        "--std",
        "128",
        "--licence",
        "ours",
    ]
    assert main(words) == 0
    card = read_card(out / "asset" / "my_net.yaml")
    assert (card.source, card.file, card.licence) == ("file", str(path), "ours")
    config = compose("train", [f"hydra.searchpath=[file://{out}]", "teacher=my_net"])
    assert config.teacher.asset == str(out / "asset" / "my_net.yaml")
    assert dict(config.teacher.input_spec) == {"size_px": 112, "color": "BGR", "mean": 127.5, "std": 128.0}
    assert dict(config.teacher.network) == {
        "_target_": "facedistill.models.teachers.OnnxNetwork",
        "embedding_dim": 16,
    }
    assert "teacher=my_net" in capsys.readouterr().out
    load_teacher(config)
    with pytest.raises(
        ConfigError, match=r"^teacher my_net: with input RGB .* its embeddings differ from its card"
    ):
        load_teacher(
            compose(
                "train",
                [f"hydra.searchpath=[file://{out}]", "teacher=my_net", "teacher.input_spec.color=RGB"],
            )
        )


def test_it_is_measured_on_lfw_where_that_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [
        "add",
        str(color_graph(tmp_path / "m.onnx")),
        "--color",
        "RGB",
        "--mean",
        "127.5",
        "--std",
        "127.5",
    ]
    words += ["--out", str(tmp_path / "out")]
    asked: list[Sequence[str]] = []
    monkeypatch.setattr(teacher_command, "evaluate", asked.append)
    assert main(words) == 0
    assert "name their folder in FACEDISTILL_DATA" in capsys.readouterr().out
    write_lfw(tmp_path / "data")
    with pytest.raises(DataError, match="16 of the 6000 pairs"):  # it is looked for, and looked into
        main(words)
    monkeypatch.setattr("facedistill.runs.protocols.open_configured_protocols", lambda config: (["lfw"], []))
    assert main([*words, "--no-lfw"]) == 0
    assert asked == []
    assert main(words) == 0
    assert asked == [["m", f"hydra.searchpath=[file://{tmp_path / 'out'}]", "evaluation.protocols=[lfw]"]]


def measured(**d_primes: float) -> dict[InputSpec, Decidability]:
    """Decidability of embeddings with less noise for a larger figure; best first."""
    specs = {"rgb": InputSpec(), "rgb128": InputSpec(std=128.0), "bgr": InputSpec(color="BGR")}
    generator = torch.Generator().manual_seed(0)
    base, noise = torch.randn(20, 16, generator=generator), torch.randn(20, 16, generator=generator)
    found = {specs[name]: decidability(base, base + noise / figure) for name, figure in d_primes.items()}
    return dict(sorted(found.items(), key=lambda item: -item[1].d_prime))


def family(spec: InputSpec | None) -> Family:
    return Family("a family", IResNet, convert, 512, {"layers": 18}, input_spec=spec)


def test_the_familys_own_spec_wins_a_tie_only() -> None:
    clear, tie = measured(rgb=10, bgr=0.5), measured(rgb=10, rgb128=10, bgr=0.5)
    assert choose(clear, family(None)) == InputSpec()
    assert choose(tie, family(InputSpec(std=128.0))) == InputSpec(std=128.0)
    assert choose(clear, family(None), InputSpec(color="BGR")) == InputSpec(color="BGR")
    with pytest.raises(ConfigError) as caught:
        choose(clear, family(InputSpec(color="BGR")))
    assert str(caught.value) == (
        "RGB (x - 127.5) / 127.5 tells people apart better than BGR (x - 127.5) / 127.5, which a family is made for; "
        "say which with --color RGB --mean 127.5 --std 127.5 or --color BGR --mean 127.5 --std 127.5"
    )
    with pytest.raises(ConfigError, match="the probe faces cannot tell"):
        choose(tie, family(None))


def test_what_tells_nobody_apart_is_no_teacher() -> None:
    poor = measured(rgb=0.01)
    with pytest.raises(ConfigError) as caught:
        choose(poor, family(InputSpec()))
    said = str(caught.value)
    assert said.startswith(
        "a family: however it is fed, it tells the probe faces apart no better than random weights do (d-prime "
    )
    assert said.endswith("or say how it is fed, for example --color RGB --mean 127.5 --std 127.5")
    assert choose(poor, family(None), InputSpec()) == InputSpec()


def test_recognizes_checkpoints_by_their_keys(tmp_path: Path) -> None:
    def saved(content: dict[str, Tensor]) -> Family:
        torch.save(content, tmp_path / "w.pth")
        return recognize(tmp_path / "w.pth")

    state = arcface_state()
    plain = saved(state)
    assert (plain.title, plain.embedding_dim) == ("arcface_torch IResNet-18", 8)
    assert (plain.arguments, plain.input_spec) == ({"layers": 18, "embedding_dim": 8}, InputSpec())
    magface = saved({f"features.module.{key}": value for key, value in state.items()})
    assert magface.title == "MagFace IResNet-18"
    assert magface.arguments["epsilon"] == 2e-5
    assert magface.input_spec == InputSpec(color="BGR", mean=0.0, std=255.0)
    with pytest.raises(AssetError) as caught:
        saved({"encoder.0.weight": torch.zeros(1)})
    assert str(caught.value) == (
        "w.pth is of no known family: its first keys are encoder.0.weight; give --timm NAME if timm has its network, or "
        "export it to ONNX and add that file"
    )


def test_recognizes_ir_networks_and_knows_what_the_weights_do_not_say(tmp_path: Path) -> None:
    state = ir_state()
    for prefix, title, spec in (
        ("model.", "AdaFace IR-18", InputSpec(color="BGR")),
        ("model.net.", "CVLface IR-18", None),  # its model.yaml says the color order
        ("", "an IR-18", None),
    ):
        torch.save({f"{prefix}{key}": value for key, value in state.items()}, tmp_path / "w.pth")
        found = recognize(tmp_path / "w.pth")
        assert (found.title, found.input_spec) == (title, spec)
        assert found.arguments == {"layers": 18, "embedding_dim": 8}


def test_recognizes_the_families_that_keys_tell(tmp_path: Path) -> None:
    def saved(state: dict[str, Tensor]) -> Family:
        torch.save(state, tmp_path / "w.pth")
        return recognize(tmp_path / "w.pth")

    mbf = saved({"conv_sep.layers.0.weight": torch.zeros(1), "features.layers.2.weight": torch.zeros(8, 512)})
    assert (mbf.network, mbf.arguments) == (MobileFaceNet, {"variant": "insightface", "embedding_dim": 8})
    zoo = saved({"module.conv_6_dw.conv.weight": torch.zeros(1), "module.linear.weight": torch.zeros(8, 512)})
    assert (zoo.title, zoo.input_spec) == ("FaceX-Zoo's MobileFaceNet", InputSpec(color="BGR", std=128.0))
    keys = ("last_linear.weight", "block8.conv2d.weight", "logits.weight")
    facenet = saved({key: torch.zeros(1) for key in keys})
    assert (facenet.title, facenet.size_px, facenet.classifier) == (
        "FaceNet (InceptionResnetV1)",
        160,
        "dropped",
    )
    assert saved(vit_state()).title == "arcface_torch ViT-T"
    torch.save(timm.create_model("tinynet_e", num_classes=8).state_dict(), tmp_path / "w.pth")
    named = recognize(tmp_path / "w.pth", timm_name="tinynet_e")
    assert named.arguments == {"name": "tinynet_e", "embedding_dim": 8}


def test_recognizes_students_dlib_and_programs(tmp_path: Path) -> None:
    save_student(TinyFaR("c"), tmp_path / "student.safetensors", {})
    assert recognize(tmp_path / "student.safetensors").title == "a student of this package, TinyFaR"
    (tmp_path / "m.dat").write_bytes(dlib_bytes(*random_weights()))
    assert recognize(tmp_path / "m.dat").input_spec == InputSpec(mean=0.0, std=1.0)
    torch.jit.save(torch.jit.script(Pooled()), tmp_path / "m.pt")
    with pytest.raises(ConfigError) as caught:
        recognize(tmp_path / "m.pt")
    assert str(caught.value) == (
        "m.pt is a TorchScript program, which can read and write your files when it runs; give --trust if you trust "
        "its author, or give weights or ONNX"
    )
    trusted = recognize(tmp_path / "m.pt", trusted=True)
    assert (trusted.title, trusted.embedding_dim) == ("a TorchScript program", 48)


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(
        AssetError, match=r"^/no/such\.onnx does not exist; give the path of a teacher's file$"
    ):
        main(["add", "/no/such.onnx", "--out", str(tmp_path)])
    with pytest.raises(AssetError, match="is a folder; give the path of a teacher's file"):
        recognize(tmp_path)
    (tmp_path / "network.py").write_text("import torch")
    with pytest.raises(AssetError, match=r"^network\.py is truncated or not a torch checkpoint"):
        recognize(tmp_path / "network.py")
    path = color_graph(tmp_path / "m.onnx")
    with pytest.raises(ConfigError, match=r"^--color, --mean and --std: give all three, and std above 0$"):
        main(["add", str(path), "--out", str(tmp_path), "--color", "RGB"])


@pytest.mark.assets
def test_recognizes_the_pocket_teacher(monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.delenv("FACEDISTILL_CACHE")
    path = published_graph_or_skip("w600k_mbf")
    found = recognize(path)
    assert found.network is ArcFaceMobileFaceNet
    assert found.input_spec == InputSpec()
