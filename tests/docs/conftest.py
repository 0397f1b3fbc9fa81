"""The site's own modules, and the pages of the documentation."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs" / "site"))


@pytest.fixture(scope="session")
def generated() -> dict[str, str]:
    """The reference as `make docs` would write it now, by path below docs/."""
    import reference

    return reference.pages()


@pytest.fixture(scope="session")
def pages(generated: dict[str, str]) -> dict[Path, str]:
    """Every page, written or generated, by its path in the repository."""
    names = ["README.md", *(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*.md"))]
    written = {ROOT / name: (ROOT / name).read_text(encoding="utf-8") for name in names}
    return written | {ROOT / "docs" / name: text for name, text in generated.items()}
