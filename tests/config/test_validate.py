import pytest

from facedistill.config import compose, make_run_id, signature, validate
from facedistill.errors import ConfigError
from facedistill.system.paths import config_dir
from facedistill.system.trust import admit
from tests.helpers.errors import error_message

_QAT = ("quantization=qat", "quantization.student=x")


def _message(*overrides, **arguments):
    return error_message(ConfigError, validate, compose("train", overrides), **arguments)


def test_the_default_configuration_is_valid():
    validate(compose("train", []))


def test_all_problems_are_reported_at_once():
    assert _message(
        "images=0", "+method.wieght=2", "data.source.rho=-1", "backbone.embedding_dim=256"
    ).splitlines() == [
        "4 problem(s) in the configuration",
        "  data.source.rho=-1: must be >= 0",
        "  images=0: must be > 0",
        "  method.wieght: SynthDistill has no such argument",
        "  backbone.embedding_dim=256: SynthDistill compares the student's embeddings with the teacher's, which have 512 "
        "dimensions; leave the key out, or use a method that compares relations or logits, such as method=rkd",
    ]


@pytest.mark.parametrize(("overrides", "problem"), [
    (["images=-5"], "images=-5: must be > 0"),
    (["images=abc"], "images: expected a whole number > 0, got 'abc'"),
    (["images=100"], "images=100: less than one batch of data.batch_size=128"),
    (["data.batch_size=0"], "data.batch_size=0: must be > 0"),
    (["+data.source.rhoo=1"], "data.source.rhoo: RenderedFaces has no such argument; did you mean rho?"),
    (["data.source.resampling=sometimes"],
     "data.source.resampling: expected dynamic | static, got 'sometimes'"),
    (["method.objective=l1"], "method.objective: expected mse | cosine, got 'l1'"),
    (["data.source.replay=many"], "data.source.replay: expected a whole number >= 0, got 'many'"),
    (["method._target_=facedistill.methods.Nothing"], "method._target_: facedistill.methods.Nothing cannot be imported "
     "(AttributeError: module 'facedistill.methods' has no attribute 'Nothing')"),
    (["name=???"], "name: needs a value"),
    (["method=ddl", "method.pairs=views", "method.identity_weight=0"],
     "method: DDL compares two views of each face; set data.source.teacher_view=clean, and an augmentation"),
    (["quantization=qat"], "quantization.student: needs a value"),
    (["quantization.student=x"], "quantization.student: is only read by quantization=qat; add it"),
    ([*_QAT, "trainer.precision=bf16-mixed"], "trainer.precision=bf16-mixed: a student in 8 bits is computed in float32, "
     "eagerly; set trainer.precision=32-true"),
    ([*_QAT, "data=folder", "data.path=x", "method=cosine"],
     "quantization=qat: its ranges are found on rendered faces; use data=stylegan"),
    ([*_QAT, "method=at", "data.source.resampling=static"],
     "quantization=qat: AttentionTransfer reads feature maps, which the quantized student has not; use method=cosine"),
    (["optimizer._target_=torch.optim.LBFGS"], "optimizer._target_=torch.optim.LBFGS: computes the loss 20 times a step, and "
     "a step here computes it once; use optimizer=adamw, sgd or muon, or change its arguments"),
    (["optimizer._target_=torch.optim.SparseAdam"], "optimizer._target_=torch.optim.SparseAdam: cannot train a student "
     "(SparseAdam does not support dense gradients, please consider Adam instead); use optimizer=adamw, sgd or muon, or "
     "change its arguments"),
    (["optimizer=sgd_nesterov", "optimizer.momentum=0"], "optimizer._target_=torch.optim.SGD: cannot train a student "
     "(Nesterov momentum requires a momentum and zero dampening); use optimizer=adamw, sgd or muon, or change its "
     "arguments"),
    (["+optimizer.fused=true", "trainer.precision=16-mixed", "trainer.gradient_clip_val=1"], "optimizer.fused=true: with "
     "trainer.precision=16-mixed it removes the loss's scale after the gradients are clipped; leave it out, or use bf16-mixed"),
    (["~images"], "images: is missing; every configuration has it"),
    (["~data.source"], "data.source: is missing; every configuration has it"),
    (["name=../x"], "name='../x': is part of a folder's name; give 1 to 100 characters without / and no . in front"),
    (["images=99999999999999999999"], "images=99999999999999999999: must be > 0, and below 1e15"),
    (["force=maybe"], "force: expected true or false, got 'maybe'"),
    (["runs_dir=3"], "runs_dir: expected a path, got 3; write ./3"),
    (["evaluation.protocols=lfw"], "evaluation.protocols: expected a list of names, as [lfw], got 'lfw'"),
    (["evaluation.flip=both"], "evaluation.flip: expected none | sum | unit_sum, got 'both'"),
    (["scheduler=multi_step", "scheduler.at=0.3"], "scheduler.at: expected a list, got 0.3"),
    (["method=ekd", "data.source={balanced: {identites: 8}}", "data=faces", "data.path=x"],
     "data.source.balanced.identites: no such key; there are identities, images"),
    (["method=weighted_sum", "+method.losses.mse.wieght=1"],
     "method.losses.mse.wieght: no such key; there are loss, weight"),
    (["data=mixed"], "data.path: needs a value"),
    (["data=folder", "data.path=null"], "data.path: needs a value"),
    (["data=mixed", "data.path=x", "data.source.share=1.0"], "data.source.share=1.0: must be in (0, 1)"),
    (["data.source.yaw=75"],
     "data.source.yaw=75: must be above 0 and at most 60 degrees, beyond which rendered faces break; 45 is safe, and null "
     "turns none"),
    (["data.source.yaw_share=0"],
     "data.source.yaw_share=0: must be in (0, 1]"),
    (["data=mixed", "data.path=x", "method=gkd", "method.size=4", "data.source.resampling=static"],
     "data: GKD needs labels, and MixedFaces offers none; use data=synthetic_identities, or labeled faces of your own"),
])  # fmt: skip
def test_one_problem_one_sentence(overrides, problem):
    assert problem in [line.strip() for line in _message(*overrides).splitlines()]


BACKBONES = sorted(path.stem for path in (config_dir() / "backbone").glob("*.yaml"))


@pytest.mark.parametrize(("override", "sentence"), [
    ("imagse=5", "unknown override 'imagse'; did you mean images?"),
    ("data.source.roh=5", "unknown override 'data.source.roh'; did you mean data.source.rho?"),
    ("image=5", "unknown override 'image'; did you mean images or launcher.image?"),
    ("zzz=5", "unknown override 'zzz'; see `facedistill train --help` for the keys"),
    ("backbone=resnet", f"backbone=resnet: there is no such backbone; did you mean iresnet50? There are {', '.join(BACKBONES)}"),
    ("images", "cannot read the override 'images'; write key=value or group=choice"),
])  # fmt: skip
def test_a_wrong_override_is_one_sentence(override, sentence):
    with pytest.raises(ConfigError) as caught:
        compose("train", [override])
    assert str(caught.value) == sentence


def test_labeled_faces_are_not_turned():
    with pytest.raises(ConfigError) as refused:
        compose("train", ["data=synthetic_identities_stream", "data.source.yaw=30"])
    assert str(refused.value) == (
        "unknown override 'data.source.yaw': only faces of data=stylegan and data=mixed are turned; a turned face has "
        "another identity, so labeled faces are not"
    )


def test_faces_that_are_not_turned_leave_the_run_id_alone():
    plain, turned = (make_run_id(compose("train", one), {}) for one in ([], ["data.source.yaw=30"]))
    assert make_run_id(compose("train", ["data.source.yaw_share=0.9"]), {}) == plain
    others = [["data.source.yaw=45"], ["data.source.yaw=30", "data.source.yaw_share=0.9"]]
    assert len({plain, turned, *(make_run_id(compose("train", one), {}) for one in others)}) == 4


def test_identity_is_what_changes_the_result():
    def of(*overrides, hashes=None):
        return make_run_id(compose("train", overrides), hashes or {"teacher": "aa"})

    assert of() == of(
        "name=other", "runs_dir=elsewhere", "logger=csv", "force=true", "callbacks.log_every_steps=3"
    )
    assert of() == of("data.source.teacher_view=same") == of("~data.source.teacher_view")
    others = [
        of("data.source.teacher_view=clean"),
        of("seed=1"),
        of("images=4096"),
        of("backbone=tinyfar_a"),
        of("data.source.rho=0.5"),
    ]
    assert len({of(), of(hashes={"teacher": "bb"}), *others}) == 7


@pytest.mark.parametrize("method", ["cosine", "embedding_mse", "weighted_sum"])
def test_an_argument_left_out_counts_as_its_default(method):
    """These methods have no identity loss by default, so faces without labels are enough."""
    validate(compose("train", [f"method={method}", "data=stylegan", "~method.identity_weight"]))
    assert "data: SP needs labels" in _message("method=sp", "data=stylegan", "~method.identity_weight")


def test_a_class_that_is_no_method_is_refused():
    assert "method._target_: Seeded is no distillation method" in _message(
        f"method._target_={__name__}.Seeded"
    )


admit([__name__])


class Seeded:
    def __init__(self, *, embedding_dim: int, seed: int) -> None: ...


@pytest.mark.parametrize(("key", "missing"), [
    ("backbone", ["embedding_dim", "seed"]), ("method", ["seed"]), ("head", ["seed"]), ("data.source", ["embedding_dim"]),
])  # fmt: skip
def test_what_the_program_passes_depends_on_the_group(key, missing):
    found = signature.problems(key, {"_target_": f"{__name__}.Seeded"})
    assert found == [f"{key}.{name}: Seeded needs a value" for name in missing]


def test_what_the_program_passes_is_not_set_in_a_configuration():
    assert "method.num_images: CRD gets it from the program; leave it out" in _message(
        "method=crd", "data=synthetic_identities", "+method.num_images=5"
    )


def test_a_narrow_student_is_accepted_where_embeddings_are_not_compared():
    validate(compose("train", ["method=rkd", "data=synthetic_identities", "backbone.embedding_dim=128"]))


def test_each_process_has_a_validation_face():
    assert (
        "data.validation.faces=1: less than one face for each of the 2 processes; set data.validation.faces=2 or more"
        in _message("strategy=ddp_cpu", "trainer.devices=2", "data.validation.faces=1")
    )
    validate(compose("train", ["strategy=ddp_cpu", "trainer.devices=2", "data.validation.faces=2"]))


def test_a_quantized_student_is_part_of_the_run_id_and_its_path_is_not():
    one, two = (compose("train", ["quantization=qat", f"quantization.student={name}"]) for name in ("a", "b"))
    assert make_run_id(one, {"quantization/student": "1"}) == make_run_id(two, {"quantization/student": "1"})
    assert make_run_id(one, {"quantization/student": "1"}) != make_run_id(one, {"quantization/student": "2"})
    assert make_run_id(one, {}) != make_run_id(compose("train", []), {})
