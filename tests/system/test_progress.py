"""Progress of a long pass, in a terminal and elsewhere."""

import io

from rich.console import Console

from facedistill.system.progress import ProgressBar


def test_progress_is_silent_when_fast_and_plain_lines_when_slow():
    now = [0.0]
    written = io.StringIO()
    console = Console(file=written, width=200)
    with ProgressBar("verifying", 1000, console=console, clock=lambda: now[0]) as progress:
        progress.advance(10)
        assert written.getvalue() == ""
        for _ in range(3):
            now[0] += 5.0
            progress.advance(100)
        now[0] = 1000.0
        progress.advance(10)
    assert written.getvalue() == (
        "verifying: 210 of 1,000 images, 21/s, 38 s left\nverifying: 320 of 1,000 images, 0.32/s, 35 min left\n"
    )


def test_quiet_shows_nothing_however_slow():
    now = [0.0]
    written = io.StringIO()
    console = Console(file=written, width=200)
    with ProgressBar("rendering", 10, console=console, clock=lambda: now[0], quiet=True) as progress:
        for _ in range(10):
            now[0] += 60.0
            progress.advance()
    assert written.getvalue() == ""
