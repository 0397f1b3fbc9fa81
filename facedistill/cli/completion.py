"""`facedistill completion bash`: tab-completion of commands, their verbs and options, groups, choices and keys."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from facedistill.cli.commands import COMMANDS
from facedistill.system.paths import config_dir

if TYPE_CHECKING:
    from omegaconf import DictConfig

_SCRIPT = """\
_facedistill() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" words settings="{settings}"
  COMP_WORDBREAKS="${{COMP_WORDBREAKS//=/}}"
  if [ "$COMP_CWORD" -eq 1 ]; then words="{commands} --help --version"
  else case "${{COMP_WORDS[1]}}" in
{cases}
  esac; fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  case "${{COMPREPLY[0]}}" in *=) compopt -o nospace ;; esac
  [ "$COMP_CWORD" -gt 1 ] && [ "${{#COMPREPLY[@]}}" -eq 0 ] && COMPREPLY=($(compgen -f -- "$current"))
}}
complete -F _facedistill facedistill
"""
_OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")
# In argparse's help plain arguments stand two spaces in, verbs four.
_VERB = re.compile(r"^    ([a-z]+)\s", re.MULTILINE)
_CHOICES = re.compile(r"^  \{([\w,]+)\}", re.MULTILINE)
_CONFIGURED = ("train", "evaluate")  # commands that take groups and keys of conf/train.yaml
_TRAIN_OPTIONS = "-m --multirun --config --cfg --help"


def main(arguments: Sequence[str]) -> int:
    """Prints the script; put it where bash looks: ~/.local/share/bash-completion/completions/facedistill."""
    parser = argparse.ArgumentParser(prog="facedistill completion", description=main.__doc__)
    parser.add_argument("shell", choices=["bash", "zsh"], help="zsh: after bashcompinit")
    parser.parse_args(arguments)
    from facedistill.config import compose

    print(
        _SCRIPT.format(
            commands=" ".join(COMMANDS),
            settings=" ".join([*_choices(), *_keys(compose("train", []))]),
            cases="\n".join(f'    {name}) words="{" ".join(_words(name))}" ;;' for name in COMMANDS),
        )
    )
    return 0


def _words(command: str) -> Iterator[str]:
    """What may follow a command, out of its own help."""
    if command in _CONFIGURED:
        yield "$settings"
    if command == "train":
        yield _TRAIN_OPTIONS
        return
    text = _help(command)
    arguments = text.split("positional arguments:")[-1].split("\n\n")[0]
    yield from (word for choices in _CHOICES.findall(arguments) for word in choices.split(","))
    yield from dict.fromkeys(_VERB.findall(arguments))
    yield from dict.fromkeys(_OPTION.findall(text.split("options:")[-1].split("\n\n")[0]))


def _help(command: str) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        importlib.import_module(COMMANDS[command][0]).main(["--help"])
    return said.getvalue()


def _choices() -> Iterator[str]:
    for group in sorted(path for path in config_dir().iterdir() if path.is_dir() and path.name != "asset"):
        yield from (f"{group.name}={path.stem}" for path in sorted(group.glob("*.yaml")))


def _keys(config: DictConfig, prefix: str = "") -> Iterator[str]:
    from omegaconf import DictConfig

    for key in map(str, config):
        node = config._get_node(key)
        if isinstance(node, DictConfig) and not node._is_none():
            yield from _keys(node, f"{prefix}{key}.")
        elif not key.startswith("_"):
            yield f"{prefix}{key}="
