"""`facedistill methods`: every yaml has its row, and what is measured is the loss."""

from __future__ import annotations

import json

import pytest
import torch

from facedistill.cli.methods import main, method_names, method_row
from facedistill.config.compose import compose
from facedistill.errors import ConfigError
from facedistill.runs.method_cost import GivenNetwork, GivenTeacher, Sizes, measure, processor
from facedistill.system.paths import config_dir

SMALL = ["--images", "8", "--identities", "6", "--dim", "16", "--steps", "1"]


def test_rows_say_what_a_method_needs():
    assert method_row("embedding_mse").needs == ("teacher",)
    assert method_row("shrinkteanet").needs == ("teacher", "labels")
    assert method_row("crd").needs == ("teacher", "labels", "indices")
    assert method_row("coupleface").needs == ("teacher", "labels", "class_centers")
    assert method_row("mutual").needs == ("labels",)
    row = method_row("fitnet")
    assert row.paper == "Romero et al., ICLR 2015"
    assert row.defaults["weight"] == 100.0
    assert "_target_" not in row.defaults
    assert method_row("synthdistill").paper  # its own words where it names no paper


def test_every_yaml_has_its_row(capsys):
    assert main(["--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in printed["methods"]] == method_names()
    assert set(method_names()) == {path.stem for path in (config_dir() / "method").glob("*.yaml")}
    assert all(row["paper"] for row in printed["methods"])
    assert printed["measured"] is None


def test_the_table_is_printed(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["cosine", "weighted_sum"]) == 0
    out = capsys.readouterr().out
    assert "identity_weight=0.0" in out
    assert "cosine_loss" in out
    assert "ms/step" not in out


def test_measuring_states_machine_and_sizes(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    chosen = ["fitnet", "crd", "mutual", "coupleface", "weighted_sum"]
    assert main([*chosen, "--measure", "--json", *SMALL]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["measured"]["identities"] == 6
    assert printed["measured"]["processor"] == processor()
    for row in printed["methods"]:
        assert row["cost"]["step_ms"] > 0, row
        assert row["cost"]["peak_mib"] > 0, row
    assert main(["cosine", "--measure", *SMALL]) == 0
    assert "N=8, D=16, K=6" in capsys.readouterr().out.replace("\n", " ")


def test_the_peak_is_that_of_what_the_loss_allocates():
    sizes = Sizes(images=256, dim=1024, identities=4, steps=1)
    peak = measure(compose("train", ["method=embedding_mse"]), sizes).peak_mib
    assert 2.0 <= peak <= 8.0  # differences, squares and gradient are 1 MiB each


def test_stand_ins_answer_with_what_they_were_given():
    student, teacher = GivenNetwork(4, 8, seed=2), GivenTeacher(4, 8)
    images = torch.zeros(3, 3, 8, 8)
    assert torch.equal(student(images), student.embeddings[:3])
    assert not teacher(images).requires_grad
    assert not list(teacher.parameters())


def test_an_unknown_method_is_one_sentence():
    with pytest.raises(ConfigError) as error:
        main(["cosinus"])
    assert str(error.value) == (
        f"methods cosinus: there is no such method; there are {', '.join(method_names())}"
    )


def test_a_size_must_be_positive(capsys):
    with pytest.raises(SystemExit):
        main(["--measure", "--images", "0"])
    assert "expected a number above 0, got 0" in capsys.readouterr().err
