"""Messages for the user, on standard error."""

from rich.console import Console


def print_message(text: str) -> None:
    """Prints `text` as it is, without markup, highlighting or added line breaks; nothing if it is empty."""
    if text:
        Console(stderr=True).print(text, highlight=False, markup=False, soft_wrap=True)
