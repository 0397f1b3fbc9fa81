"""Errors whose cause is the user's to mend: the command line prints them as one sentence and exits with 2."""


class UserError(Exception):
    """A mistake or a missing thing outside the program; the message names it, its value and the mend."""


class ConfigError(UserError):
    """The configuration cannot be run; the message lists every problem found."""


class AssetError(UserError):
    """Weights cannot be obtained, or are not what their card says."""


class DataError(UserError):
    """Images, pairs or a benchmark cannot be read as what they should be."""
