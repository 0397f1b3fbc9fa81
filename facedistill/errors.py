"""Errors that the user can fix: the command line prints them as one sentence and exits with 2."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """A mistake outside the program; the message names the key or file, its value and the fix."""


class ConfigError(UserError):
    """The configuration cannot be run; the message lists every problem found."""


class AssetError(UserError):
    """Weights cannot be obtained, or differ from what their card says."""


class DataError(UserError):
    """Images, pairs or a benchmark cannot be read."""


class NoFaceError(DataError):
    """A photograph shows no face that can be used, or more than one where one is wanted."""


class Interrupted(KeyboardInterrupt):
    """A signal asked the run to stop; the command line exits with 128 + its number, as shells do.

    Attributes:
        number: The signal's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def reason(error: BaseException) -> str:
    """Why it failed, in a few words: "No space left on device" of an OSError, else the first line of its message."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return getattr(error, "strerror", None) or lines[0]


def memory_error(error: BaseException | None) -> BaseException | None:
    """The error that says that memory ran out, of Python or of torch on a GPU or a CPU, if it is `error` or its cause."""
    if error is None:
        return None
    is_torchs = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    cause = getattr(error, "inner_exception", None) or error.__cause__  # the first of torch.compile's errors
    return memory_error(cause) or (error if is_torchs or isinstance(error, MemoryError) else None)


@contextmanager
def os_errors_as(kind: type[UserError], what: str, fix: str = "") -> Iterator[None]:
    """Turns an OSError inside the block into one sentence of a user: `what (reason); fix`.

    Raises:
        UserError: Of the given kind.
    """
    try:
        yield
    except OSError as error:
        raise kind(f"{what} ({reason(error)})" + (f"; {fix}" if fix else "")) from error
