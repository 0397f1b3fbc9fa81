"""The dashboard in a real browser: filters, sorting, selection, charts, keys, light and dark."""

import json
import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facedistill.reporting.dashboard.page import write_dashboard
from tests.reporting.fake_run import make_run
from tests.reporting.small_runs import write_many, write_small_run

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="needs chromium or google-chrome on the PATH"),
]
ERRORS = "<script>window.mistakes = []; addEventListener('error', (e) => mistakes.push(e.message));</script>"
STEPS = """<script>
(async () => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const one = (selector) => document.querySelector(selector);
  const shown = () => all("#runs tbody tr").filter((row) => row.offsetParent !== null);
  const cells = (column) => shown().map((row) => row.cells[column].innerText.split(/\\s/)[0]);
  const input = (part, value) => { part.value = value; part.dispatchEvent(new Event("input", { bubbles: true })); };
  const state = () => ({
    count: one("#count").textContent, shown: shown().length, selected: all("#runs input:checked").length,
    note: one("#compare-note").textContent, legend: all("#legend button").length,
    curves: all("#charts svg").map((chart) => chart.querySelectorAll("path").length),
    bars: all(".bars").map((bars) => bars.querySelectorAll(".one").length),
    rocs: one("#verification").offsetParent === null ? [] : all("#rocs svg").map((chart) => chart.querySelectorAll("path").length),
    lfw: cells(5)[0],
    histograms: all("#histograms figure").length,
    sheets: all("#sheets img").filter((image) => image.offsetParent !== null && image.naturalWidth === 640).length,
  });
  const seen = { start: state(), heading: all("#runs thead th").map((head) => head.innerText.trim()) };
  input(one("#search"), "many rkd"); seen.search = state();
  input(one("[data-filter=status]"), "damaged"); seen.nothing = state();
  seen.nothingIsSaid = one("#none-shown").offsetParent !== null;
  one("#filters button").click(); await new Promise((done) => setTimeout(done, 20)); seen.cleared = state();
  input(one("[data-filter=method]"), "EKD"); seen.method = cells(2);
  one("#filters button").click(); await new Promise((done) => setTimeout(done, 20));
  const lfw = all("#runs thead button").find((button) => button.innerText.startsWith("LFW"));
  lfw.click(); seen.descending = cells(5); seen.order = lfw.parentNode.getAttribute("aria-sort");
  lfw.click(); seen.ascending = cells(5);
  one("#select-none").click(); seen.none = state();
  one("#runs tbody input").click(); seen.single = state();
  const chart = one("#charts svg");
  chart.focus();
  chart.dispatchEvent(new KeyboardEvent("keydown", { key: "Home" }));
  chart.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
  seen.focused = document.activeElement === chart;
  seen.read = one("#charts output").innerText;
  seen.label = chart.getAttribute("aria-label");
  one("#select-none").click();
  input(one("#search"), "demo-1a2b"); one("#select-shown").click(); await new Promise((done) => setTimeout(done, 200));
  seen.pictured = state();
  const choice = one("#protocol");
  seen.protocols = all("#protocol option").map((option) => option.textContent);
  choice.value = "generated"; choice.dispatchEvent(new Event("change", { bubbles: true }));
  seen.rocOfGenerated = one("#rocs h3").textContent;
  const roc = one("#rocs svg");
  roc.focus(); roc.dispatchEvent(new KeyboardEvent("keydown", { key: "End" }));
  seen.rocRead = one("#rocs output").innerText;
  one("#filters button").click(); await new Promise((done) => setTimeout(done, 20));
  one("#select-shown").click(); seen.many = state();
  seen.colors = new Set(all("#legend path").map((path) => getComputedStyle(path).stroke + path.getAttribute("stroke-dasharray"))).size;
  one("#legend button").click(); seen.fewer = state();
  seen.focusKept = document.activeElement.closest("#legend") !== null;
  seen.unnamed = all("button, input, select, [tabindex]").filter((part) =>
    !(part.textContent.trim() || part.ariaLabel || part.getAttribute("aria-labelledby") || part.closest("label"))).length;
  seen.overflow = document.documentElement.scrollWidth - innerWidth;
  seen.mistakes = mistakes;
  document.body.dataset.seen = JSON.stringify(seen);
})().catch((error) => { document.body.dataset.seen = JSON.stringify({ mistakes: [String(error.stack)] }); });
</script>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs_dir = write_many(tmp_path_factory.mktemp("runs"), 30, 40)
    make_run(runs_dir / "zdemo-1a2b3c4d")
    (write_small_run(runs_dir / "spoilt-0000000a", method="FitNet", accuracies={}) / "run.json").write_text(
        "{"
    )
    write_dashboard(runs_dir, runs_dir / "dashboard.html")
    return runs_dir / "dashboard.html"


def _browse(page: Path, *flags: str, size: str = "1400,1000") -> str:
    home = page.parent / "browser"
    command = [
        str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={home}",
        "--virtual-time-budget=3000", f"--window-size={size}", *flags, page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
        env={**os.environ, "HOME": str(home)},
    ).stdout


@pytest.fixture(scope="module")
def seen(page: Path) -> dict[str, Any]:
    """What the page showed after each step of somebody who uses it, in a window as narrow as a phone's."""
    text = re.sub(r"<meta http-equiv[^>]+>", "", page.read_text())  # it forbids the test's scripts, too
    copy = page.with_name("steps.html")
    copy.write_text(text.replace("<head>", f"<head>{ERRORS}").replace("</body>", f"{STEPS}</body>"))
    found = re.search(r'<body [^>]*data-seen="([^"]*)"', _browse(copy, "--dump-dom", size="500,900"))
    assert found, "the steps did not come to their end"
    result = json.loads(unescape(found.group(1)))
    assert result["mistakes"] == []
    return result


def test_the_page_starts_with_a_comparison(seen: dict[str, Any]) -> None:
    start = seen["start"]
    assert (start["count"], start["shown"], start["selected"]) == ("32 of 32 runs shown", 32, 6)
    assert (start["legend"], start["curves"], start["bars"]) == (6, [6, 6, 6], [6, 6])
    assert seen["heading"][1:3] == ["Run", "Method"]


def test_filters_and_search_narrow_the_table(seen: dict[str, Any]) -> None:
    assert (seen["search"]["count"], seen["search"]["shown"]) == ("8 of 32 runs shown", 8)
    assert (seen["nothing"]["shown"], seen["nothingIsSaid"]) == (0, True)
    assert seen["cleared"]["shown"] == 32
    assert seen["method"] == ["EKD"] * 7
    assert seen["search"]["selected"] == 6  # hiding a run does not take it out of the comparison


def test_sorting_puts_what_is_not_measured_last(seen: dict[str, Any]) -> None:
    values = [f"{100 * (0.7 + 0.2 * k / 30):.2f}" for k in range(30)]
    highest = seen["pictured"]["lfw"]
    assert (seen["descending"], seen["order"]) == ([highest, *reversed(values), "—"], "descending")
    assert seen["ascending"] == [*values, highest, "—"]


def test_selection_draws_the_comparison(seen: dict[str, Any]) -> None:
    assert (seen["none"]["legend"], seen["none"]["curves"], seen["none"]["bars"]) == (0, [], [])
    assert seen["none"]["note"] == "Select runs in the table to compare them here."
    assert (seen["single"]["legend"], seen["single"]["curves"], seen["single"]["bars"]) == (
        1,
        [1, 1, 1],
        [1, 1],
    )
    assert seen["many"]["note"].startswith("32 selected, the first 24 drawn.")
    assert (seen["many"]["legend"], seen["colors"]) == (24, 24)
    assert seen["fewer"]["selected"] == 31
    assert seen["fewer"]["legend"] == 24  # the next one takes the place


def test_pictures_follow_the_selection(seen: dict[str, Any]) -> None:
    assert (seen["single"]["rocs"], seen["single"]["histograms"], seen["single"]["sheets"]) == ([], 0, 0)
    assert (seen["pictured"]["rocs"], seen["pictured"]["histograms"], seen["pictured"]["sheets"]) == (
        [1, 1],
        1,
        1,
    )
    assert seen["protocols"] == ["LFW", "Generated pairs"]
    assert seen["rocOfGenerated"] == "Generated pairs: ROC"
    assert "SynthDistill, seed 2021 1.000" in seen["rocRead"]


def test_keys_read_the_curve_and_everything_has_a_name(seen: dict[str, Any]) -> None:
    assert seen["focused"]
    assert seen["read"].split("\n")[0].startswith("200 images")
    assert "Training loss over images seen: KD, seed 0 2 to 0.05" in seen["label"]
    assert seen["focusKept"]
    assert seen["unnamed"] == 0


def test_a_narrow_window_scrolls_only_the_table(seen: dict[str, Any]) -> None:
    assert seen["overflow"] <= 0


def test_its_own_policy_lets_its_script_run(page: Path) -> None:
    text = _browse(page, "--dump-dom")
    assert ">32 of 32 runs shown<" in text
    assert text.count('class="curve"') == 6 + 3 * 6  # legend, and three charts


def test_screenshots_are_light_and_dark_and_drawn(page: Path) -> None:
    for scheme, lightest in ((1, True), (0, False)):
        picture = page.with_name(f"scheme{scheme}.png")
        _browse(
            page,
            f"--screenshot={picture}",
            f"--blink-settings=preferredColorScheme={scheme}",
            size="1400,3200",
        )
        image = np.asarray(Image.open(picture).convert("RGB")).astype(int)
        assert (image[2, 2].mean() > 200) == lightest
        saturated = image.max(axis=2) - image.min(axis=2) > 90
        assert saturated[1300:].sum() > 10_000  # curves and bars below the table
