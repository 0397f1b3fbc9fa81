"""Numbers have a type and a range; `1e4` is a whole number."""

import pytest
from omegaconf import OmegaConf

from facedistill.config import compose, numbers
from facedistill.config.numbers import problems


@pytest.mark.parametrize(("key", "value", "sentence"), [
    ("seed", 1.5, "seed: expected a whole number in [0, 4294967295], got 1.5"),
    ("seed", 5_000_000_000, "seed=5000000000: must be in [0, 4294967295]"),
    ("seed", 2**32 - 1, None),
    ("images", True, "images: expected a whole number > 0, got True"),
    ("images", [1, 2], "images: expected a whole number > 0, got [1, 2]"),
    ("optimizer.lr", -1, "optimizer.lr=-1: must be > 0"),
    ("optimizer.lr", float("nan"), "optimizer.lr=nan: must be > 0"),
    ("optimizer.weight_decay", -1e-4, "optimizer.weight_decay=-0.0001: must be >= 0"),
    ("optimizer.betas", [0.9, 1.0], "optimizer.betas=1.0: must be in [0, 1)"),
    ("data.source.rho", float("inf"), "data.source.rho=inf: must be >= 0"),
    ("data.source.augment.flip", 1.5, "data.source.augment.flip=1.5: must be in [0, 1]"),
    ("callbacks.log_every_steps", 0, "callbacks.log_every_steps=0: must be > 0"),
    ("evaluation.batch_size", -1, "evaluation.batch_size=-1: must be > 0"),
    ("launcher.slots", None, None),
    ("anything.else", float("nan"), "anything.else=nan: must be a finite number"),
])  # fmt: skip
def test_a_number_is_admitted_or_refused_in_a_sentence(key, value, sentence):
    config = OmegaConf.to_container(OmegaConf.from_dotlist([]))
    node = config
    *parents, last = key.split(".")
    for name in parents:
        node = node.setdefault(name, {})
    node[last] = value
    assert problems(config) == ([sentence] if sentence else [])


def test_names_of_a_users_own_class_have_no_range():
    assert problems({"method": {"_target_": "own.Method", "temperature": -1}}) == []


def test_momentum_is_below_one_and_the_weight_of_the_newest_batch_may_be_one():
    method = {"_target_": "facedistill.methods.crd.CRD", "momentum": 1}
    head = {"_target_": "facedistill.models.heads.adaface.AdaFace", "momentum": 1}
    assert problems({"method": method, "head": head}) == ["method.momentum=1: must be in [0, 1)"]


def test_an_integral_number_is_an_integer():
    images = compose("train", ["images=1e4"]).images
    assert images == 10_000
    assert isinstance(images, int)


def test_every_number_of_every_file_is_admitted():
    for root in ("train", "generate"):
        numbers.demand_numbers(compose(root, []))
