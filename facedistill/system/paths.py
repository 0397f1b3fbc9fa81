"""Where the package's own data files lie."""

from __future__ import annotations

from pathlib import Path

from facedistill.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parents[1]


def config_dir() -> Path:
    """The folder `conf` of yaml files: inside an installed package, else next to it in a checkout.

    Raises:
        ConfigError: If neither exists, which means a broken installation.
    """
    for folder in (_PACKAGE / "conf", _PACKAGE.parent / "conf"):
        if folder.is_dir():
            return folder
    raise ConfigError(f"no conf folder in or next to {_PACKAGE}; reinstall facedistill")
