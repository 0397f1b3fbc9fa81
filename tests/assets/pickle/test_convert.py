"""Tensors out of pickles in a process of its own: what the pickle would run does not run, there or here."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from facedistill.assets.pickle.convert import convert_pickled, network_tensors
from facedistill.cli.main import main
from facedistill.errors import AssetError
from facedistill.models.weights import read_weights
from tests.helpers.pickles import Hostile


def whole_module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4))


def test_a_hostile_pickle_executes_nothing_and_gives_its_tensors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mark, path, out = tmp_path / "executed", tmp_path / "hostile.pth", tmp_path / "clean.safetensors"
    state = {"w": torch.arange(6.0).view(2, 3)}
    torch.save({"state_dict": state, "hook": Hostile(mark), "args": argparse.Namespace(lr=0.1)}, path)
    assert main(["teacher", "convert", str(path), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert not mark.exists()
    assert f"{out}: 1 tensors, 6 numbers" in said
    assert "left out, and never run: " in said
    assert "system" in said
    assert "argparse.Namespace" in said
    assert torch.equal(read_weights(out)[0]["w"], state["w"])
    torch.load(path, weights_only=False)
    assert mark.exists()  # so the file was a real bomb


def test_a_pickled_module_becomes_its_state(tmp_path: Path) -> None:
    module = whole_module()
    torch.save(nn.DataParallel(module), tmp_path / "m.pkl")
    assert convert_pickled(tmp_path / "m.pkl", tmp_path / "m.safetensors") == [
        "torch.nn.parallel.data_parallel.DataParallel"
    ]
    found = read_weights(tmp_path / "m.safetensors")[0]
    wanted = {f"module.{key}": value for key, value in module.state_dict().items()}
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_finds_the_network_where_scripts_keep_it() -> None:
    state = {"w": torch.zeros(2), "step": 3}
    for content in (state, {"state_dict": state}, {"model": {"net": state}, "optimizer": {"lr": 1}}):
        assert list(network_tensors(content, "x.pth")[0]) == ["w"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "x.pth holds a list and no network; give a checkpoint of the network"),
        ({"epoch": 3}, "x.pth holds no tensors by name; its entries are epoch"),
    ],
)
def test_no_network(content: Any, message: str) -> None:
    with pytest.raises(AssetError) as caught:
        network_tensors(content, "x.pth")
    assert str(caught.value) == message


def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, out = tmp_path / "page.pth", tmp_path / "out.safetensors"
    page.write_text("<!DOCTYPE html><html>")
    for words, message in (
        (
            [str(page), "--out", str(out)],
            "page.pth is a web page, not a checkpoint; download the file itself",
        ),
        ([str(page), "--out", "x.pth"], "--out x.pth: name a file that ends in .safetensors"),
        (["/no/such.pth", "--out", "x.safetensors"], "/no/such.pth: there is no such file"),
    ):
        assert main(["teacher", "convert", *words]) == 2
        assert message in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == [page]  # nothing half-written
