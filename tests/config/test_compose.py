"""Composing without Hydra's detours gives what Hydra gives, and no file is ever out of date."""

from __future__ import annotations

import itertools
import time

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from facedistill.cli.main import main
from facedistill.config import compose, files
from facedistill.errors import ConfigError
from facedistill.system.paths import config_dir

GROUPS = {
    path.name: sorted(choice.stem for choice in path.glob("*.yaml"))
    for path in sorted(config_dir().iterdir())
    if path.is_dir() and path.name != "asset"
}
ROUNDS = range(max(map(len, GROUPS.values())))


def _by_hydra(overrides):
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        in_place = [text.replace("augment=", "augment@data.source.augment=") for text in overrides]
        return hydra_compose("train", in_place)


@pytest.mark.parametrize("number", ROUNDS)
def test_every_choice_of_every_group_composes_as_hydra_does(number):
    """Round n takes the n-th choice of each group; experiments, which choose groups themselves, every third round."""
    chosen = {group: choices[number % len(choices)] for group, choices in GROUPS.items()}
    if number % 3:
        del chosen["experiment"]
    overrides = [f"{group}={choice}" for group, choice in chosen.items()]
    overrides += ["seed=7", "+method.more={a: [1, 2]}", "name=${seed}_x"]
    ours, theirs = compose("train", overrides), _by_hydra(overrides)
    assert OmegaConf.to_container(ours) == OmegaConf.to_container(theirs)
    assert OmegaConf.is_struct(ours)


@pytest.mark.parametrize(
    "overrides", [["~head"], ["~optimizer", "+optimizer=sgd"], ["++a.b=1"], ["logger=csv", "~logger.csv"]]
)
def test_deletions_and_additions_compose_as_hydra_does(overrides):
    assert files.compose_files("train", overrides) == _by_hydra(overrides)


def test_compositions_share_nothing():
    first, second = compose("train", ["images=512"]), compose("train", ["images=512"])
    first.data.batch_size, first.trainer.devices = 3, 9
    assert second == compose("train", ["images=512"])
    assert compose("train", ["seed=1"]).images == compose("train", []).images


def test_a_file_that_changed_is_read_again(tmp_path, monkeypatch):
    (tmp_path / "method").mkdir()
    (tmp_path / "train.yaml").write_text("defaults: [method: a, _self_]\nseed: 1\n")
    (tmp_path / "method" / "a.yaml").write_text("weight: 1\n")
    monkeypatch.setattr(files, "config_dir", lambda: tmp_path)
    assert files.compose_files("train", []) == {"method": {"weight": 1}, "seed": 1}
    time.sleep(0.02)
    (tmp_path / "method" / "a.yaml").write_text("weight: ${seed}\n")
    (tmp_path / "method" / "b.yaml").write_text("weight: ???\n")
    assert files.compose_files("train", ["seed=4"]).method.weight == 4
    assert OmegaConf.is_missing(files.compose_files("train", ["method=b"]).method, "weight")
    (tmp_path / "method" / "a.yaml").unlink()
    with pytest.raises(ConfigError, match="method=a: there is no such method; there are b"):
        compose("train", ["method=a"])


def test_parts_of_an_interpolated_node_cannot_be_changed_by_a_file(tmp_path, monkeypatch):
    (tmp_path / "train.yaml").write_text("defaults: [one, two]\n")
    (tmp_path / "one.yaml").write_text("a: {x: 1}\nb: ${a}\n")
    (tmp_path / "two.yaml").write_text("b: {y: 2}\n")
    monkeypatch.setattr(files, "config_dir", lambda: tmp_path)
    with pytest.raises(ConfigError) as error:
        files.compose_files("train", [])
    assert str(error.value) == "two.yaml: b changes parts of ${a}; write all of it"


@pytest.mark.parametrize(("override", "sentence"), [
    ("seed=1,2", "seed=1,2: several values are a sweep; add -m, or write a list as [a,b] and a text with commas in "
     "quotes"),
    ("hydra.run.dir=x", "hydra.run.dir=x: of Hydra's own settings only hydra.searchpath has an effect here; leave it "
     "out"),
    ("hydra/launcher=joblib", "hydra/launcher=joblib: of Hydra's own settings only hydra.searchpath has an effect here; "
     "leave it out"),
    ("optimizer=3", "optimizer=3: there is no such optimizer; there are adam, adamw, muon, sgd, sgd_nesterov"),
])  # fmt: skip
def test_what_has_no_effect_is_refused(override, sentence):
    with pytest.raises(ConfigError) as error:
        compose("train", [override])
    assert str(error.value) == sentence


def test_each_file_is_read_once(monkeypatch):
    files._repository.cache_clear()
    read = []
    original = OmegaConf.load
    monkeypatch.setattr(OmegaConf, "load", lambda file: read.append(file.name) or original(file))
    for method, optimizer, seed in itertools.product(["ekd", "gkd", "cosine"], ["sgd", "adamw"], [1, 2]):
        compose("train", [f"method={method}", f"optimizer={optimizer}", f"seed={seed}"])
    assert len(read) == len(set(read)) > 10


def test_hydra_continues_to_print_configurations(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--cfg", "job", "seed=3", "augment=photo"]) == 0
    assert "seed: 3" in (printed := capsys.readouterr().out)
    assert "side_occlusion" in printed  # the group's short name, which only facedistill knows
    assert list(tmp_path.iterdir()) == []


def test_keys_added_below_a_key_are_named():
    with pytest.raises(ConfigError) as refused:
        compose("train", ["experiment=demo", "data.source.augment={hue: 0.5}"])
    assert str(refused.value) == (
        "unknown override 'data.source.augment': it adds keys to data.source.augment; write ++data.source.augment=… to "
        "add them"
    )


def test_a_run_without_a_name_has_that_of_its_method():
    given = {
        ("method=ekd", "experiment=pocket"): "pocket",
        ("method=embedding_mse",): "embedding_mse",
        (): "synthdistill",
    }
    assert {overrides: compose("train", overrides).name for overrides in given} == given
    assert compose("train", ["method=rkd", "name=mine"]).name == "mine"
