"""What is watched during training has nothing in common with what a table reports."""

from pathlib import Path

import pytest
import torch
import yaml

from facedistill.config import compose
from facedistill.errors import ConfigError
from facedistill.evaluation.generated_pairs import STREAMS, GeneratedPairs, generated_protocol
from facedistill.evaluation.protocols.find import open_protocols
from facedistill.models.latents import draw_latents
from facedistill.system.paths import config_dir
from tests.evaluation.test_generated_pairs import SMALL, TinyGenerator, TinyTeacher

CONFIGS = sorted(path.stem for path in (config_dir() / "evaluation").glob("*.yaml"))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_evaluation_declares_a_validation_set_of_its_own(name: str) -> None:
    settings = compose("train", [f"evaluation={name}"]).evaluation
    assert settings.validation_pairs.seed != settings.generated_pairs.seed
    assert not {"generated", "validation"} & set(settings.protocols)
    GeneratedPairs(**settings.validation_pairs, purpose="validation")


def test_streams_and_seeds_are_disjoint_even_for_one_seed() -> None:
    assert STREAMS["generated"] != STREAMS["validation"]
    index = torch.arange(50)
    for part in ("base", "variation/0"):
        ours, theirs = (draw_latents(7, f"{STREAMS[purpose]}/{part}", index, 8) for purpose in STREAMS)
        assert torch.cdist(ours, theirs).min() > 0


def test_no_face_of_one_is_in_the_other(tmp_path: Path) -> None:
    made = {
        purpose: generated_protocol(TinyGenerator(), TinyTeacher(), tmp_path, SMALL, purpose=purpose)
        for purpose in STREAMS
    }
    assert {purpose: protocol.name for purpose, protocol in made.items()} == {p: p for p in STREAMS}
    faces = {
        purpose: {f.numpy().tobytes() for f in torch.cat(list(p.images()))} for purpose, p in made.items()
    }
    assert len(faces["generated"]) == len(faces["validation"]) == 40
    assert not faces["generated"] & faces["validation"]
    assert len(list(tmp_path.iterdir())) == 2


def test_the_validation_set_may_not_be_asked_for_in_a_table(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no protocol is named 'validation'"):
        open_protocols(["validation"], [tmp_path])


def test_messages_name_the_right_key() -> None:
    with pytest.raises(ConfigError) as caught:
        GeneratedPairs(identities=128, purpose="validation")
    assert (
        str(caught.value)
        == "evaluation.validation_pairs.identities: must be a multiple of 10 from 20, got 128"
    )


def test_as_many_faces_as_the_validation_loss_wants() -> None:
    evaluation = yaml.safe_load((config_dir() / "evaluation" / "default.yaml").read_text())
    data = yaml.safe_load((config_dir() / "data" / "stylegan.yaml").read_text())
    assert 2 * evaluation["validation_pairs"]["identities"] >= data["validation"]["faces"]
