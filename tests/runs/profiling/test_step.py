"""What a profile measures."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from facedistill.config import compose
from facedistill.data.sources.rendered import RenderedFaces
from facedistill.runs import assembly
from facedistill.runs.profiling import step
from facedistill.runs.profiling.step import cycle_of
from tests.helpers.tiny_networks import TinyBackbone, TinyGenerator, TinyTeacher


@pytest.mark.parametrize("resampling", ["dynamic", "static"])
@pytest.mark.parametrize("replay", [0, 2])
def test_rendered_and_replayed_steps_are_measured_in_their_share(resampling: Any, replay: int) -> None:
    source = RenderedFaces(TinyGenerator(), seed=1, resampling=resampling, replay=replay, pool_images=64)
    count = cycle_of(source)
    kinds = [source.step(number).kind for number in range(2 * count)]
    assert kinds[:count] == kinds[count:]
    assert kinds[:count].count("replayed") == count * replay // (1 + replay)


def test_the_networks_are_those_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """All teachers, and the student in 8 bits where the run trains one."""
    teachers, student = TinyTeacher(), TinyBackbone()
    monkeypatch.setattr(step, "load_teachers", lambda *parts: teachers)
    monkeypatch.setattr(step, "load_generator", lambda *parts: TinyGenerator())
    monkeypatch.setattr(step, "open_inputs", lambda config: SimpleNamespace(faces=None))
    monkeypatch.setattr(assembly, "quantized_student", lambda config, folder, generator: student)
    config = compose("train", ["debug=smoke", "data.batch_size=4", "data.num_workers=0", "strategy=cpu"])
    training = step.TrainingStep(config)
    training.steps(1)
    assert training.method.teacher is teachers
    assert training.method.student is student
    assert {"generator", "teacher", "student forward", "optimizer"} <= training.clock.seconds.keys()
    training.close()
