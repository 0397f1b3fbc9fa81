"""The examples of the documentation: complete, and none names a run of ours."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = sorted((Path(__file__).parents[2] / "docs").glob("*.md"))
EXAMPLES = {path: "\n".join(re.findall(r"```python\n(.*?)```", path.read_text(), re.S)) for path in DOCS}


@pytest.mark.parametrize(
    "path", [path for path, code in EXAMPLES.items() if code], ids=lambda path: path.stem
)
def test_an_example_imports_all_that_it_uses(path: Path) -> None:
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821,E9", "-"]
    checked = subprocess.run(command, input=EXAMPLES[path], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_no_command_names_a_run_by_its_id() -> None:
    found = [
        line
        for path in DOCS
        for line in path.read_text().splitlines()
        if re.search(r"runs/\w+-[0-9a-f]{8}", line)
    ]
    assert found == []


def test_every_page_is_in_the_index() -> None:
    index = next(path for path in DOCS if path.stem == "index").read_text()
    assert [path.name for path in DOCS if path.stem != "index" and f"]({path.name})" not in index] == []
