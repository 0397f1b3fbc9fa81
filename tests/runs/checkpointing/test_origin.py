import pytest

from facedistill.errors import UserError
from facedistill.runs.checkpointing import Origin, check_origin

NOW = Origin(
    run_id="bbbbbbbb",
    config={"optimizer": {"lr": 0.01, "betas": [0.9, 0.99]}, "seed": 1},
    files={"teacher/net.safetensors": "1" * 64, "data": "2" * 64},
    versions={"facedistill": "1", "torch": "2"},
)


def _saved(**changes):
    return {**NOW.as_dict(), "run_id": "aaaaaaaa", **changes}


def test_same_origin_gives_no_warning():
    assert check_origin("last.ckpt", NOW.as_dict(), NOW) is None


def test_older_checkpoints_name_the_run_id_identity():
    saved = NOW.as_dict()
    saved["identity"] = saved.pop("run_id")
    assert check_origin("last.ckpt", saved, NOW) is None
    with pytest.raises(UserError, match="belongs to another run: the run id was cccccccc and is bbbbbbbb"):
        check_origin("last.ckpt", {**saved, "identity": "cccccccc"}, NOW)


def test_changed_configuration_names_the_keys():
    config = {"optimizer": {"lr": 0.1, "betas": [0.9, 0.99], "nesterov": True}, "seed": 1}
    with pytest.raises(UserError) as caught:
        check_origin("x/last.ckpt", _saved(config=config), NOW)
    assert str(caught.value) == (
        "x/last.ckpt belongs to another run: optimizer.lr was 0.1 and is 0.01; optimizer.nesterov was True and is absent; "
        "restore these, or force=true starts the run over"
    )


def test_changed_teacher_and_faces_are_named():
    with pytest.raises(
        UserError, match=r"data was absent and is 222222222222; teacher/net.safetensors was 333333333333 and"
    ):
        check_origin("last.ckpt", _saved(files={"teacher/net.safetensors": "3" * 64}), NOW)


def test_another_version_is_a_warning():
    saved = {**NOW.as_dict(), "versions": {"facedistill": "1", "torch": "1.9"}}
    assert check_origin("last.ckpt", saved, NOW) == (
        "made with another version, results may differ by rounding: torch was 1.9 and is 2"
    )


def test_new_default_with_the_same_run_id_is_no_change():
    assert check_origin("last.ckpt", {**NOW.as_dict(), "config": {"seed": 1}}, NOW) is None


def test_checkpoint_without_origin_is_refused():
    with pytest.raises(UserError, match="does not record its configuration"):
        check_origin("last.ckpt", None, NOW)
