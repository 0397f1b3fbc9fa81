"""`-m` lists what Hydra's own sweeper would, in its order."""

from __future__ import annotations

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from facedistill.errors import ConfigError
from facedistill.sweeps.grid import expand

CASES = [
    ["seed=1,2,3"],
    ["method=ekd,gkd", "seed=1,2", "name=x"],
    ["a=range(1,4)", "+b.c=choice(u,v)"],
    ["a=interval(1,2)", "b=1"],
    ["a='x,y',z", "b=[1,2],[3]"],
    ["name=only"],
]


@pytest.mark.parametrize("arguments", [case for case in CASES if "interval" not in case[0]])
def test_as_hydra_does(arguments):
    parsed = OverridesParser.create().parse_overrides(arguments)
    (batch,) = BasicSweeper.split_arguments(parsed, None)
    assert [list(job) for job in expand(arguments)] == batch


def test_what_cannot_be_swept_is_refused():
    with pytest.raises(ConfigError) as error:
        expand(["a=interval(1,2)"])
    assert str(error.value) == "a=interval(1,2): cannot be swept over; list the values"
    with pytest.raises(ConfigError) as error:
        expand(["hydra/launcher=joblib", "seed=1,2"])
    assert str(error.value) == (
        "hydra/launcher=joblib: Hydra's launchers train different ranks on different configurations; "
        "leave it out, -m starts every job in a process tree of its own"
    )
    with pytest.raises(ConfigError) as error:
        expand(["a=1,,2"])
    assert str(error.value) == "cannot read the value of 'a=1,,2'; put it in quotes twice, as 'a=\"1,,2\"'"
