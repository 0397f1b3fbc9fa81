"""The page in a real browser: files, several faces, the camera, keys, narrow and dark; and a thousand uploads.

`FACEDISTILL_SCREENSHOTS=folder` keeps the screenshots.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.demo.hostile import attack
from tests.helpers.browser import BROWSER, Page, browser
from tests.helpers.photographs import photograph

pytestmark = pytest.mark.slow
needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs chromium or google-chrome on the PATH")
SERVER = """
import sys
from facedistill.api import photographs
from tests.helpers.photographs import Tiles
photographs.default_detector = Tiles
from facedistill.cli.main import main
sys.exit(main(["demo", sys.argv[1]]))
"""


@pytest.fixture(scope="module")
def served(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int, Path]]:
    """Port and process of a running demo, and its folder for temporary files."""
    home = tmp_path_factory.mktemp("home")
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(run_folder)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
        env={**os.environ, "TMPDIR": str(home)},
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    try:
        yield int(re.findall(r"127\.0\.0\.1:(\d+)/", line)[0]), process.pid, home
    finally:
        process.send_signal(2)
        assert process.wait(60) == 130


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for name, seeds in (("a", [1]), ("two", [2, 1]), ("none", [0])):
        photograph(*seeds).save(folder / f"{name}.png")
    (folder / "text.png").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    flags = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with browser(tmp_path_factory.mktemp("browser"), *flags) as opened:
        yield opened


def _shot(page: Page, name: str, tmp_path: Path) -> np.ndarray:
    path = Path(os.environ.get("FACEDISTILL_SCREENSHOTS", tmp_path)) / f"{name}.png"
    page.screenshot(path)
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


A, B = '[aria-labelledby="title-A"]', '[aria-labelledby="title-B"]'
SCORE = "document.querySelector('[data-network=student] .score').textContent"


def _message(slot: str) -> str:
    return f"document.querySelector('{slot} .message').textContent"


@needs_browser
def test_two_photographs(page: Page, served: tuple[int, int, Path], photos: Path, tmp_path: Path) -> None:
    page.open(f"http://127.0.0.1:{served[0]}/", 1200, 900)
    page.give_file(f"{A} input", photos / "a.png")
    page.wait(f"{_message(A)} === 'One face found.'")
    page.give_file(f"{B} input", photos / "two.png")
    page.wait(f"{SCORE} !== '—'")
    first = float(page.run(SCORE))
    assert first < 0.9999
    page.run(f"document.querySelector('{B} .faces input').focus()")
    page.press("ArrowRight", 39)  # the other face, by key
    page.wait(f"{SCORE} === '0.9999'")
    assert page.run(f"document.querySelectorAll('{B} rect')[1].classList.contains('chosen')")
    decision = "document.querySelector('.decision').innerText"
    assert page.run(decision) == "Same person\nat or above the threshold 0.9000 (FAR 0.001 on LFW)"
    place = "document.querySelector('.place').textContent"
    assert "100.0 % of the pairs of different people score lower" in page.run(place)
    assert page.run("document.querySelectorAll('.histogram .mark').length") == 1
    picture = _shot(page, "light", tmp_path)
    assert picture[2, 2].mean() > 200
    assert (picture.max(axis=2) - picture.min(axis=2) > 90).sum() > 10_000
    assert page.mistakes == []


@needs_browser
def test_what_cannot_be_used_is_a_sentence(page: Page, served: tuple[int, int, Path], photos: Path) -> None:
    page.open(f"http://127.0.0.1:{served[0]}/", 1200, 900)
    for name, sentence in (
        ("none", "No face is found; "),
        ("text", "This photograph is no JPEG, PNG, WebP or BMP"),
    ):
        page.give_file(f"{A} input", photos / f"{name}.png")
        page.wait(f"{_message(A)}.startsWith('{sentence}')")
    page.mistakes.clear()  # the browser logs the 422
    page.run(f"document.querySelector('{B} .start').click()")
    page.wait(f"document.querySelector('{B} video').videoWidth")
    assert page.run("document.activeElement.className") == "take"
    page.run(f"document.querySelector('{B} .take').click()")
    page.wait(f"{_message(B)}.includes('found')")
    assert page.run(f"document.querySelector('{B} video').srcObject === null")
    assert page.mistakes == []


@needs_browser
def test_a_dark_phone(page: Page, served: tuple[int, int, Path], photos: Path, tmp_path: Path) -> None:
    page.open(f"http://127.0.0.1:{served[0]}/", 390, 844, dark=True)
    for slot in (A, B):
        page.give_file(f"{slot} input", photos / "two.png")
    page.wait(f"{SCORE} !== '—'")
    page.run("document.querySelector('details').open = true")
    assert page.run("document.documentElement.scrollWidth - innerWidth") == 0
    unnamed = """[...document.querySelectorAll('button, input, select, summary, video, img, svg[role]')].filter((part) =>
        !(part.textContent.trim() || part.ariaLabel || part.alt || part.closest('label'))).length"""
    assert page.run(unnamed) == 0
    assert _shot(page, "dark", tmp_path)[2, 2].mean() < 60
    assert page.mistakes == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_thousand_uploads(served: tuple[int, int, Path]) -> None:
    port, process, home = served
    status = Path(f"/proc/{process}/status")

    def mib(name: str) -> int:
        return int(re.findall(rf"{name}:\s+(\d+)", status.read_text())[0]) >> 10

    attack(port, photograph(1, 2), 300)  # several of the largest photographs are among them
    before, files = mib("VmRSS"), sorted(home.rglob("*"))
    answers = attack(port, photograph(1, 2), 1000)
    assert sum(answers.values()) == 1000
    print(f"{before} MiB before, {mib('VmRSS')} after a thousand uploads, {mib('VmHWM')} at most")
    assert mib("VmRSS") - before < 300
    assert mib("VmHWM") < 2500
    assert sorted(home.rglob("*")) == files
