"""Builds the site: `python docs/site/build.py [TARGET]`, by default build/site. `make docs` runs it.

Pages are copied in the layout of the repository, so relative links between them stay valid.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import reference
from sphinx.cmd.build import main as sphinx

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PAGES = ("docs/*.md", "benchmarks/results/*.md", "experiments/*/README.md", "experiments/*/table.md")
PICTURES = (
    "docs/images/*",
    "benchmarks/results/*.jpg",
    "benchmarks/results/*.png",
    "experiments/*/figures/*",
)


def main(target: Path) -> int:
    """Builds the site into `target`; a warning of Sphinx, such as a broken link, is an error."""
    staged = target.with_name(f"{target.name}-pages")
    shutil.rmtree(staged, ignore_errors=True)
    for pattern in (*PAGES, *PICTURES):
        for path in sorted(ROOT.glob(pattern)):
            copy = staged / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    for page in staged.rglob("*.md"):
        page.write_text(_named_pages(page), encoding="utf-8")
    reference.write(staged / "docs")
    index = staged / "docs" / "index.md"
    index.write_text(f"{index.read_text(encoding='utf-8')}\n{contents(staged)}", encoding="utf-8")
    failed = sphinx(["-q", "-W", "--keep-going", "-c", str(HERE), str(staged), str(target)])
    (target / "index.html").write_text('<meta http-equiv="refresh" content="0; url=docs/index.html">\n')
    if not failed:
        print(f"site  {target / 'docs' / 'index.html'}")
    return failed


def contents(staged: Path) -> str:
    """The side bar: the links of index.md under its headings, then all other pages."""
    index = (staged / "docs" / "index.md").read_text(encoding="utf-8")
    captions: dict[str, list[str]] = {}
    caption = ""
    for line in index.splitlines():
        if line.startswith("## "):
            caption = line.removeprefix("## ")
        for link in re.findall(r"\]\(([^):#]+\.md)\)", line) if line.startswith("- ") else []:
            captions.setdefault(caption, []).append(_document(staged, staged / "docs" / link))
    captions.setdefault("Reference", []).extend(f"/docs/reference/{name}" for name in reference.GROUPS)
    named = {document for documents in captions.values() for document in documents}
    every = {_document(staged, path) for path in staged.rglob("*.md")}
    rest = sorted(every - named - {"/docs/index"})
    captions |= {"More": rest} if rest else {}
    return "\n".join(
        f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n" + "\n".join(documents) + "\n```\n"
        for caption, documents in captions.items()
    )


def _named_pages(page: Path) -> str:
    """The text of a page with links to folders, of which GitHub shows the README.md, replaced by links to that page."""

    def replaced(link: re.Match[str]) -> str:
        is_folder = (page.parent / link[1] / "README.md").is_file()
        return f"]({link[1]}/README.md)" if is_folder else link[0]

    return re.sub(r"\]\(([^):#\s]+)\)", replaced, page.read_text(encoding="utf-8"))


def _document(staged: Path, path: Path) -> str:
    return "/" + path.resolve().relative_to(staged.resolve()).with_suffix("").as_posix()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "site").absolute()))
