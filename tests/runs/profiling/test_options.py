"""The search keeps what gains, names what fails, and ends in time; words name the bottleneck."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from facedistill.config import compose
from facedistill.errors import ConfigError
from facedistill.models.generators.face_generator import FaceGenerator
from facedistill.runs.profiling import options
from facedistill.runs.profiling.options import Choice, as_overrides, candidates, is_given, search
from facedistill.runs.profiling.step import Part, Profile
from facedistill.runs.profiling.text import bottleneck, describe, describe_best
from tests.helpers.tiny_networks import TinyGenerator
from tests.models.generators.tiny_generator import write_tiny_generator


def rate(choice: Choice) -> float:
    if "c" in choice:
        raise ConfigError("c=1: not here")
    return 100.0 + 50 * ("a" in choice) + 1 * ("b" in choice)


def test_an_option_stays_if_it_gains_more_than_noise() -> None:
    best, trials = search(rate, [{"a": "1"}, {"b": "1"}, {"c": "1"}], seconds=1e9)
    assert best == {"a": "1"}
    assert [trial.images_per_s for trial in trials] == [100, 150, 151, None]
    assert trials[-1].problem == "c=1: not here"
    assert describe_best(best, trials) == "set: a=1\n(1.51 times as fast)"


def test_the_search_ends_in_time_and_where_nothing_runs() -> None:
    ticks = itertools.count()
    _, trials = search(rate, [{"a": "1"}, {"b": "1"}], seconds=2, clock=lambda: next(ticks))
    assert len(trials) == 2
    assert describe_best({}, search(rate, [], seconds=1)[1]).startswith("set: nothing")
    assert len(search(rate, [{"c": "2"}] * 3, seconds=1e9)[1]) == 4

    def broken(choice: Choice) -> float:
        raise RuntimeError("out of memory\nand more")

    assert search(broken, [{"a": "1"}], seconds=1e9)[1][0].problem == "out of memory"


def test_every_option_is_a_setting() -> None:
    for on_gpu, renders in itertools.product((True, False), repeat=2):
        every: Choice = {}
        for option in candidates(on_gpu, renders=renders, cores=4):
            every = {**every, **option}
        compose("train", as_overrides(every))


def test_half_precision_is_not_tried_where_it_becomes_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facedistill.runs.profiling.options.cpu_has_bfloat16", lambda: False)
    tried = candidates(False, renders=True, cores=4)
    assert {"teacher.compile": "auto"} in tried
    assert not any("teacher.precision" in option for option in tried)


def test_micro_batches_are_not_tried_where_they_have_no_effect(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`FusedSynthesis` renders image by image whatever the micro-batch."""
    micro = [{"generator.network.micro_batch": size} for size in ("2", "8")]
    for fused in (False, True):
        tried = candidates(False, renders=True, fused=fused, cores=4)
        assert [option for option in tried if option in micro] == ([] if fused else micro)
    generator = FaceGenerator(write_tiny_generator(tmp_path))
    monkeypatch.setattr(options, "load_generator", lambda config: generator)
    for library in (None, object()):
        monkeypatch.setattr(options, "fused_layers", lambda network, library=library: library)
        assert options.renders_fused(compose("train", [])) is (library is not None)
    monkeypatch.setattr(options, "load_generator", lambda config: TinyGenerator())
    assert not options.renders_fused(compose("train", []))


def test_what_the_configuration_has_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facedistill.runs.strategies.vectors_end_at_256_bits", lambda: False)
    config = compose("train", ["experiment=demo", "generator.network.micro_batch=8"])
    assert is_given({"teacher.precision": "bf16", "teacher.compile": "auto"}, config)
    assert is_given({"generator.network.micro_batch": "8"}, config)
    assert not is_given({"teacher.precision": "bf16", "teacher.compile": "false"}, config)
    compiled, not_compiled = {"trainer.compile": "auto"}, {"trainer.compile": "false"}
    assert is_given(compiled, config)
    assert not is_given(not_compiled, config)
    assert is_given(not_compiled, compose("train", ["experiment=demo", "images=1000"]))
    assert is_given({"OMP_NUM_THREADS": str(torch.get_num_threads())}, config)


@pytest.mark.parametrize(("flops", "moved", "word"), [
    (0.9, 0.1, "arithmetic"), (0.1, 0.9, "memory bandwidth"), (0.1, 0.1, "neither ceiling"),
    (1.004, 0.1, "arithmetic"),
])  # fmt: skip
def test_the_bottleneck_is_named(flops: float, moved: float, word: str) -> None:
    parts = [Part("student forward", 3.0, 3 * flops * 1e12, 3 * moved * 1e11), Part("loader", 1.0, 0, 0)]
    profile = Profile("a device", 8, 2.0, 1.0, 2, parts, 1e12, 1e11)
    assert bottleneck(profile).startswith("bottleneck: student forward, 75% of the step; ")
    assert word in bottleneck(profile)
    waiting = Profile("a device", 8, 2.0, 1.0, 2, parts[::-1], 1e12, 1e11)
    assert "data.num_workers" in bottleneck(waiting)
    row = describe(profile).splitlines()[3]
    assert row.startswith("student forward       3000.00   75.0%")
    assert row.endswith(" >100%" if flops > 1 else f" {flops:.0%}")
    idle = Profile("a GPU", 8, 2.0, 1.0, 2, parts, 1e12, 1e11, gpu_s=3.0)
    assert bottleneck(idle).startswith(
        "bottleneck: the host, which gives the GPU work for 3000.0 of the 4000.0 ms"
    )
    busy = Profile("a GPU", 8, 2.0, 1.0, 2, parts, 1e12, 1e11, gpu_s=3.9)
    assert word in bottleneck(busy)
