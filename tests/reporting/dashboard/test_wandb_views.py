"""The views for wandb: built from code; refused in one sentence where they cannot be saved."""

import builtins
from pathlib import Path

import pytest

from facedistill.reporting.dashboard import wandb_views
from tests.helpers.errors import command_error
from tests.reporting.small_runs import write_small_run


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def _refused(runs: Path, capsys: pytest.CaptureFixture[str]) -> str:
    write_small_run(runs / "one-0000000a", method="KD")
    message = command_error(capsys, "dashboard", runs, "--wandb")
    assert (runs / "dashboard.html").is_file()  # the local page is written all the same
    return message.removeprefix("error  ")


def test_without_a_key_it_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("wandb_workspaces", reason="needs the optional package wandb-workspaces")
    assert (
        _refused(tmp_path / "runs", capsys)
        == "--wandb: there is no wandb key here; `wandb login`, or set WANDB_API_KEY"
    )


def test_without_the_package_it_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = builtins.__import__

    def missing(name: str, *rest: object) -> object:
        if name.startswith("wandb_workspaces"):
            raise ImportError(name)
        return original(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", missing)
    said = _refused(tmp_path / "runs", capsys)
    assert said == "--wandb: the package wandb-workspaces is not installed; `pip install wandb-workspaces`"


def test_both_views_name_curves_accuracies_and_pictures() -> None:
    pytest.importorskip("wandb_workspaces", reason="needs the optional package wandb-workspaces")
    views = [
        repr(wandb_views.workspace("me", "faces").sections),
        repr(wandb_views.report("me", "faces").blocks),
    ]
    for part in ("train/cosine", "images_seen", "student/lfw/accuracy", "figures/faces", "figures/lfw-roc"):
        assert all(part in view for view in views)
