"""The example package of docs/extending.md: trained, saved, loaded and refused, without a change of facedistill."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from facedistill.cli.main import main
from facedistill.errors import AssetError, ConfigError
from facedistill.export import load_student, read_metadata
from facedistill.models.imported import ImportedBackbone, embedding_width
from facedistill.models.teachers import FrozenTeacher
from facedistill.models.weights import write_weights
from facedistill.system import trust
from facedistill.types import InputSpec
from tests.cli.data_sets import DRAWN, folder
from tests.helpers.errors import command_error, error_message

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "own_package"
CLASS = "my_faces.networks.Thin"


@pytest.fixture
def example(tmp_path, monkeypatch):
    """The command that trains the example's student for two steps, without `trust=`."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.setattr(trust, "_admitted", set())
    monkeypatch.setenv("FACEDISTILL_CACHE", str(tmp_path / "cache"))
    from my_faces.networks import Wide

    torch.manual_seed(0)
    torch.save({"network": Wide().state_dict()}, tmp_path / "wide.pth")
    faces = folder(tmp_path / "faces", {f"{k % 3}/{k}.jpg": DRAWN.encoded(k) for k in range(8)})
    yield [
        "train", f"hydra.searchpath=[file://{EXAMPLE / 'my_conf'}]", "backbone=thin", "teacher=wide", "method=cosine",
        f"teacher.file={tmp_path / 'wide.pth'}", "data=folder", f"data.path={faces}", "images=16", "data.batch_size=8",
        "data.validation.faces=4", "evaluation.protocols=[]", "logger=csv", "strategy=cpu", "data.num_workers=0",
        f"runs_dir={tmp_path / 'runs'}",
    ]  # fmt: skip
    for name in [name for name in sys.modules if name.split(".")[0] == "my_faces"]:
        del sys.modules[name]


def test_the_example_is_trained_saved_and_loaded(example, tmp_path, capsys, monkeypatch):
    refused = command_error(capsys, *example)
    assert f"backbone._target_: {CLASS} is no class of facedistill.models.backbones" in refused
    assert "teacher.convert: my_faces.networks.convert is no converter" in refused
    assert not (tmp_path / "runs").exists()
    monkeypatch.setattr(torch.onnx, "export", _fail)
    assert main([*example, "trust=my_faces"]) == 0
    why = f"backbone: torch cannot trace {CLASS} (RuntimeError: data-dependent control flow); its forward must not depend"
    assert why in capsys.readouterr().err
    (run,) = (tmp_path / "runs").iterdir()
    record = json.loads((run / "run.json").read_text())
    assert record["command"].endswith("'trust=[my_faces]'")
    assert record["export"]["no_onnx"].startswith(why)
    saved = run / "student.safetensors"
    assert read_metadata(saved)["backbone"] == {"class": CLASS, "arguments": {"channels": 8, "width": 64}}
    image, out = tmp_path / "faces" / "0" / "0.jpg", tmp_path / "out.npz"
    assert main(["embed", str(image), "--student", str(saved), "--out", str(out), "trust=my_faces"]) == 0
    assert np.load(out)["embeddings"].shape == (1, 64)

    monkeypatch.setattr(trust, "_admitted", set())
    assert error_message(AssetError, load_student, saved) == (
        f"{saved} is a student of {CLASS}, which is no class of facedistill: loading it runs that code; if you trust it, add "
        "trust=my_faces.networks to the command line"
    )
    assert "add trust=my_faces.networks" in command_error(capsys, "evaluate", run)


def _fail(*arguments, **options):
    raise RuntimeError("data-dependent control flow")


class Network(nn.Module):
    def __init__(self, returns, **attributes):
        super().__init__()
        self.returns = returns
        self.linear = nn.Linear(1, 1)
        vars(self).update(attributes)

    def forward(self, images):
        return self.returns(images)


@pytest.mark.parametrize(("network", "message"), [
    (Network(lambda x: (x, x)), "backbone returns a tuple; return the embeddings (N, D) alone"),
    (Network(lambda x: x), "backbone returns (2, 3, 112, 112) for two faces; return embeddings (N, D)"),
    (Network(lambda x: x.mean((1, 2, 3))), "backbone returns (2,) for two faces; return embeddings (N, D)"),
    (Network(lambda x: x.flatten(1)[:, :4], embedding_dim=5),
     "backbone has embedding_dim=5, and its embeddings have 4 dimensions; correct the attribute"),
    (Network(lambda x: x @ x[0, 0, 0, :3]), "backbone cannot embed faces (2, 3, 112, 112) (RuntimeError: "),
    (print, "backbone makes a builtin_function_or_method, not a torch.nn.Module; name a class of networks"),
])  # fmt: skip
def test_a_network_without_embeddings_is_refused(network, message):
    assert error_message(ConfigError, embedding_width, network, "backbone", 112).startswith(message)


def test_modules_with_and_without_a_width(tmp_path):
    plain = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 5), nn.BatchNorm1d(5))
    student = ImportedBackbone(plain, "x.Plain", {})
    assert (student.embedding_dim, student.training, plain.training) == (5, True, True)
    write_weights(tmp_path / "plain.safetensors", plain.state_dict(), {})
    assert FrozenTeacher(plain, tmp_path / "plain.safetensors", InputSpec()).embedding_dim == 5
