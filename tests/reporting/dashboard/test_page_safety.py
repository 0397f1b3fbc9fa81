"""The dashboard's page loads nothing from elsewhere and runs no text of a run."""

import base64
import hashlib
import json
import re
from pathlib import Path

from facedistill.reporting.dashboard.page import write_dashboard
from tests.reporting.dashboard.dashboard_page import Page, written
from tests.reporting.small_runs import write_small_run


def test_loads_nothing_and_runs_only_its_own_script(tmp_path: Path) -> None:
    write_small_run(tmp_path / "a-00000001")
    page = written(tmp_path)
    assert [link for link in page.links if not link.startswith("#")] == []
    assert not re.search(r"url\(|@import|<link|innerHTML|eval\(|fetch\(", page.html)
    assert page.html.count("http") == 2  # the SVG namespace, and http-equiv
    script = page.html.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
        in page.html
    )


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    attack = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7 * 7 }}"
    write_small_run(tmp_path / "a-00000001", id=attack, name=attack, status=attack)
    run = write_small_run(tmp_path / "a-00000002")
    with (run / "config.yaml").open("a") as file:
        file.write(f"extra: {json.dumps(attack)}\n")
    page = written(tmp_path)
    assert page.tags.count("script") == 2
    assert "img" not in page.tags
    assert attack in [one["id"] for one in page.data["runs"]]
    assert attack in [one["settings"].get("extra") for one in page.data["runs"]]
    assert attack in page.options


def test_links_are_relative_to_the_page_and_quoted(tmp_path: Path) -> None:
    run = write_small_run(tmp_path / "my runs" / "a#b-00000001")
    (run / "report.html").write_text("")
    (tmp_path / "pages").mkdir()
    write_dashboard(tmp_path / "my runs", tmp_path / "pages" / "all.html")
    assert "../my%20runs/a%23b-00000001/report.html" in Page(tmp_path / "pages" / "all.html").links
