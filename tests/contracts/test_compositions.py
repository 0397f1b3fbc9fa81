"""Every method x backbone x data x strategy composes and validates, or is refused for the stated reason."""

from __future__ import annotations

import importlib.util
import random
import re
import time
from pathlib import Path
from types import ModuleType

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from facedistill.config import compose
from facedistill.config.validate import validate
from facedistill.errors import ConfigError
from facedistill.system.paths import config_dir


def _load(name: str) -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


product = _load("compositions")

# The rules, from the papers: what a method trains on as its yaml has it, and what comes with the faces.
LABEL_FREE = {"cosine", "embedding_mse", "iled_rpsd", "refo", "synthdistill", "weighted_sum"}
NEEDS_CENTERS = {"coupleface", "dkd", "gkd", "kd", "margin_distillation", "proxyless"}
NEEDS_FINITE_SET = {"crd"}
WITHOUT_AGREEMENT = {"mutual", "proxyless", "supervised"}  # they do not compare student and teacher per face
WITHOUT_LABELS = {"mixed", "stylegan"}
RENDERED_EACH_STEP = {"mixed", "stylegan", "synthetic_identities_stream"}
RESAMPLED = {"mixed", "stylegan"}


def expected(method: str, backbone: str, data: str, strategy: str) -> set[str]:
    """The reasons to refuse a combination; a backbone or a strategy is none."""
    rules = {
        "labels needed": method not in LABEL_FREE and data in WITHOUT_LABELS,
        "finite set needed": method in NEEDS_FINITE_SET and data in RENDERED_EACH_STEP,
        "teacher centers needed": method in NEEDS_CENTERS and data in RENDERED_EACH_STEP,
        "dynamic resampling without agreement": method in WITHOUT_AGREEMENT and data in RESAMPLED,
    }
    return {reason for reason, holds in rules.items() if holds}


SAMPLE = random.Random(0).sample(product.combinations(), 60)


def test_a_sample_is_valid_or_refused_for_the_stated_reason() -> None:
    for combination in SAMPLE:
        config = compose("train", product.overrides(combination))
        assert product.refusals(config) == expected(*combination), combination


def test_choices_put_together_are_the_composed_configuration() -> None:
    together = product.Product()
    for combination in SAMPLE:
        composed = compose("train", product.overrides(combination))
        assert together.plain(combination) == OmegaConf.to_container(composed, resolve=False), combination


def test_what_a_refusal_advises_is_true() -> None:
    """Method by method on data=stylegan: the configuration that the sentences ask for is valid."""
    for method in product.choices("method"):
        with_advice = [f"method={method}", "data=stylegan"]
        advised = re.findall(r"(?:use|with) ([\w.]+=\w+)(?=[,;]|$)", said(*with_advice), re.MULTILINE)
        if "data=synthetic_identities" in advised:  # which has no resampling
            with_advice = [f"method={method}", "data=synthetic_identities"]
        else:
            with_advice += advised
        assert said(*with_advice) == "", method


SPLIT = [name for name in product.choices("head") if name.endswith("_sharded")]


@pytest.mark.parametrize("head", SPLIT)
def test_a_split_head_is_refused_where_all_logits_are_needed(head: str) -> None:
    refused = set()
    for method in product.choices("method"):
        sentence = said(f"method={method}", f"head={head}", "data=synthetic_identities")
        if sentence:
            refused.add(method)
            assert re.fullmatch(
                r"1 problem\(s\) in the configuration\n  head: (KD|DKD|Mutual) needs the logits of all identities in "
                r"each process, and ShardedHead splits them; use head=arcface or head=cosface",
                sentence,
            )
    assert refused == {"kd", "dkd", "mutual"}


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["method=mutual", "method.identity_weight=0"],
            "method.identity_weight=0: Mutual has no loss without the head's; set it above 0",
        ),
        (
            ["method=proxyless", "head.sub_centers=3"],
            "head.sub_centers=3: Proxyless takes the teacher's centers, one per identity; set it to 1",
        ),
        (
            ["method=gkd", "head=cosface_sharded", "head.sample_rate=0.1"],
            "head.sample_rate=0.1: GKD needs the logits of all identities; set it to 1",
        ),
        (
            ["method=kd", "head.sub_centers=2", "data.centers=trained"],
            "data.centers=trained: needs a head that is not split, with 1 center per identity; set data.centers=mean",
        ),
        (["backbone=timm"], "backbone.name: needs a value"),
    ],
)
def test_settings_that_do_not_go_together(overrides: list[str], sentence: str) -> None:
    assert said("data=synthetic_identities", *overrides) == f"1 problem(s) in the configuration\n  {sentence}"


def said(*overrides: str) -> str:
    """What validation says; nothing where all is well."""
    try:
        validate(compose("train", overrides))
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.slow
def test_the_full_product() -> None:
    begin = time.process_time()
    count = refused = 0
    for combination, reasons in product.Product().reasons():
        assert reasons == expected(*combination), combination
        count, refused = count + 1, refused + bool(reasons)
    print(
        f"{count} combinations, {refused} refused, in {time.process_time() - begin:.0f} s of processor time"
    )
    assert count == len(product.combinations())


@pytest.mark.slow
def test_choices_put_together_are_what_hydra_composes() -> None:
    together = product.Product()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        for combination in random.Random(1).sample(product.combinations(), 300):
            composed = OmegaConf.to_container(hydra_compose("train", product.overrides(combination)))
            assert isinstance(composed, dict)
            composed.pop("hydra", None)
            assert together.plain(combination) == composed, combination
