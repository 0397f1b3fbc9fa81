"""Licences: shown once, shown again after a change, and recorded for reports."""

from collections.abc import Callable
from pathlib import Path

import pytest

from facedistill.assets import licence_record, obtain, read_card

CardWriter = Callable[..., Path]


def test_the_licence_is_shown_once_and_again_when_it_changes(
    write_card: CardWriter, wheel: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = write_card(file=str(wheel), licence_note="ask first", origin="invented")
    obtain(card, quiet=True)
    assert capsys.readouterr().err == ""
    obtain(card)
    assert capsys.readouterr().err == "licence of tiny: for nobody. ask first. invented.\n"
    obtain(card)
    assert capsys.readouterr().err == ""
    obtain(write_card(file=str(wheel), licence="for all"))
    assert capsys.readouterr().err == "licence of tiny: for all.\n"


def test_the_record_for_a_report(write_card: CardWriter) -> None:
    assert licence_record(read_card(write_card(origin="invented"))) == {
        "asset": "tiny",
        "licence": "for nobody",
        "note": "",
        "origin": "invented",
    }
