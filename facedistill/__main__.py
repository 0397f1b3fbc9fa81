"""`python -m facedistill`: the command without the script that pip installs."""

import sys

from facedistill.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
