"""Trainer settings that make no sense are named; options at their default are no other run."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from facedistill.config import compose, make_run_id, validate
from facedistill.errors import ConfigError
from facedistill.system.paths import config_dir

LABELED = "data=synthetic_identities"


def _problems(*overrides):
    with pytest.raises(ConfigError) as caught:
        validate(compose("train", overrides))
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


@pytest.mark.parametrize("strategy", sorted(path.stem for path in (config_dir() / "strategy").glob("*.yaml")))
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true", "16-mixed"])
def test_every_strategy_takes_every_precision_or_says_why(strategy, precision):
    overrides = [f"strategy={strategy}", f"trainer.precision={precision}"]
    if (strategy, precision) == ("fsdp", "bf16-true"):
        assert _problems(*overrides) == [
            "trainer.precision=bf16-true: fsdp keeps all weights in one type; choose bf16-mixed"
        ]
    else:
        validate(compose("train", overrides))


@pytest.mark.parametrize(("overrides", "problem"), [
    (["trainer.precision=16-true"],
     "trainer.precision: expected 32-true | bf16-mixed | bf16-true | 16-mixed, got '16-true'"),
    (["trainer.precision=32"],
     "trainer.precision: expected 32-true | bf16-mixed | bf16-true | 16-mixed, got 32"),
    (["trainer.strategy=ddp_spawn"], "trainer.strategy: expected auto | ddp | fsdp, got 'ddp_spawn'"),
    (["trainer.compile=maybe"], "trainer.compile: expected null | false | true | auto | reduce-overhead, got 'maybe'"),
    (["trainer.compile=1"], "trainer.compile: expected null | false | true | auto | reduce-overhead, got 1"),
    (["trainer.channels_last=2"], "trainer.channels_last: expected true or false, got 2"),
    (["trainer.devices=0"], "trainer.devices: expected a number of devices or auto, got 0"),
    (["trainer.devices=2"], "trainer.devices=2: strategy auto is for one device; choose strategy=ddp or ddp_cpu"),
    (["trainer.accumulate_grad_batches=0"],
     "trainer.accumulate_grad_batches: expected a whole number > 0, got 0"),
    (["trainer.gradient_clip_val=-1"],
     "trainer.gradient_clip_val: expected a norm > 0, or null for none, got -1"),
    (["+trainer.precison=32-true"], "trainer.precison: no such setting; did you mean trainer.precision?"),
    (["strategy=fsdp", "trainer.accelerator=cpu"],
     "trainer.strategy=fsdp: needs GPUs, and trainer.accelerator is cpu; set it to gpu, or choose strategy=ddp_cpu"),
    (["strategy=fsdp", "head=arcface_sharded", "method=supervised", LABELED],
     "head: fsdp splits every weight already, and a sharded head splits its own; choose a plain head"),
    (["strategy=fsdp", "trainer.compile=true"],
     "trainer.compile=True: is not offered with fsdp; leave it out or choose strategy=ddp"),
    (["strategy=ddp", "head=arcface_sharded", "method=supervised", LABELED, "trainer.precision=16-mixed"],
     "trainer.precision=16-mixed: a process whose centers overflow would skip a step that the others take; "
     "choose bf16-mixed, or a head that is not split"),
    (["method=fitnet", LABELED, "trainer.accumulate_grad_batches=2"],
     "trainer.accumulate_grad_batches=2: FitNet reads a feature map inside the student, which this setting does not "
     "support; leave it out"),
    (["method=at", LABELED, "trainer.compile=true"],
     "trainer.compile=True: AttentionTransfer reads a feature map inside the student, which this setting does not "
     "support; leave it out"),
])  # fmt: skip
def test_one_problem_one_sentence(overrides, problem):
    assert _problems(*overrides) == [problem]


def test_an_option_at_its_default_is_the_same_run_and_elsewhere_another():
    def of(*overrides):
        return make_run_id(compose("train", overrides), {})

    options = ["accumulate_grad_batches=4", "gradient_clip_val=1", "compile=true", "channels_last=false"]
    assert len({of(), *(of(f"trainer.{option}") for option in options)}) == 5
    config = compose("train", [])
    OmegaConf.set_struct(config, False)
    for option in options:
        del config.trainer[option.split("=")[0]]
    assert make_run_id(config, {}) == of()
