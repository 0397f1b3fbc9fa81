"""Links, pipes, deep files and markup in a run folder of somebody else."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

from attempts import Attempts, run

from facedistill.errors import UserError


def run_folders(folder: Path) -> Attempts:
    """Links, pipes, deep files and markup in a foreign run folder."""
    secret = folder / "secret"
    secret.write_text("secret")

    def made(name: str, change: Callable[[Path], object]) -> str:
        path = folder / f"{name}-12345678"
        path.mkdir()
        for file, content in {
            "config.yaml": "name: demo\nbackbone: {_target_: facedistill.models.backbones.TinyFaR, embedding_dim: 512}\n",
            "run.json": json.dumps({"status": "finished", "name": "demo"}),
            "student.safetensors": "", "student.onnx": "",
        }.items():  # fmt: skip
            (path / file).write_text(content)
        change(path)
        return str(path)

    for name in (
        "config.yaml",
        "run.json",
        "results.json",
        "README.md",
        "report.html",
        "run.lock",
        "figures",
        "scores",
    ):
        path = made(
            name,
            lambda path, name=name: ((path / name).unlink(missing_ok=True), (path / name).symlink_to(secret)),
        )
        for command in (["report"], ["evaluate"], ["push", "--repo=a/b", "--dry"]):
            yield (
                f"{command[0]} RUN: {name} is a link",
                lambda c=command, path=path: unchanged(secret, *c, path),
            )
    path = made("pipe", lambda path: os.mkfifo(path / "run.lock"))
    yield "report RUN: run.lock is a pipe", lambda path=path: run("report", path)
    path = made("deep", lambda path: (path / "results.json").write_text("[" * 10**6))
    yield "report RUN: results.json of 10^6 brackets", lambda path=path: run("report", path)
    for repo in ("../..", "a/..", "/etc/passwd"):
        yield (
            f"push --repo {repo}",
            lambda repo=repo, path=path: run("push", path, f"--repo={repo}", "--dry"),
        )
    mark = "512 <script>alert(1)</script> [x](y://z)"
    config = {
        "name": mark,
        "backbone": {"_target_": mark, "embedding_dim": mark},
        "method": {"_target_": mark},
    }
    path = made("markup", lambda path: (path / "config.yaml").write_text(json.dumps(config)))
    yield "report RUN: markup in config.yaml", lambda path=path: escaped(Path(path))


def unchanged(secret: Path, *arguments: str) -> object:
    """Runs a command that must not change the file behind a link."""
    outcome = run(*arguments) if secret.read_text() == "secret" else None
    if secret.read_text() != "secret":
        Path("executed").touch()
    return outcome


def escaped(path: Path) -> object:
    """Makes report and card, in which markup must stay text."""
    with contextlib.redirect_stdout(io.StringIO()):
        run("report", str(path))
    for name in ("README.md", "report.html"):
        text = (path / name).read_text()
        if "<script>alert" in text or (name == "README.md" and "[x](" in text):
            Path("executed").touch()
    raise UserError("markup stayed text")
