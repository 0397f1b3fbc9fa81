"""The generated reference holds whatever conf/ and the signatures hold now."""

import inspect
import re

import pytest
import reference
import yaml
from hydra.utils import get_object
from yaml_keys import read_choice

from facedistill.system.paths import config_dir

FILES = sorted(path for path in config_dir().rglob("*.yaml"))


def _leaves(node, prefix=""):
    """Dotted keys of the values, by another reader than the one under test; mappings in one line count as one."""
    for name, value in node.items():
        if name == "defaults" and not prefix:
            continue
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_every_group_is_described_and_has_a_page(generated):
    groups = {path.parent.name for path in FILES if path.parent != config_dir()}
    assert groups == set(reference.GROUPS)
    assert groups <= {name.removeprefix("reference/").removesuffix(".md") for name in generated}


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if path.parent != config_dir()],
    ids=lambda path: f"{path.parent.name}/{path.stem}",
)
def test_every_choice_with_its_keys_values_and_comments_is_there(generated, path):
    group = path.parent.name
    section = generated[f"reference/{group}.md"].split(f"\n## {path.stem}\n")[1].split("\n## ")[0]
    text = path.read_text(encoding="utf-8")
    choice = read_choice(path)
    shown = {key.path: key.value for key in choice.keys}
    rows = re.findall(r"^\| `([^`]+)` \| (?:`([^`]*)`)?", section, re.M)
    package = group if choice.package is None else choice.package
    package = "" if group == "asset" else package
    for key in _leaves(yaml.safe_load(text) or {}):
        above = [
            end for end in range(len(key) + 1) if key[:end] in shown and (end == len(key) or key[end] == ".")
        ]
        assert above, f"{key} is not in the reference"
        written = shown[key[: above[-1]]]
        if above[-1] == len(key):
            assert yaml.safe_load(written) == _at(yaml.safe_load(text), key)
        if not key.endswith("_target_"):
            assert f"{package}.{key[: above[-1]]}".lstrip(".") in [name for name, _ in rows]
    plain = re.sub(r"[\\`]", "", section)
    for comment in re.findall(r"(?:^|\s)#\s*(?!@package)(\S.*)$", text, re.M):
        assert " ".join(comment.replace("`", "").rstrip("\\").split()) in plain


def _at(node, key):
    for name in key.split("."):
        node = node[name]
    return node


def test_targets_bring_their_own_words(generated):
    """The first sentence of every class of the package that a yaml names, and each argument it describes."""
    for path in FILES:
        for target in read_choice(path).targets.values():
            if not target.startswith("facedistill."):
                continue
            text = re.sub(r"[\\`]", "", generated[f"reference/{path.parent.name}.md"])
            first = inspect.getdoc(get_object(target)).split("\n")[0].replace("`", "")
            assert first in text, f"{target} is not described"


def test_an_argument_that_the_yaml_leaves_alone_is_named(generated):
    section = generated["reference/augment.md"].split("\n## light\n")[1].split("\n## ")[0]
    assert "`contrast` (default 0.0)" in section


def test_choices_of_a_literal_are_listed(generated):
    assert "`exact` or `released`" in generated["reference/method.md"]


def test_a_yaml_is_read_with_what_is_written_next_to_it(tmp_path):
    path = tmp_path / "thing.yaml"
    path.write_text(
        "# @package trainer\n# First line,\n# second line.\ndefaults: [faces, _self_]\n_target_: a.B # said\n"
        "# above\nlist: [1, 2] # beside\nnested:\n  url: 'a # b' # not the value\n  of: {x: 1}\n"
    )
    choice = read_choice(path)
    assert (choice.about, choice.package, choice.defaults) == (
        "First line, second line.",
        "trainer",
        ("faces", "_self_"),
    )
    assert choice.targets == {"": "a.B"}
    assert [(key.path, key.value, key.comment) for key in choice.keys] == [
        ("_target_", "a.B", "said"), ("list", "[1, 2]", "above beside"), ("nested.url", "'a # b'", "not the value"),
        ("nested.of", "{x: 1}", ""),
    ]  # fmt: skip


def test_every_command_shows_its_own_help(generated):
    from facedistill.cli.commands import COMMANDS

    text = generated["reference/commands.md"]
    assert all(
        f"usage: facedistill {name.replace('align', 'data align')}" in text
        or f"usage: facedistill {name}" in text
        for name in COMMANDS
        if name != "train"
    )
