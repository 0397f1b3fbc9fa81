"""`facedistill profile`: where the time of a training step goes, and which settings make it shorter."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from facedistill.cli.arguments import parser_with_examples
from facedistill.errors import ConfigError

_EXAMPLES = """\
examples:
  facedistill profile experiment=demo
  facedistill profile experiment=synthdistill strategy=gpu --minutes 10 --trace step.json
  facedistill profile data=recordio data.path=ms1mv2 backbone=iresnet50 strategy=gpu --minutes 0

The trace opens in ui.perfetto.dev.
"""


def main(arguments: Sequence[str]) -> int:
    """Measures, tries the options and prints both.

    Returns:
        0.

    Raises:
        UserError: If the configuration does not allow the run, or the trace cannot be written.
    """
    options = _parser().parse_intermixed_args(list(arguments))
    if not options.minutes >= 0:
        raise ConfigError(f"--minutes {options.minutes:g}: must be 0 or more")
    from facedistill.runs.profile import run_profile

    tell = partial(print, flush=True)  # lines are seen while the next is measured, also in a file
    run_profile(options.overrides, minutes=options.minutes, trace=options.trace, tell=tell)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = parser_with_examples(
        "profile",
        "Measure the parts of a training step against what this device can do, name the bottleneck, and try settings "
        "that change the speed only. Nothing is trained or kept.",
        _EXAMPLES,
    )
    parser.add_argument("overrides", nargs="*", metavar="override", help="as for facedistill train")
    parser.add_argument(
        "--minutes", type=float, default=5.0, help="time limit for trying options; 0 tries none (default: 5)"
    )
    parser.add_argument(
        "--trace", type=Path, metavar="FILE", help="write a trace of a few steps for ui.perfetto.dev"
    )
    return parser
