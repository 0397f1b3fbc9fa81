"""`facedistill push` with the real client against a stand-in for the hub; refusals in one sentence."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from facedistill.cli.main import main
from facedistill.export import export_onnx, load_student, save_student
from facedistill.models.backbones import TinyFaR
from facedistill.reporting.run.model_card import needs_consent
from facedistill.reporting.run.summary import summarize
from tests.helpers.errors import command_error
from tests.reporting.fake_run import make_run
from tests.runs.hub_server import TOKEN, Hub, serve


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("runs") / "demo-1a2b3c4d", protocols=("lfw",), num_faces=1)
    torch.manual_seed(0)
    student = TinyFaR("c").eval()
    save_student(student, run / "student.safetensors", {"run": run.name})
    export_onnx(student, run / "student.onnx", {"run": run.name})
    return run


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / finished.name))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The stand-in, where the client looks for the hub, with a token that it takes; large files go by git-lfs."""
    with serve() as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


@pytest.fixture(autouse=True)
def _no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))


def refused(capsys: pytest.CaptureFixture[str], run: Path, *arguments: str) -> str:
    return command_error(capsys, "push", run, *arguments).split("error  ")[-1]  # behind the client's progress


def test_a_push_is_one_commit_that_holds_the_student(
    hub: Hub, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):  # a repository that exists is added to
        assert main(["push", str(run), "--repo", "me/tiny-face", "--private", "--accept-licences"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{hub.url}/me/tiny-face/commit/{'0' * 40}"
    repository = hub.repositories["me/tiny-face"]
    assert repository["visibility"] == "private"
    assert hub.commits == ["facedistill run demo-1a2b3c4d"] * 2
    files = repository["files"]
    assert set(files) == {"README.md", "config.json", "student.safetensors", "student.onnx"}
    for name in ("student.safetensors", "student.onnx"):
        assert files[name] == (run / name).read_bytes()
    front = yaml.safe_load(files["README.md"].decode().split("---\n")[1])
    assert (front["library_name"], front["license"]) == ("facedistill", "other")
    config = json.loads(files["config.json"])
    assert (config["backbone"]["class"], config["embedding_dim"]) == ("TinyFaR", 512)
    fetched = run / "fetched.safetensors"
    fetched.write_bytes(files["student.safetensors"])
    assert load_student(fetched).embedding_dim == 512


def test_what_the_hub_refuses_is_one_sentence(
    hub: Hub, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = ("--repo", "me/tiny-face", "--accept-licences")
    assert "may not write to else/tiny" in refused(capsys, run, "--repo", "else/tiny", "--accept-licences")
    hub.fail_uploads = True
    assert refused(capsys, run, *here).endswith("nothing was committed, give the command again")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert refused(capsys, run, *here).startswith(
        "the hub does not know this token; run `hf auth login` again"
    )
    assert hub.commits == []


def test_a_hub_that_is_not_there_is_one_sentence(
    hub: Hub, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve() as gone:
        pass
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", gone.url)
    said = refused(capsys, run, "--repo", "me/tiny-face", "--accept-licences")
    assert said.startswith(f"the upload to {gone.url} failed")


def test_dry_lists_and_sends_nothing(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(run), "--repo", "me/tiny-face", "--dry"]) == 0
    shown = capsys.readouterr().out
    assert f"{(run / 'student.onnx').stat().st_size:>12,}  student.onnx" in shown
    assert "licence of w600k_mbf: insightface models: non-commercial research only" in shown
    assert shown.splitlines()[-1].startswith("nothing was sent")


def test_licences_that_bind_want_a_word(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, run, "--repo", "me/tiny-face")
    assert said.startswith("the student was made with w600k_mbf, mobilestylegan, whose terms above bind")
    assert "--accept-licences" in said


@pytest.mark.parametrize("repo", ["../..", "./a", "a/..", "-a/b"])
def test_a_repository_is_no_path(run: Path, capsys: pytest.CaptureFixture[str], repo: str) -> None:
    message = refused(capsys, run, f"--repo={repo}")
    assert message == f"--repo {repo}: write user/name or organization/name"


FILES = "student.onnx student.safetensors config.yaml run.json results.json metrics.csv README.md report.html run.lock faces.npz"


def test_links_of_a_run_folder_are_not_followed(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (
        *FILES.split(),
        "figures",
        "scores",
        "worst",
        "scores/x.npz",
        "figures/x.png",
        ".writable",
        "wandb",
    ):
        path, kept, elsewhere = run / name, tmp_path / "kept", tmp_path / "elsewhere"
        path.parent.mkdir(exist_ok=True)
        if path.exists():
            path.rename(kept)
        elsewhere.write_text("not of this run")
        path.symlink_to(elsewhere)
        expected = f"{path} is a symbolic link; a run consists of its own files only, put a copy in its place"
        for arguments in (("report", run), ("push", run, "--repo=a/b", "--dry"), ("evaluate", run)):
            if name in ("config.yaml", "run.lock"):
                assert command_error(capsys, *arguments).endswith(expected)
        assert elsewhere.read_text() == "not of this run"
        assert summarize(run).problems == (f"{expected}.",)
        path.unlink()
        if kept.exists():
            kept.rename(path)
    os.mkfifo(run / "run.lock")
    assert "run.lock is no regular file" in command_error(capsys, "report", run)


def test_no_token_is_one_sentence(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, run, "--repo", "me/tiny-face", "--accept-licences")
    assert said.startswith("no Hugging Face token: run `hf auth login`, or set HF_TOKEN")


def test_only_a_finished_run_goes(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "status": "interrupted"}))
    said = refused(capsys, run, "--repo", "me/tiny-face", "--dry")
    assert said == f"{run} is interrupted, not finished; finish it with the command in its run.json"
    (run / "run.json").write_text(json.dumps(record))
    (run / "student.onnx").unlink()
    said = refused(capsys, run, "--repo", "me/tiny-face", "--dry")
    assert said == f"{run} has no student.onnx; write it with facedistill export {run} --format onnx"
    no_onnx = {"no_onnx": "backbone: torch cannot trace mine.Net"}
    (run / "run.json").write_text(json.dumps({**record, "export": no_onnx}))
    assert main(["push", str(run), "--repo", "me/tiny-face", "--dry"]) == 0
    assert "student.onnx" not in capsys.readouterr().out
    assert refused(capsys, run.parent / "none", "--repo", "me/x").startswith("there is no run folder")
    assert (
        refused(capsys, run, "--repo", "tiny-face")
        == "--repo tiny-face: write user/name or organization/name"
    )


@pytest.mark.parametrize(
    ("licence", "wanted"),
    [
        ("Apache-2.0", False),
        ("MIT", False),
        ("CC0: public domain", False),
        ("package Apache-2.0; trained on FFHQ (CC BY-NC-SA 4.0)", True),
        ("EdgeFace repository: BSD-3-Clause; other copies state non-commercial use only", True),
        ("BSD-3-Clause; trained on ImageNet (research use)", True),
        ("not stated by its owner", True),
        ("Mitre Corporation, all rights reserved", True),
        ("", True),
    ],
)
def test_which_licences_want_consent(licence: str, wanted: bool) -> None:
    assert (needs_consent([{"asset": "a", "licence": licence}]) == ["a"]) == wanted
