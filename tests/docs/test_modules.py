"""Modules and classes named in the documentation exist."""

import re
from pathlib import Path

import pytest
from hydra.utils import get_object

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = {
    "facedistill.methods.direction.Direction",
    "facedistill.models.backbones.Thin",
}  # classes to be added


def named(text: str) -> set[str]:
    """Dotted names below `facedistill`; a name that ends in … is a placeholder."""
    return set(re.findall(r"(?<![\w/.])facedistill(?:\.[A-Za-z_]\w*)+(?![\w…]|\.[\w…])", text))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_dotted_names_can_be_imported(page: Path) -> None:
    for name in sorted(named(page.read_text(encoding="utf-8")) - EXAMPLES):
        get_object(name)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_files_of_the_repository_exist(page: Path) -> None:
    found = re.findall(
        r"`((?:facedistill|tests|conf|benchmarks)/[\w/.-]+)`", page.read_text(encoding="utf-8")
    )
    examples = {"conf/method/direction.yaml", "conf/backbone/thin.yaml", "facedistill/methods/direction.py"}
    assert [path for path in found if path not in examples and not (ROOT / path).exists()] == []


def test_a_wrong_name_is_found() -> None:
    assert named("`facedistill.nowhere.Thing` facedistill.models.teachers.… docs/facedistill.x") == {
        "facedistill.nowhere.Thing"
    }
