"""`facedistill evaluate TEACHER` holds the measured accuracy to the one that the card expects."""

from __future__ import annotations

from typing import Any

import pytest

from facedistill.errors import ConfigError
from facedistill.evaluate import against_card

EXPECTED = {"protocol": "lfw", "flip": "none", "value": 0.9893}


def results(accuracy: float) -> dict[str, Any]:
    return {"teacher": {"protocols": {"lfw": {"accuracy": accuracy}}}}


def test_says_both_figures() -> None:
    said = against_card("dlib_resnet", EXPECTED, results(0.989), "none")
    assert said == "teacher dlib_resnet: lfw accuracy 98.90 %, its card expects 98.93 %"


def test_a_teacher_that_is_fed_wrongly_is_an_error() -> None:
    with pytest.raises(ConfigError) as caught:
        against_card("dlib_resnet", EXPECTED, results(0.867), "none")
    assert str(caught.value) == (
        "teacher dlib_resnet: lfw accuracy 86.70 %, its card expects 98.93 %; teacher.input_spec, the weights or the "
        "faces' alignment are not the card's"
    )


def test_unlike_measurements_are_not_compared() -> None:
    assert against_card("dlib_resnet", EXPECTED, results(0.5), "sum") is None
    assert against_card("dlib_resnet", EXPECTED, {"teacher": {"protocols": {}}}, "none") is None
