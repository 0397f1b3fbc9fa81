"""The commands of README and docs/ are those that the program takes.

Fast: training commands are composed and validated, each combination of a sweep too; all others go through the command's
own parser. Those that only print are run. Slow: the first run of the quickstart.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml

from facedistill.cli import main as cli
from facedistill.cli.commands import COMMANDS as OURS
from facedistill.config import compose, validate
from facedistill.errors import ConfigError
from facedistill.sweeps.grid import expand
from facedistill.sweeps.search.space import read_space
from facedistill.system.paths import config_dir
from tests.docs.documented import Command, blocks, commands, inline

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "own_package"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = [command for page in PAGES for command in commands(page)]
PRINT_ONLY = (
    "facedistill methods",
    "facedistill assets",
    "facedistill assets licences",
    "facedistill --help",
)
NO_PROGRAM_OF_OURS = ("pip", "source", "ls", "cp", "export", "eval")
FIRST_RUN = (ROOT / "docs" / "quickstart.md").read_text().split("## A first run\n")[1].split("\n## ")[0]
MOST_JOBS = 3  # of a sweep; the rest differ in their values alone


class ParsedError(Exception):
    """Carries what a parser made of a command line, instead of running it."""


def _parse(command: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    """What the command's own parser makes of the words; it exits where they are wrong."""
    with monkeypatch.context() as patch:
        for name in ("parse_args", "parse_intermixed_args"):
            patch.setattr(
                argparse.ArgumentParser, name, _stopping_after(getattr(argparse.ArgumentParser, name))
            )
        with pytest.raises(ParsedError) as caught:
            importlib.import_module(OURS[command][0]).main(words)
    return caught.value.args[0]


def _stopping_after(parse: Callable[..., argparse.Namespace]) -> Callable[..., None]:
    def stop(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
        raise ParsedError(parse(parser, arguments))

    return stop


def _check_train(words: list[str], refused: bool) -> None:
    searched = any(word.startswith("hydra.searchpath") for word in words)
    overrides = [
        word.replace("…", "x")
        for word in words
        if word not in ("-m", "--cfg", "job", "…", "--help", "--dry")
        and not (searched and re.match(r"hydra\.searchpath|teacher[.=]|generator=|backbone=", word))
    ]
    jobs = [overrides]
    if "sweep=optuna" in words:
        jobs = [_one_trial(overrides)]
    elif "-m" in words:
        jobs = [list(job) for job in expand(overrides)[:MOST_JOBS]]
    for job in jobs:
        if refused:
            with pytest.raises(ConfigError):
                validate(compose("train", job))
        else:
            validate(compose("train", job))


def _one_trial(overrides: Sequence[str]) -> list[str]:
    """The first choice or lower end of everything that a search chooses."""
    space = read_space(overrides)
    first = {
        key: one.choices[0] if hasattr(one, "choices") else one.low
        for key, one in space.distributions.items()
    }
    return list(space.overrides(first))


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_documented_command_is_one(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    program, words = command.words[0], [word for word in command.words[1:] if not word.startswith("trust=")]
    words = words[: words.index(">")] if ">" in words else words
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
        assert {word for word in words if "=" not in word} <= set(targets)
    elif program == "python":
        if words[0] == "-c":
            ast.parse(words[1])
        else:
            found = words[0] if words[0] != "-m" else EXAMPLE / f"{words[1].replace('.', '/')}.py"
            (ROOT / found).resolve(strict=True)
    elif program == "facedistill" and words[0] == "train":
        _check_train(words[1:], command.remark.startswith("refused"))
    elif program == "facedistill" and not words[0].startswith("--"):
        words = [word.split("|")[0] if word.count("|") else word for word in words]
        if "--help" in words:
            assert words[0] in OURS
            return
        parsed = _parse(words[0], words[1:], monkeypatch)
        if words[0] in ("evaluate", "generate"):
            given = [text for text in parsed.overrides if "file:///abs/" not in text]
            compose("train" if words[0] == "evaluate" else "generate", given)
        if words[0] == "evaluate" and not re.search(r"[/.]", parsed.what) and parsed.what != "my_teacher":
            compose("train", [f"teacher={parsed.what}"])
    else:
        assert program in (*NO_PROGRAM_OF_OURS, "facedistill")


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) > 60
    assert {command.page for command in COMMANDS} >= {"README.md", "quickstart.md", "papers.md", "runs.md"}


@pytest.mark.parametrize("line", PRINT_ONLY)
def test_commands_that_only_print_are_run(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert line in " ".join(" ".join(command.words) for command in COMMANDS)
    assert cli.main(line.split()[1:]) == 0
    assert capsys.readouterr().out.strip()


def test_a_renamed_key_would_be_noticed() -> None:
    with pytest.raises(ConfigError):
        _check_train(["method=ekd", "method.temprature=0.02"], refused=False)


def test_choices_in_the_text_exist() -> None:
    wrong = []
    for page in PAGES:
        for code in inline(page.read_text(encoding="utf-8")):
            for group, named in re.findall(r"(?:^|\s)([a-z_]+)=([\w|]+)", code):
                if (config_dir() / group).is_dir():
                    there = {path.stem for path in (config_dir() / group).glob("*.yaml")}
                    wrong += [f"{page.name}: {group}={one}" for one in named.split("|") if one not in there]
    assert set(wrong) <= {"methods.md: method=direction"}  # which that page shows how to add


def test_keys_in_the_text_exist(generated: dict[str, str]) -> None:
    """A dotted key in the text is one of the reference, or lies above one, or is an argument left alone there."""
    known: set[str] = set()
    for text in generated.values():
        for key in re.findall(r"^\| `([^`]+)` \|", text, re.M):
            known |= {key[: m.start()] for m in re.finditer(r"\.|$", key)}
    alone = {name for text in generated.values() for name in re.findall(r"`(\w+)` \((?:default|needs)", text)}
    groups = {path.name for path in config_dir().iterdir() if path.is_dir()} | {"trainer"}
    wrong = []
    for page in PAGES:
        for code in inline(page.read_text(encoding="utf-8")):
            found = re.match(r"\+?([a-z_]+)((?:\.[a-z_]\w*)+)(?:=|$)", code)
            if found and found.group(1) in groups and not re.search(r"\.(pth?|onnx|yaml|bin|mdb)$", code):
                key = found.group(1) + found.group(2)
                if key not in known and key.rsplit(".", 1)[-1] not in alone:
                    wrong.append(f"{page.name}: {key}")
    assert wrong == []


def test_blocks_of_code_can_be_parsed() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in blocks(text, "python"):
            ast.parse(block)
        for block in blocks(text, "yaml"):
            yaml.safe_load(block)


@pytest.mark.slow
@pytest.mark.assets
def test_the_quickstart_runs_as_it_stands(tmp_path: Path) -> None:
    """Its section "A first run", line by line in a shell, in a folder that holds nothing else."""
    script = "set -e\n" + "".join(blocks(FIRST_RUN, ""))
    binaries = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}", "WANDB_MODE": "offline"}
    subprocess.run(["bash", "-c", script], cwd=tmp_path, check=True, timeout=1800, env=environment)
    (run,) = (tmp_path / "runs").glob("smoke-*")
    assert {"student.safetensors", "student.onnx", "results.json", "report.html", "README.md"} <= {
        path.name for path in run.iterdir()
    }
    assert (tmp_path / "runs" / "dashboard.html").is_file()
