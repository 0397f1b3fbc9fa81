"""The page of a leak audit: pairs of pictures, in one file that needs no other."""

from __future__ import annotations

import base64
import html
from pathlib import Path

import numpy as np

from facedistill.data.audit.result import Audit
from facedistill.data.formats.face_set import FaceSet, image_ending
from facedistill.errors import DataError
from facedistill.system.files import write_atomically

_MOST_PAIRS = 200
_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem; }
figure { margin: 0; border: 1px solid #8886; border-radius: 6px; padding: .6rem; }
figure img { width: 112px; height: 112px; } figcaption { font-size: .75rem; overflow-wrap: anywhere; }
td, th { padding: .1rem .8rem .1rem 0; text-align: left; font-variant-numeric: tabular-nums; }
.bar { background: #4a7dbd; height: .8rem; }
.leak { color: #c0392b; } .clean { color: #2e8b57; }
"""


def write_audit_page(
    path: Path, found: Audit, train: FaceSet, benchmark: FaceSet, names: tuple[str, str]
) -> Path:
    """Writes the page.

    Args:
        path: Of the HTML file.
        found: What the audit found.
        train: The training set.
        benchmark: The benchmark.
        names: What the two are called.

    Raises:
        UserError: If it cannot be written.
    """
    leaks = found.leaks
    verdict = (
        f'<strong class="leak">{len(leaks)} of {len(found.cosine)} benchmark images have a match</strong>'
        if len(leaks)
        else f'<strong class="clean">None of {len(found.cosine)} benchmark images has a match</strong>'
    )
    shown = leaks if len(leaks) else np.argsort(-found.cosine, kind="stable")[:24]
    figures = "".join(_figure(found, int(row), train, benchmark) for row in shown[:_MOST_PAIRS])
    title = "Matches" if len(leaks) else "No match; the nearest pairs"
    more = f" (the first {_MOST_PAIRS} of {len(leaks)})" if len(leaks) > _MOST_PAIRS else ""
    left_out = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in found.unreadable)
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Identity-leak audit</title><style>{_STYLE}</style></head><body>
<h1>Identity-leak audit</h1>
<p>{verdict} among {found.num_train} training images, from a teacher cosine of {found.threshold} on;
{found.duplicates} of them nearly the same picture (from 0.95 on).</p>
<table><tr><th>training set</th><td>{html.escape(names[0])}</td></tr>
<tr><th>benchmark</th><td>{html.escape(names[1])}</td></tr></table>
<h2>Nearest training image of each benchmark image</h2>{_histogram(found)}
<h2>{title}{more}</h2><p>Left: benchmark, right: training set.</p><div class="pairs">{figures}</div>
{f"<h2>Left out, {len(found.unreadable)} unreadable images</h2><ul>{left_out}</ul>" if left_out else ""}
</body></html>
"""
    write_atomically(path, page)
    return path


def _histogram(found: Audit) -> str:
    edges = np.linspace(-0.2, 1.0, 13)
    counts, _ = np.histogram(found.cosine.clip(-0.2, 1.0), edges)
    most = max(1, int(counts.max()))
    rows = [
        f"<tr><td>{low:+.1f} … {low + 0.1:+.1f}</td><td>{count}</td>"
        f'<td><div class="bar" style="width:{20 * count / most:.2f}rem"></div></td></tr>'
        for low, count in zip(edges, counts.tolist(), strict=False)
    ]
    return f"<table><tr><th>cosine</th><th>images</th><th></th></tr>{''.join(rows)}</table>"


def _figure(found: Audit, row: int, train: FaceSet, benchmark: FaceSet) -> str:
    left, right = int(found.benchmark_indices[row]), int(found.match[row])
    identity = ""
    if train.labels is not None:
        identity = f"identity {html.escape(train.identities[train.labels[right]])}, "
    return (
        f'<figure><img alt="benchmark image" src="{_uri(benchmark, left)}"> '
        f'<img alt="training image" src="{_uri(train, right)}">'
        f"<figcaption>cosine {found.cosine[row]:.3f}<br>{html.escape(benchmark.where(left))}<br>"
        f"{identity}{html.escape(train.where(right))}</figcaption></figure>"
    )


def _uri(faces: FaceSet, index: int) -> str:
    data = faces.encoded(index)
    try:
        kind = {"jpg": "jpeg"}.get(image_ending(data, index), image_ending(data, index))
    except DataError:
        kind = "bmp"  # the only other format that faces are read from
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
