"""The examples of the documentation: complete, and none names a run of ours."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = sorted((Path(__file__).parents[2] / "docs").glob("*.md"))
EXAMPLES = [
    (path, code) for path in DOCS for code in re.findall(r"```python\n(.*?)```", path.read_text(), re.S)
]


@pytest.mark.parametrize(("path", "code"), EXAMPLES, ids=[path.stem for path, _ in EXAMPLES])
def test_an_example_imports_all_that_it_uses(path: Path, code: str) -> None:
    exec(compile(code, str(path), "exec"), {"__name__": "example"})


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
