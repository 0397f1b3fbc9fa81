"""Errors that the user can fix: the command line prints them as one sentence and exits with 2."""


class UserError(Exception):
    """A mistake outside the program; the message names the key or file, its value and the fix."""


class ConfigError(UserError):
    """The configuration cannot be run; the message lists every problem found."""


class AssetError(UserError):
    """Weights cannot be obtained, or differ from what their card says."""


class DataError(UserError):
    """Images, pairs or a benchmark cannot be read."""


class Interrupted(KeyboardInterrupt):
    """A signal asked the run to stop; the command line exits with 128 + its number, as shells do.

    Attributes:
        number: The signal's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
