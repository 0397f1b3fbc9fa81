"""`facedistill completion bash`: tab-completion of commands, groups, choices and keys."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from omegaconf import DictConfig

from facedistill.config import compose
from facedistill.paths import config_dir

_SCRIPT = """\
_facedistill() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" words
  COMP_WORDBREAKS="${{COMP_WORDBREAKS//=/}}"
  if [ "$COMP_CWORD" -eq 1 ]; then words="{commands}"; else words="{words}"; fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  case "${{COMPREPLY[0]}}" in *=) compopt -o nospace ;; esac
  [ "$COMP_CWORD" -gt 1 ] && [ "${{#COMPREPLY[@]}}" -eq 0 ] && COMPREPLY=($(compgen -f -- "$current"))
}}
complete -F _facedistill facedistill
"""


def main(arguments: Sequence[str]) -> int:
    """Prints a script; put `eval "$(facedistill completion bash)"` into ~/.bashrc (zsh: after bashcompinit)."""
    parser = argparse.ArgumentParser(prog="facedistill completion", description=main.__doc__)
    parser.add_argument("shell", choices=["bash", "zsh"])
    parser.parse_args(arguments)
    commands = (
        "train evaluate embed report dashboard push reproduce methods backbones data generate teacher generator assets align completion "
        "--help --version"
    )
    print(_SCRIPT.format(commands=commands, words=" ".join([*_choices(), *_keys(compose("train", []))])))
    return 0


def _choices() -> Iterator[str]:
    for group in sorted(path for path in config_dir().iterdir() if path.is_dir() and path.name != "asset"):
        yield from (f"{group.name}={path.stem}" for path in sorted(group.glob("*.yaml")))


def _keys(config: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in map(str, config):
        node = config._get_node(key)
        if isinstance(node, DictConfig) and not node._is_none():
            yield from _keys(node, f"{prefix}{key}.")
        elif not key.startswith("_"):
            yield f"{prefix}{key}="
