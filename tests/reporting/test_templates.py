"""The pages' templates: accessibility attributes that browsers know."""

import re
from pathlib import Path

import facedistill

KNOWN = {
    "label",
    "labelledby",
    "describedby",
    "live",
    "hidden",
    "pressed",
    "sort",
    "busy",
    "expanded",
    "controls",
    "current",
}


def test_aria_attributes_are_known() -> None:
    pages = [
        path
        for kind in ("html", "js")
        for path in Path(facedistill.__file__).parent.rglob(f"templates/*.{kind}")
    ]
    found = {name for path in pages for name in re.findall(r"\baria-([a-z]+)", path.read_text())}
    assert "labelledby" in found
    assert found <= KNOWN
