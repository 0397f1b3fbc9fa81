"""The dashboard as its tests read it."""

import json
from html.parser import HTMLParser
from pathlib import Path

from facedistill.reporting.dashboard.page import write_dashboard


class Page(HTMLParser):
    """Collects the cells of the table, the tags, what a browser would load, and the embedded data."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.options: list[str] = []
        self.html = path.read_text(encoding="utf-8")
        self._into: list[str] | None = None
        self.feed(self.html)
        self.data = json.loads(self.html.split('id="data">')[1].split("</script>")[0])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._into = self.rows[-1]
        if tag == "option":
            self.options.append("")
            self._into = self.options

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "option"):
            self._into = None

    def handle_data(self, data: str) -> None:
        if self._into:
            self._into[-1] = " ".join(f"{self._into[-1]} {data}".split())


def written(runs_dir: Path) -> Page:
    write_dashboard(runs_dir, runs_dir / "dashboard.html")
    return Page(runs_dir / "dashboard.html")
