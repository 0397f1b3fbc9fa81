import pytest

from facedistill.errors import UserError
from facedistill.runs.checkpointing import Origin, check_origin

NOW = Origin(
    identity="bbbbbbbb",
    config={"optimizer": {"lr": 0.01, "betas": [0.9, 0.99]}, "seed": 1},
    files={"teacher/net.safetensors": "1" * 64, "data": "2" * 64},
    versions={"facedistill": "1", "torch": "2"},
)


def _saved(**changes):
    return {**NOW.as_dict(), "identity": "aaaaaaaa", **changes}


def test_the_same_goes_on_without_a_word():
    assert check_origin("last.ckpt", NOW.as_dict(), NOW) is None


def test_a_changed_configuration_names_the_keys():
    config = {"optimizer": {"lr": 0.1, "betas": [0.9, 0.99], "nesterov": True}, "seed": 1}
    with pytest.raises(UserError) as caught:
        check_origin("x/last.ckpt", _saved(config=config), NOW)
    assert str(caught.value) == (
        "x/last.ckpt was made under something else: optimizer.lr was 0.1 and is 0.01; optimizer.nesterov was True and is "
        "absent; restore what it was made under, or force=true starts the run over"
    )


def test_another_teacher_and_other_faces_are_named():
    with pytest.raises(
        UserError, match=r"data was absent and is 222222222222; teacher/net.safetensors was 333333333333 and"
    ):
        check_origin("last.ckpt", _saved(files={"teacher/net.safetensors": "3" * 64}), NOW)


def test_another_version_goes_on_and_is_told():
    saved = {**NOW.as_dict(), "versions": {"facedistill": "1", "torch": "1.9"}}
    assert check_origin("last.ckpt", saved, NOW) == (
        "made with another version, the end may differ in rounding: torch was 1.9 and is 2"
    )


def test_a_default_that_came_later_and_leaves_the_identity_alone_is_no_change():
    assert check_origin("last.ckpt", {**NOW.as_dict(), "config": {"seed": 1}}, NOW) is None


def test_a_checkpoint_that_does_not_say_is_refused():
    with pytest.raises(UserError, match="does not say what it was made under"):
        check_origin("last.ckpt", None, NOW)
