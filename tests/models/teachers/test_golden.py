"""A card's golden answers: they stop a teacher that is fed or weighted otherwise, and nothing else."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from facedistill.config import compose, make_run_id
from facedistill.errors import ConfigError
from facedistill.models.teachers import FrozenTeacher
from facedistill.models.teachers.golden import check_golden, draw_faces, golden_of, relative_difference
from facedistill.models.weights import write_weights
from facedistill.runs.frozen_networks import load_teacher
from facedistill.types import InputSpec
from tests.helpers.assets import asset_or_skip
from tests.models.teachers.test_frozen import Small


class Wide(Small):
    embedding_dim = 12

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(8, 12)


@pytest.fixture
def teacher(tmp_path: Path) -> FrozenTeacher:
    torch.manual_seed(0)
    network = Wide()
    network.norm.running_var.fill_(0.1)
    write_weights(tmp_path / "wide.safetensors", network.state_dict(), {})
    return FrozenTeacher(Wide(), tmp_path / "wide.safetensors", InputSpec())


def test_is_the_start_of_the_raw_embeddings(teacher: FrozenTeacher) -> None:
    found = torch.tensor(golden_of(teacher))
    torch.testing.assert_close(found, teacher(draw_faces(4))[:, :8], rtol=1e-3, atol=1e-4)
    assert relative_difference(found * 1.5, found) == pytest.approx(0.5)
    check_golden(teacher, golden_of(teacher), "wide")
    assert relative_difference(found * float("nan"), found) == float("inf")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"color": "BGR"}, "BGR (x - 127.5) / 127.5"),
        ({"mean": 100.0}, "RGB (x - 100) / 127.5"),
        ({"std": 255.0}, "RGB (x - 127.5) / 255"),
    ],
)
def test_a_swapped_color_order_and_a_wrong_mean_stop(
    teacher: FrozenTeacher, change: dict[str, object], words: str
) -> None:
    golden = golden_of(teacher)
    teacher.input_spec = replace(teacher.input_spec, **change)  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as caught:
        check_golden(teacher, golden, "wide")
    message = str(caught.value)
    assert message.startswith(
        f"teacher wide: with input {words} at 112 px its embeddings differ from its card (by "
    )
    assert message.endswith(
        "more than 0.01); restore teacher.input_spec and the weights, or set teacher.card.golden=null and check the "
        "new ones with `facedistill teacher add`"
    )
    assert "\n" not in message


def test_other_weights_stop_and_rounding_does_not(teacher: FrozenTeacher) -> None:
    golden = golden_of(teacher)
    near = copy.deepcopy(golden)
    near[0][0] *= 1.001
    check_golden(teacher, near, "wide")
    with torch.no_grad():
        teacher.network.linear.weight[0] *= 2
    with pytest.raises(ConfigError, match="its embeddings differ from its card"):
        check_golden(teacher, golden, "wide")


@pytest.mark.parametrize("golden", [[[1.0]], [["a"] * 8] * 4, [1.0, 2.0]])
def test_golden_of_another_form(teacher: FrozenTeacher, golden: object) -> None:
    with pytest.raises(ConfigError) as caught:
        check_golden(teacher, golden, "wide")  # type: ignore[arg-type]
    assert str(caught.value) == (
        "teacher wide: card.golden must be 4 rows of 8 numbers, as `facedistill teacher add` writes them"
    )


def test_the_card_is_no_part_of_a_runs_identity() -> None:
    plain = compose("train", [])
    other = compose("train", ["teacher.card.golden=null", "teacher.card.flip=none"])
    assert plain.teacher.card != other.teacher.card
    assert make_run_id(plain, {}) == make_run_id(other, {})


@pytest.mark.assets
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("w600k_mbf", "color=BGR"),
        ("w600k_mbf", "mean=0.0"),
        ("sface", "color=RGB"),
        ("dlib_resnet", "mean=10.0"),
    ],
)
def test_a_published_teacher_that_is_fed_wrongly(name: str, change: str) -> None:
    config = compose("train", [f"teacher={name}", f"teacher.input_spec.{change}"])
    asset_or_skip(config.teacher.asset)
    with pytest.raises(
        ConfigError, match=f"^teacher {name}: with input .* its embeddings differ from its card"
    ):
        load_teacher(config)
    load_teacher(compose("train", [f"teacher={name}"]))
