"""Every teacher of several is loaded and checked against its own card."""

from __future__ import annotations

import pytest
import torch

from facedistill.config import compose
from facedistill.errors import ConfigError
from facedistill.models.teachers.golden import draw_faces
from facedistill.runs.frozen_networks import load_teacher, load_teachers
from tests.helpers.assets import asset_or_skip

pytestmark = pytest.mark.slow
BOTH = "teacher=[w600k_mbf,edgeface_xs]"


@pytest.fixture(autouse=True)
def weights():
    for name in ("w600k_mbf", "edgeface_xs"):
        asset_or_skip(name)


def test_several_are_each_alone_side_by_side():
    team, faces = load_teachers(compose("train", [BOTH])), draw_faces(2)
    alone = [load_teacher(compose("train", [f"teacher={name}"])) for name in team.names]
    assert team.names == ("w600k_mbf", "edgeface_xs")
    assert torch.equal(team(faces), torch.cat([teacher(faces) for teacher in alone], 1))
    assert load_teachers(compose("train", [])).fingerprint == alone[0].fingerprint


@pytest.mark.parametrize("key", ["teacher.input_spec.color", "teacher.others.edgeface_xs.input_spec.color"])
def test_a_wrong_input_of_either_is_refused(key):
    name = key.split(".")[2] if "others" in key else "w600k_mbf"
    with pytest.raises(ConfigError, match=f"^teacher {name}: with input BGR .* differ from its card"):
        load_teachers(compose("train", [BOTH, f"{key}=BGR"]))


def test_a_wrong_width_of_another_names_its_key():
    with pytest.raises(
        ConfigError, match=r"^teacher.others.edgeface_xs.embedding_dim=128: the network's embeddings"
    ):
        load_teachers(compose("train", [BOTH, "teacher.others.edgeface_xs.embedding_dim=128"]))
