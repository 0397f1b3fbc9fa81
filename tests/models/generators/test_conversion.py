"""Reading OpenVINO files: a hand-written graph, hostile variants, and OpenVINO itself as the oracle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from facedistill.assets import obtain, read_card
from facedistill.assets.fetch import fetch_members
from facedistill.errors import AssetError
from facedistill.models.generators.conversion import convert
from facedistill.models.generators.openvino_ir import read_ir

XML = """<net version="10"><layers>
<layer id="0" name="in" type="Parameter"/>
<layer id="1" name="k" type="Const"><data element_type="f32" shape="2, 3" offset="4" size="24"/></layer>
<layer id="2" name="mul" type="MatMul"/>
<layer id="3" name="one" type="Const"><data element_type="i64" shape="" offset="28" size="8"/></layer>
<layer id="4" name="sum" type="Add"/>
</layers><edges>
<edge from-layer="1" from-port="0" to-layer="2" to-port="1"/>
<edge from-layer="0" from-port="0" to-layer="2" to-port="0"/>
<edge from-layer="2" from-port="2" to-layer="4" to-port="0"/>
<edge from-layer="3" from-port="0" to-layer="4" to-port="1"/>
</edges></net>"""


def write(folder: Path, xml: str = XML) -> tuple[Path, Path]:
    numbers = np.arange(7, dtype="<f4").tobytes() + np.int64(-5).tobytes()
    (folder / "net.xml").write_text(xml)
    (folder / "net.bin").write_bytes(numbers)
    return folder / "net.xml", folder / "net.bin"


def test_a_small_graph_is_read(tmp_path: Path) -> None:
    graph = read_ir(*write(tmp_path))
    (product,) = graph.of_kind("MatMul")
    assert product.inputs == ("0", "1")  # by port, not by order in the file
    np.testing.assert_array_equal(graph.constant(product, (2, 3)), [[1, 2, 3], [4, 5, 6]])
    addition = graph.follows(product, "Add")
    assert graph.constant(addition, ()) == -5
    assert graph.feeds(addition, "MatMul") is product


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("</net>", "", "net.xml: not a readable OpenVINO graph"),
        ("layers>", "strata>", "net.xml: not an OpenVINO graph, it has no layers or no edges"),
        (
            'offset="4"',
            'offset="16"',
            "net.xml: 'k' does not fit its file: shape (2, 3), offset 16, 24 of 36 bytes",
        ),
        (
            'offset="4"',
            'offset="-4"',
            "net.xml: 'k' does not fit its file: shape (2, 3), offset -4, 24 of 36 bytes",
        ),
        ('"2, 3"', '"2, 9"', "net.xml: 'k' does not fit its file: shape (2, 9), offset 4, 24 of 36 bytes"),
        ('"f32"', '"u4"', "net.xml: 'k' is a constant that cannot be read (KeyError('u4'))"),
        ('from-layer="3"', 'from-layer="9"', "net.xml: layer 'sum' is fed by '9', which does not exist"),
    ],
)
def test_a_hostile_graph_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(AssetError) as caught:
        read_ir(*write(tmp_path, XML.replace(old, new)))
    assert str(caught.value).startswith(message)


def test_questions_without_one_answer_are_refused(tmp_path: Path) -> None:
    graph = read_ir(*write(tmp_path))
    (product,) = graph.of_kind("MatMul")
    with pytest.raises(AssetError, match=r"net\.xml: expected one PReLU to follow 'mul', found 0"):
        graph.follows(product, "PReLU")
    with pytest.raises(AssetError, match=r"the constant of 'mul' has shape \(2, 3\), not \(3, 2\)"):
        graph.constant(product, (3, 2))


def test_another_network_is_refused(tmp_path: Path) -> None:
    xml, raw = write(tmp_path)
    with pytest.raises(AssetError) as caught:
        convert({"MappingNetwork.xml": xml, "MappingNetwork.bin": raw})
    assert str(caught.value) == (
        "MobileStyleGAN cannot be converted: SynthesisNetwork.bin, SynthesisNetwork.xml missing"
        " from the archive"
    )
    names = [f"{net}Network.{end}" for net in ("Mapping", "Synthesis") for end in ("xml", "bin")]
    with pytest.raises(AssetError) as caught:
        convert({name: xml if name.endswith("xml") else raw for name in names})
    assert str(caught.value) == (
        "net.xml is not the published MobileStyleGAN: it has 1 linear layers instead of 8"
    )


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The archive's own members: OpenVINO, the oracle, reads nothing else."""
    work, cache = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("cache")
    return fetch_members(read_card("mobilestylegan"), work, cache, source=None, quiet=True)


@pytest.mark.assets
def test_the_published_network_is_reproduced(published: dict[str, Path]) -> None:
    """Mapping within 5e-6, synthesis within 2e-4 of OpenVINO in f32.

    In float64 our network deviates by 4e-5 from its own float32 and by 9e-5 from OpenVINO's: most of the
    difference is OpenVINO's.
    """
    openvino = pytest.importorskip("openvino", reason="the oracle is a development dependency")
    from facedistill.models.generators.coarse import describe, shrink
    from facedistill.models.generators.mobilestylegan import MappingNetwork, SynthesisNetwork
    from facedistill.models.generators.region import Window

    core, exact = openvino.Core(), {"INFERENCE_PRECISION_HINT": "f32"}
    oracle = {
        net: core.compile_model(str(published[f"{net}Network.xml"]), "CPU", exact)
        for net in ("Mapping", "Synthesis")
    }
    state = load_file(obtain("mobilestylegan", quiet=True))
    parts = {
        part: {key.removeprefix(f"{part}."): tensor for key, tensor in state.items() if key.startswith(part)}
        for part in ("mapping", "synthesis")
    }
    mapping = MappingNetwork()
    mapping.load_state_dict(parts["mapping"])
    specs = describe(parts["synthesis"], None)
    synthesis = SynthesisNetwork(512, specs, 12, [Window.frame(spec.size) for spec in specs])
    synthesis.load_state_dict(shrink(parts["synthesis"], specs, full_image=True))
    z = torch.randn(2, 512, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        w = mapping(z)
        image = synthesis(synthesis.prepare(w))
    for i in range(2):
        wanted = torch.from_numpy(oracle["Mapping"]([z[i : i + 1].numpy()])[0])
        assert float((w[i] - wanted).abs().max()) < 5.5e-6
        frame = torch.from_numpy(oracle["Synthesis"]([w[i : i + 1].numpy()])[0])[0]
        assert frame.shape == (3, 1024, 1024)
        assert float((image[i] - frame).abs().max()) < 2e-4
        assert float((image[i] - frame).square().mean().sqrt()) < 5e-6


@pytest.mark.assets
def test_latent_statistics_of_the_published_network() -> None:
    state = load_file(obtain("mobilestylegan", quiet=True))
    covariance = state["cholesky_w"] @ state["cholesky_w"].T
    deviation = covariance.diagonal().sqrt()
    assert float(deviation.mean()) == pytest.approx(0.42, abs=0.01)
    assert 0.13 < float(deviation.min()) < 0.16
    assert 0.9 < float(deviation.max()) < 1.0
    share = torch.linalg.eigvalsh(covariance.double()).flip(0).cumsum(0) / covariance.trace()
    assert int((share < 0.5).sum()) + 1 == pytest.approx(10, abs=1)  # ten directions carry half the variance
    assert int((share < 0.9).sum()) + 1 == pytest.approx(159, abs=5)
