"""Every card in conf/teacher composes, builds its network, names a converter, and says what a card must say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hydra.utils import get_object
from omegaconf import OmegaConf

from facedistill.assets import read_card
from facedistill.assets.own_file import card_of
from facedistill.config import compose, validate
from facedistill.models.teachers.golden import NUM_ELEMENTS, NUM_FACES
from facedistill.runs.sources import instantiate
from facedistill.system.paths import config_dir
from facedistill.system.trust import admit
from facedistill.types import InputSpec

TEACHERS = sorted(path.stem for path in (config_dir() / "teacher").glob("*.yaml"))
admit(["facedistill.models.teachers.TorchProgram"])
SAID = {"timm": ["teacher.network.name=tinynet_e"], "torch_program": ["teacher.network.trusted=true"]}


@pytest.mark.parametrize("name", TEACHERS)
def test_keeps_the_promises(name: str, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    file.touch()
    published = "asset" in OmegaConf.load(config_dir() / "teacher" / f"{name}.yaml")
    words = [f"teacher={name}", *([] if published else [f"teacher.file={file}"]), *SAID.get(name, [])]
    config = compose("train", words)
    validate(config)
    node = config.teacher
    with torch.device("meta"):
        network = instantiate(node.network)
    assert network.embedding_dim == node.embedding_dim
    InputSpec(**node.input_spec)
    card = card_of(node, "teacher")
    assert callable(get_object(card.convert))
    assert card.licence
    assert set(node.card) == {"flip", "classifier", "accuracy", "golden"}
    assert node.card.flip in ("none", "sum")
    assert node.card.classifier in ("none", "dropped")
    if published:  # what anybody can fetch is held to what it answered here
        assert read_card(node.asset).name == node.asset
        assert [len(row) for row in node.card.golden] == [NUM_ELEMENTS] * NUM_FACES
        assert set(node.card.accuracy) == {"protocol", "flip", "value"}
        assert 0.9 < node.card.accuracy.value < 1
    else:
        assert node.card.accuracy is None
