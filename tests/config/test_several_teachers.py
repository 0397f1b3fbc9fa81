"""`teacher=[a,b]`: what is composed, what is refused, and what the run id and the licences hold of each teacher."""

from __future__ import annotations

import pytest

from facedistill.config import compose, make_run_id, validate
from facedistill.config.validate import validate_groups
from facedistill.errors import ConfigError
from facedistill.runs import inputs

BOTH = "teacher=[w600k_mbf,edgeface_s]"


def _config(*overrides, teachers=BOTH):
    return compose("train", [*overrides, teachers])


def test_the_first_leads_and_the_others_keep_their_own_settings():
    config = _config("teacher.weights.edgeface_s=0.5", "teacher.others.edgeface_s.precision=bf16")
    validate(config)
    assert config.teacher.asset == "w600k_mbf"
    assert config.teacher.precision == "fp32"
    assert config.teacher.others.edgeface_s.asset == "edgeface_s"
    assert config.teacher.others.edgeface_s.precision == "bf16"
    assert dict(config.teacher.weights) == {"w600k_mbf": 1.0, "edgeface_s": 0.5}
    assert _config(teachers="teacher=[edgeface_s]") == compose("train", ["teacher=edgeface_s"])


def test_a_width_of_another_teacher_is_its_own():
    own = ["teacher.others.onnx.file=/net.onnx", "teacher.others.onnx.embedding_dim=128"]
    config = _config(*own, teachers="teacher=[w600k_mbf,onnx]")
    assert config.teacher.others.onnx.network.embedding_dim == 128
    assert config.backbone.embedding_dim == 512


@pytest.mark.parametrize(
    ("overrides", "teachers", "sentence"),
    [
        ([], "teacher=[w600k_mbf,edgeface_q]", "teacher=edgeface_q: there is no such teacher; did you mean edgeface_s? "),
        ([], "teacher=mine.pth", "w600k_mbf; `facedistill teacher add FILE` adds a file of yours"),
        ([], "teacher=[sface,sface]", "teacher=[sface,sface]: names no teacher, or one twice; name each once"),
        (["teacher.weights.edgeface_s=-1"], BOTH, "teacher.weights.edgeface_s=-1: must be >= 0"),
        (["teacher.weights={w600k_mbf:0,edgeface_s:0}"], BOTH, "teacher.weights: are all 0"),
        (["~teacher.weights.edgeface_s"], BOTH, "teacher.weights: needs a weight for each teacher"),
        (["teacher.others.edgeface_s.precsion=bf16"], BOTH, "unknown override 'teacher.others.edgeface_s.precsion'; did"),
        (["teacher.others.edgeface_s.network._target_=os.system"], BOTH, "os.system is no class of facedistill"),
        (["+teacher.others.edgeface_s.convert=os.system"], BOTH, "convert: os.system is no converter"),
        (["method=kd", "data=synthetic_identities"], BOTH, "teacher: KD learns from one teacher; name one, or use"),
        (["method=iled_rpsd"], BOTH, "teacher: ILEDRPSD learns from one teacher"),
        ([], "teacher=[w600k_mbf,onnx]", "give teacher.others.onnx.file=/path/to/file"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_one_sentence(overrides, teachers, sentence):
    with pytest.raises(ConfigError) as error:
        validate(_config(*overrides, teachers=teachers))
    assert sentence in str(error.value)


@pytest.mark.parametrize("method", ["shrinkteanet", "rkd"])
def test_embedding_and_relation_methods_take_several(method):
    validate(_config(f"method={method}", "method.identity_weight=0"))


def test_commands_that_take_one_teacher_say_so():
    with pytest.raises(
        ConfigError, match=r"^teacher: several teachers are for `facedistill train`; name one$"
    ):
        validate_groups(_config(), ("data", "generator", "teacher", "seed"))


def test_run_id_and_licences_hold_every_teacher():
    hashes = {
        name: make_run_id(config, inputs._asset_hashes(config))
        for name, config in {
            "both": _config(),
            "one": compose("train", []),
            "led by the other": _config(teachers="teacher=[edgeface_s,w600k_mbf]"),
            "another": _config(teachers="teacher=[w600k_mbf,edgeface_xs]"),
            "weighted": _config("teacher.weights.edgeface_s=2"),
            "in half precision": _config("teacher.others.edgeface_s.precision=bf16"),
        }.items()
    }
    assert len(set(hashes.values())) == len(hashes)
    card = _config("teacher.others.edgeface_s.card.flip=sum")
    assert make_run_id(card, inputs._asset_hashes(card)) == hashes["both"]
    names = [card.name for card in inputs.learned_from(_config())]
    assert names == ["w600k_mbf", "edgeface_s", "mobilestylegan"]
    stored = _config("data=faces", "data.path=/faces", "method=cosine")
    assert [card.name for card in inputs.learned_from(stored)] == names[:2]
    assert [key for key in inputs._asset_hashes(_config()) if key.startswith("others/edgeface_s/")]
