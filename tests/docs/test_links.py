"""Every relative link of README, docs/ and the generated reference leads somewhere."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```.*?^```", re.M | re.S)
LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)\)")


def slugs(text: str) -> set[str]:
    """The anchors that a forge gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.M)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    return set(plain)


def links(text: str) -> list[str]:
    """Relative links, outside code."""
    found = LINK.findall(re.sub(r"`[^`\n]*`", "", FENCE.sub("", text)))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def broken(pages: dict[Path, str]) -> list[str]:
    found = []
    for path, text in pages.items():
        for link in links(text):
            file, _, anchor = link.partition("#")
            target = (path.parent / file).resolve() if file else path
            if target not in pages and not target.exists():
                found.append(f"{path.name}: {link}")
            elif anchor and target.suffix == ".md":
                there = pages.get(target) or target.read_text(encoding="utf-8")
                if anchor not in slugs(there):
                    found.append(f"{path.name}: {link} (no such heading)")
    return found


def test_relative_links_and_anchors_resolve(pages):
    assert broken(pages) == []


def test_a_broken_link_is_seen(tmp_path):
    page = tmp_path / "page.md"
    assert broken({page: "# Here\n[a](#here) [b](gone.md) [c](#gone) `[d](x.md)`\n```\n[e](y.md)\n```\n"}) == [
        "page.md: gone.md", "page.md: #gone (no such heading)",
    ]  # fmt: skip


def test_the_site_has_the_pages_that_its_pages_link_to(pages):
    """`make docs` builds the site from these folders and ends with an error where a link leads elsewhere."""
    parts = ("docs", "benchmarks/results", "experiments")
    assert [
        f"{path.name}: {link}"
        for path, text in pages.items() if path.is_relative_to(ROOT / "docs")
        for link in links(text)
        if not any((path.parent / link.partition("#")[0]).resolve().is_relative_to(ROOT / part) for part in parts)
    ] == []  # fmt: skip


def test_pages_name_no_absolute_path(pages):
    assert [path.name for path, text in pages.items() if re.search(r"\]\((/|file:)", text)] == []
