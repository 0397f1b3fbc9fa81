"""The model card, README.md of a run folder, as HTML that cannot run anything."""

from __future__ import annotations

import re
from pathlib import Path

_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
_MOST_BYTES = 1 << 20


def card_html(folder: Path) -> str:
    """The card without its front matter, headings two levels down; "" if there is none, or it is larger than 1 MiB.

    HTML inside the card is shown as text. Pictures are left out, because the page loads nothing.
    """
    from markdown_it import MarkdownIt

    path = folder / "README.md"
    if not path.is_file() or path.stat().st_size > _MOST_BYTES:
        return ""
    text = _FRONT_MATTER.sub("", path.read_text(encoding="utf-8", errors="replace"))
    reader = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    tokens = reader.parse(text)
    for token in tokens:
        token.attrs.pop("style", None)  # alignment of table cells; the page's policy admits no inline style
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 2)}"
    html: str = reader.renderer.render(tokens, reader.options, {})
    return html
