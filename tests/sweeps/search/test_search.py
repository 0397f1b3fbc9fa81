"""A search proposes, runs and reports; it prunes, shares equal runs, and continues after an interruption."""

from __future__ import annotations

import csv
import math
import sys

import pytest

from facedistill.cli.main import main
from facedistill.errors import ConfigError
from facedistill.reporting.record import read_object
from facedistill.sweeps.launchers.local import LocalLauncher
from facedistill.sweeps.search import optuna as search_module
from facedistill.sweeps.search.optuna import OptunaSearch
from facedistill.sweeps.search.report import importances
from facedistill.sweeps.search.space import read_space
from tests.sweeps.stand_in import make_job, replace_training

optuna = pytest.importorskip("optuna")

SPACE = ["optimizer.lr=tag(log,interval(1e-4,1))", "method=choice(cosine,rkd)", "seed=1"]


@pytest.fixture
def search(tmp_path, monkeypatch):
    """Runs a search whose runs reach 0.9 with cosine and 0.1 with rkd; from trial 5 on rkd waits to be stopped."""
    replace_training(tmp_path, monkeypatch.setattr)
    planned = []

    def plan(label, overrides, **options):
        chosen = dict(text.split("=") for text in overrides)
        is_low = chosen["method"] == "rkd"
        number = int(label.split()[1])
        hold = {"wait_for": "a signal"} if is_low and number >= 5 else {}
        if number >= 3 and (tmp_path / "cut").exists():
            hold = {"wait_for": "a signal"}
        name = "run" + "".join(letter for letter in "".join(overrides) if letter.isalnum())
        planned.append(name)
        reached = 0.1 if is_low else 0.9 - abs(math.log10(float(chosen["optimizer.lr"])) + 2) / 100
        return make_job(tmp_path, name, label=label, curve=[reached / 2, reached], pause_s=0.05, **hold)

    monkeypatch.setattr(search_module, "plan_job", plan)

    def run(space=SPACE, **settings):
        failed = OptunaSearch(**settings).run(space, name="s", runs=tmp_path, launcher=LocalLauncher(slots=4))
        study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/sweeps/s/study.db")
        return failed, study, planned

    return run


def test_a_search_finds_the_best_and_prunes_the_rest(search, tmp_path):
    failed, study, _ = search(trials=10, startup_trials=4, sampler="random", sampler_seed=3)
    assert failed == []
    for trial in study.trials:
        waits = trial.params["method"] == "rkd" and trial.number >= 5
        assert trial.state.name == ("PRUNED" if waits else "COMPLETE")
        record = read_object(tmp_path / trial.user_attrs["run"] / "run.json")
        assert record["status"] == ("pruned" if waits else "finished")
        assert sorted(trial.intermediate_values) == [1, 2]
    assert {trial.state.name for trial in study.trials} == {"PRUNED", "COMPLETE"}
    assert study.best_trial.params["method"] == "cosine"
    rows = list(csv.DictReader((tmp_path / "sweeps" / "s" / "trials.csv").open()))
    assert float(rows[0]["val/cosine"]) == pytest.approx(study.best_value, abs=1e-4)
    assert importances(study)["method"] > 0.9
    assert (tmp_path / "sweeps" / "s" / "importance.png").stat().st_size > 10_000


def test_an_interrupted_search_continues(search, tmp_path, monkeypatch):
    """What was running is continued under its own number, and nothing that ended is run again."""
    (tmp_path / "cut").touch()  # trials from 3 on wait
    with monkeypatch.context() as patch:
        original, ended = search_module.Pool.wait, []

        def wait(self):
            if len(ended) == 3:
                raise KeyboardInterrupt
            ended.extend(found := original(self))
            return found

        patch.setattr(search_module.Pool, "wait", wait)
        with pytest.raises(KeyboardInterrupt):
            search(trials=5, prune=False)
    (tmp_path / "cut").unlink()
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/sweeps/s/study.db")
    cut = {trial.number: trial.params for trial in study.trials if trial.state.name == "RUNNING"}
    ended = {trial.user_attrs["run"] for trial in study.trials if trial.state.name == "COMPLETE"}
    assert sorted(cut) == [3, 4]
    assert len(ended) == 3
    _, study, planned = search(trials=5, prune=False)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 5
    assert all(study.trials[number].params == params for number, params in cut.items())
    assert len({tuple(trial.params.items()) for trial in study.trials}) == 5  # the sampler did not start over
    assert all(planned.count(run) == 1 for run in ended)
    with pytest.raises(ConfigError, match="the study s began with val/cosine, maximize; give another name"):
        search(trials=5, direction="minimize")


def test_equal_proposals_share_a_run(search):
    _, study, planned = search(
        ["optimizer.lr=0.01", "method=choice(cosine,rkd)"], trials=5, sampler="random", prune=False
    )
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 5
    assert {trial.params["method"]: trial.value for trial in study.trials} == {"cosine": 0.9, "rkd": 0.1}
    assert len(set(planned)) == 2


def test_the_grammar_of_overrides_becomes_distributions():
    space = read_space(
        ["a=tag(log,interval(1e-4,1e-2))", "b=int(interval(1,8))", "c=range(2,9,3)", "d=x,y", "e=5"]
    )
    assert space.fixed == ("e=5",)
    made = {key: type(one).__name__ for key, one in space.distributions.items()}
    assert made == {
        "a": "FloatDistribution",
        "b": "IntDistribution",
        "c": "IntDistribution",
        "d": "CategoricalDistribution",
    }
    assert (space.distributions["a"].low, space.distributions["a"].high, space.distributions["a"].log) == (
        1e-4,
        1e-2,
        True,
    )
    assert (space.distributions["c"].low, space.distributions["c"].high, space.distributions["c"].step) == (
        2,
        8,
        3,
    )
    assert space.overrides({"a": 1e-3, "b": 2, "c": 5, "d": "x"}) == ("e=5", "a=0.001", "b=2", "c=5", "d=x")


@pytest.mark.parametrize(("words", "sentence"), [
    (["sweep=optuna"], "sweep=optuna: nothing is to be chosen"),
    (["sweep=optuna", "seed=interval(3,1)"], "seed=interval(3,1): wants a lower end below its upper end"),
    (["sweep=optuna", "seed=1,2", "sweep.metric=lfw/accuracy"], "sweep.metric=lfw/accuracy: a search chooses by validation"),
    (["sweep=optuna", "seed=1,2", "sweep.trials=0"], "sweep.trials=0: must be > 0"),
    (["launcher=local,submitit"], "launcher=local,submitit: is the sweep's own and the same for all its jobs"),
])  # fmt: skip
def test_mistakes_are_one_sentence(words, sentence, tmp_path, capsys):
    assert main(["train", "-m", f"runs_dir={tmp_path}", *words]) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(("module", "words"), [
    ("optuna", ["sweep=optuna"]), ("submitit", ["launcher=submitit"]),
])  # fmt: skip
def test_a_missing_package_is_one_sentence(module, words, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["train", "-m", f"runs_dir={tmp_path}", "seed=1,2", *words]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"{words[0]}: {module} is not installed; pip install 'facedistill[sweep]'" in said


def test_a_machine_without_sbatch_is_one_sentence(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["train", "-m", f"runs_dir={tmp_path}", "seed=1,2", "launcher=submitit"]) == 2
    assert "launcher=submitit: there is no sbatch or srun here" in " ".join(capsys.readouterr().err.split())


def test_a_path_with_brackets_is_a_fixed_override():
    assert read_space(["runs_dir=/data (1)/runs", "seed=1,2"]).fixed == ('runs_dir="/data (1)/runs"',)
