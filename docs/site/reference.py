"""Writes the configuration reference from conf/*.yaml and the signatures of their targets."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
from collections.abc import Iterator
from pathlib import Path

import yaml
from docstrings import arguments, documented
from hydra.utils import get_object
from yaml_keys import Choice, Key, read_choice

from facedistill.cli import main as cli
from facedistill.cli.commands import COMMANDS
from facedistill.system.paths import config_dir

ROOTS = ("train", "generate")
_MARKUP = re.compile(r"([\\*\[\]|<#$~]|(?<!\w)_|_(?!\w))")
# The purpose of each group, in the order of a run; a test requires a line for every group.
GROUPS = {
    "method": "The way of distilling: one class of `facedistill.methods`. [Where each number comes from](../methods.md).",
    "backbone": "The student network, from face to embedding.",
    "head": "The margin softmax over identities; used only in training, by methods with labels.",
    "teacher": "The frozen network that is imitated: network, weights and input format.",
    "generator": "The frozen generator that renders faces.",
    "data": "Where training faces come from. [More on data](../data.md).",
    "augment": "Random changes of the faces, on the device. [What each effect does](../data.md#augmentation).",
    "optimizer": "The optimizer of all trained parameters.",
    "quantization": "Whether the student is trained in floating point or in 8 bits.",
    "scheduler": "The factor on the learning rate by progress in images.",
    "strategy": "Devices, processes and precision: arguments of Lightning's trainer, under `trainer`.",
    "evaluation": "Which benchmarks run, and where their files are. [More on evaluation](../evaluation.md).",
    "callbacks": "How often a run validates, saves and logs.",
    "logger": "Where curves are logged.",
    "launcher": "Where and how many at a time the jobs of a sweep (`-m`) run.",
    "sweep": "How the jobs of a sweep (`-m`) are chosen. [More on sweeps](../runs.md#sweeps).",
    "experiment": "Named recipes: overrides over everything else, chosen with `experiment=`.",
    "debug": "Short runs for testing, chosen with `debug=`.",
    "asset": "Cards of weights: origin, hash and licence of a file. [The cards' keys](../assets.md#a-card).",
}  # fmt: skip


def pages() -> dict[str, str]:
    """Every page of the reference, by its path below docs/."""
    groups = sorted(path.name for path in config_dir().iterdir() if path.is_dir())
    ordered = [*(name for name in GROUPS if name in groups), *(name for name in groups if name not in GROUPS)]
    found = {f"reference/{name}.md": _group_page(name) for name in ordered}
    found |= {f"reference/{name}.md": _root_page(name) for name in ROOTS}
    found["reference/commands.md"] = _commands_page()
    found["reference/index.md"] = _index_page(ordered)
    return found


def choices(group: str) -> list[Choice]:
    """The yaml files of a group, by name."""
    return [read_choice(path) for path in sorted((config_dir() / group).glob("*.yaml"))]


def _index_page(groups: list[str]) -> str:
    rows = [f"| [`{name}`]({name}.md) | {GROUPS.get(name, '')} | {len(choices(name))} |" for name in groups]
    return "\n".join([
        "# Configuration",
        "",
        "Generated from `conf/*.yaml`, their comments, and the signatures and docstrings of their classes.",
        "A value is set on the command line, `facedistill train method=ekd method.temperature=0.02`; an argument",
        "of a class that is not in its yaml is added with a plus, `+method.weight=2`. To print a composed configuration:",
        "",
        "```",
        "facedistill train experiment=demo --cfg job",
        "```",
        "",
        "[Keys of a training run outside of groups](train.md). [The configuration of `facedistill generate`](generate.md).",
        "[All commands](commands.md).",
        "",
        "| group | what it is | choices |",
        "|---|---|--:|",
        *rows,
        "",
    ])  # fmt: skip


def _root_page(name: str) -> str:
    choice = read_choice(config_dir() / f"{name}.yaml")
    keys = [key for key in choice.keys if not key.path.startswith("hydra")]
    defaults = [_code(entry) for entry in choice.defaults if not entry.startswith("override hydra")]
    return "\n".join([
        f"# `{name}`: keys outside of groups", "", _prose(choice.about), "",
        f"Defaults: {', '.join(defaults)}.", "",
        *_table(keys, "", {}, {}), "",
    ])  # fmt: skip


def _group_page(group: str) -> str:
    chosen, taken = _chosen(group), choices(group)
    rows = [
        f"| [`{one.name}`](#{one.name}){' (default)' if one.name == chosen else ''} | {_prose(_about(one))} |"
        for one in taken
    ]
    lines = [
        f"# `{group}`",
        "",
        GROUPS.get(group, ""),
        "",
        f"| `{group}=` | what it is |",
        "|---|---|",
        *rows,
        "",
    ]
    for one in taken:
        lines += _choice_section(group, one)
    return "\n".join(lines)


def _about(choice: Choice) -> str:
    """The comment of the yaml, else the paper or the first sentence of its class."""
    if choice.about or "" not in choice.targets:
        return choice.about
    target = get_object(choice.targets[""])
    own = choice.targets[""].startswith("facedistill.")
    return str(getattr(target, "paper", "")) or (
        documented(target)[0].split("\n")[0] if own else choice.targets[""]
    )


def _choice_section(group: str, choice: Choice) -> Iterator[str]:
    package = group if choice.package is None else choice.package
    if group == "asset":
        package = ""
    yield from (f"## {choice.name}", "")
    if choice.about:
        yield from (_prose(choice.about), "")
    parents = [
        re.sub(r"^override /(\w+)(@\S+)?: ", r"\1=", entry) for entry in choice.defaults if entry != "_self_"
    ]
    if parents:
        note = f" ({_prose(choice.defaults_note)})" if choice.defaults_note else ""
        yield from (f"On top of {', '.join(map(_code, parents))}{note}.", "")
    owned: dict[str, str] = {}
    types: dict[str, str] = {}
    for where, path in choice.targets.items():
        target = get_object(path)
        head, described = documented(target)
        if path.startswith("facedistill."):
            yield from (f"`{path}`{f' (in `{where}`)' if where else ''}", "", *_docstring(head), "")
        else:
            yield from (f"`{path}`{f' (in `{where}`)' if where else ''}", "")
        prefix = f"{where}." if where else ""
        taken = arguments(target, f"{package}.{where}".strip("."))
        owned |= {
            f"{prefix}{name}": sentence
            for name, sentence in described.items()
            if path.startswith("facedistill.")
        }
        types |= {f"{prefix}{name}": argument.type for name, argument in taken.items()}
        written = {key.path for key in choice.keys}
        more = {
            name: argument
            for name, argument in taken.items()
            if path.startswith("facedistill.")
            and not any(k == prefix + name or k.startswith(f"{prefix}{name}.") for k in written)
        }
        if more and not parents:
            others = ", ".join(
                f"`{name}` ({_default_of(argument.default)})" for name, argument in more.items()
            )
            yield from (f"Other arguments: {others}.", "")
    yield from _table(list(choice.keys), package, owned, types)
    yield ""


def _default_of(default: str) -> str:
    return f"default {default}" if default else "needs a value"


def _table(keys: list[Key], package: str, said: dict[str, str], types: dict[str, str]) -> Iterator[str]:
    shown = [key for key in keys if not key.path.endswith("_target_") or key.comment]
    if not shown:
        return
    rows = []
    for key in shown:
        name = f"{package}.{key.path}" if package else key.path
        about = _prose(said.get(key.path, ""))
        kind = f"*{types[key.path]}*. " if types.get(key.path) else ""
        what, remark = f"{kind}{about}", _prose(key.comment)
        rows.append([f"`{name}`", _code(_short(key.value)), *((what, remark) if what else (remark, ""))])
    headings = ["key", "value", "what it is", "origin and remarks"]
    kept = [at for at in range(4) if any(row[at] for row in rows)]
    yield from _markdown([[row[at] for at in kept] for row in [headings, ["---"] * 4, *rows]])


def _markdown(rows: list[list[str]]) -> Iterator[str]:
    yield from (f"| {' | '.join(row)} |" for row in rows)


def _chosen(group: str) -> str:
    """The group's entry in the defaults list of conf/train.yaml."""
    content = yaml.safe_load((config_dir() / "train.yaml").read_text(encoding="utf-8"))
    named = {
        key: value for entry in content["defaults"] if isinstance(entry, dict) for key, value in entry.items()
    }
    return str(named.get(group) or "")


def _docstring(head: str) -> Iterator[str]:
    """Paragraphs as prose; formulas, which are indented or hold an equals sign in a line of their own, as code."""
    for paragraph in re.split(r"\n\s*\n", head):
        lines = paragraph.splitlines()
        is_formula = all(line.startswith("    ") for line in lines) or re.match(
            r"^\S{1,24} (?:=|<-) ", lines[0] if lines else ""
        )
        if is_formula:
            yield from ("```text", *lines, "```", "")
        elif lines:
            yield from (_prose(" ".join(line.strip() for line in lines)), "")


def _commands_page() -> str:
    lines = ["# Commands", "", "```text", cli.usage(), "```", ""]
    for name, (module, _) in COMMANDS.items():
        if name == "train":  # Hydra's own help; the configuration reference replaces it
            continue
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
            importlib.import_module(module).main(["--help"])
        lines += [f"## {name}", "", "```text", shown.getvalue().rstrip(), "```", ""]
    return "\n".join(lines)


def _short(value: str) -> str:
    return value if len(value) <= 120 else f"{value[:117]}…"


def _code(text: str) -> str:
    """Code inside a table cell."""
    return f"`{text.replace('|', chr(92) + '|').replace('`', '')}`" if text else ""


def _prose(text: str) -> str:
    """Plain text of a comment or docstring; text between backticks stays code, other markup is escaped."""
    text = re.sub(r"(facedistill train [^`]+)$", r"`\1`", " ".join(text.split()))
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(
        part.replace("|", r"\|") if part.startswith("`") else _MARKUP.sub(r"\\\1", part) for part in parts
    )


def write(folder: Path) -> None:
    """Writes the pages below `folder`, the site's docs/."""
    for name, text in pages().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
