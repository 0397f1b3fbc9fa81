"""A key or a choice that nothing reads is refused, with what may have been meant."""

import pytest
from omegaconf import OmegaConf

from facedistill.cli.main import main
from facedistill.config import compose
from facedistill.errors import ConfigError, UserError
from facedistill.sweeps.job import read_job
from tests.helpers.errors import error_message


@pytest.mark.parametrize(("overrides", "beginning"), [
    (["experiment=dmeo"], "experiment=dmeo: there is no such experiment; did you mean demo?"),
    (["experiment=[pocket,dmeo]"], "experiment=[pocket,dmeo]: there is no such experiment; did you mean demo?"),
    (["debug=smkoe"], "debug=smkoe: there is no such debug; did you mean smoke?"),
    (["method=ekdd"], "method=ekdd: there is no such method; did you mean ekd?"),
    (["augment=phto"], "augment=phto: there is no such augment; did you mean photo?"),
    (["+foo=bar"], "unknown key 'foo'"),
    (["++imagse=3"], "unknown key 'imagse'; did you mean images?"),
    (["++foo.bar=1"], "unknown key 'foo'"),
    (["+callbacks.log_every_step=1"], "unknown key 'callbacks.log_every_step'; did you mean callbacks.log_every_steps?"),
    (["+evaluation.places.lfw.imges=[x]"],
     "unknown key 'evaluation.places.lfw.imges'; did you mean evaluation.places.lfw.images?"),
    (["+teacher.input_spec.men=1"], "unknown key 'teacher.input_spec.men'; did you mean teacher.input_spec.mean?"),
    (["lr=0.01"], "unknown override 'lr'; did you mean optimizer.lr?"),
    (["+rho=1"], "unknown key 'rho'; did you mean data.source.rho?"),
    (["trainer.lr=1"], "unknown override 'trainer.lr'; did you mean optimizer.lr?"),
    (["trainer.max_epochs=3"], "unknown override 'trainer.max_epochs': the budget is counted in images; set images=N"),
    (["data.path=x"], "unknown override 'data.path': data=stylegan has no path; it is a key of data=faces, folder"),
    (["experiment=demo", "method.momentum=1"],
     "unknown override 'method.momentum': method=synthdistill has no momentum; it is a key of method=crd, ekd"),
    (["+seed=3"], "+seed: is there already; leave out the +"),
    (["+experiment=demo"], "+experiment: is a group of the configuration already; leave out the +"),
    (["~seeed"], "~seeed: there is no such key to delete"),
    (["hydra.searchpath=[file:///no/such/folder]"], "hydra.searchpath=/no/such/folder: there is no such folder"),
    (["method=weighted_sum", "method.losses={cosine: {weight: 1}}"],
     "method.losses={cosine: {weight: 1}}: would keep mse"),
])  # fmt: skip
def test_what_nothing_reads_is_refused(overrides, beginning):
    assert error_message(ConfigError, compose, "train", overrides).startswith(beginning)


def test_a_loss_is_replaced_by_leaving_the_others_out():
    overrides = ["method=weighted_sum", "~method.losses.mse", "method.losses={cosine: {weight: 2}}"]
    assert list(compose("train", overrides).method.losses) == ["cosine"]


def test_recipes_of_a_searched_folder_are_checked_too(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nwidth: 8\nname: mine_${width}\n")
    (tmp_path / "experiment" / "typo.yaml").write_text("# @package _global_\nimagse: 8\n")
    search = f"hydra.searchpath=[file://{tmp_path}]"
    (tmp_path / "backbone").mkdir(exist_ok=True)
    (tmp_path / "backbone/many.yaml").write_text("a: &a [1, 2]\nb: [*a, *a]\n")
    error = error_message(UserError, compose, "train", [search, "backbone=many"])
    assert error == f"{tmp_path}/backbone/many.yaml, line 2: repeats a part by *a; write it out"
    assert compose("train", [search, "experiment=mine"]).name == "mine_8"  # width is read by name
    assert "did you mean images?" in error_message(ConfigError, compose, "train", [search, "experiment=typo"])


def test_a_file_is_checked_as_overrides_are(tmp_path):
    path = tmp_path / "mine.yaml"
    config = compose("train", ["images=1e4"])
    path.write_text(OmegaConf.to_yaml(config))
    assert read_job(path)[0] == config
    path.write_text(OmegaConf.to_yaml(config) + "optimzer: {lr: 1}\n")
    assert error_message(ConfigError, read_job, path) == "unknown key 'optimzer'; did you mean optimizer?"


@pytest.mark.parametrize("flags", [["--cfg", "job"], ["--help"], ["-m"]])
def test_a_wrong_recipe_fails_with_any_flag(flags, capsys):
    assert main(["train", *flags, "experiment=dmeo"]) == 2
    printed = capsys.readouterr()
    assert "did you mean demo?" in printed.err
    assert not printed.out
