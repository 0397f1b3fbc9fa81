"""The command `facedistill`: one module per command; nothing else imports them."""

import os
import signal
import sys


def _stop(number: int, frame: object) -> None:
    os.write(2, b"interrupted\n")
    os._exit(128 + signal.SIGINT)


# Until `main` runs, Ctrl-C would print a traceback of the imports.
if (
    sys.argv[0].endswith(("facedistill", "facedistill/__main__.py"))
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    signal.signal(signal.SIGINT, _stop)
