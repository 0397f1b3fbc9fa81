"""Run ids and run folders outlive a move of a class."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

from facedistill.config import compose, make_run_id
from facedistill.config.class_names import _MOVED, current_path, published_name
from facedistill.runs.folder import RunFolder
from facedistill.sweeps.job import read_job

# What facedistill at commit b8c5996 gave these configurations, with no file hashed.
RUN_IDS = {
    ("experiment=demo", "augment=light", "optimizer=adamw", "images=32000"): "c9c2a6fc",
    ("experiment=synthdistill",): "0ed6fd56",
    ("experiment=ekd", "data.path=x"): "ba9a2c7b",
    ("experiment=gkd", "data.path=x", "~scheduler.start", "~scheduler.warmup_prefix"): "d77883a7",
    ("method=cosine", "data=synthetic_identities"): "5a5ea4b7",
    ("method=cosine", "data=synthetic_identities_stream"): "52e0b192",
    ("method=crd", "data=folder", "data.path=x"): "659552b9",
    ("data=recordio", "method=adadistill", "data.path=x", "strategy=ddp"): "b3135f3c",
    (
        "method=dkd",
        "~method.ramp_first",
        "head=cosface_sharded",
        "data=webdataset",
        "data.path=x",
    ): "2009eb0c",
    ("experiment=cpu_hour", "augment=light", "optimizer=adamw", "images=240000"): "f6367132",
}
"""Overrides -> run id."""


@pytest.mark.parametrize("module", sorted(_MOVED))
def test_every_moved_module_is_there(module: str) -> None:
    __import__(_MOVED[module])
    assert published_name(current_path(f"{module}.Name")) == f"{module}.Name"


@pytest.mark.parametrize(("overrides", "run_id"), RUN_IDS.items())
def test_run_ids_do_not_depend_on_where_a_class_is(overrides: tuple[str, ...], run_id: str) -> None:
    assert make_run_id(compose("train", overrides), {}) == run_id


def test_an_old_config_names_classes_where_they_are_now(tmp_path: Path) -> None:
    old = compose("train", ["method=cosine", "data=stylegan"])
    text = OmegaConf.to_yaml(old)
    for published, now in _MOVED.items():
        text = text.replace(f"{now}.", f"{published}.")
    assert "facedistill.data.rendered.RenderedFaces" in text
    (tmp_path / "config.yaml").write_text(text)
    config = RunFolder(tmp_path).config()
    assert config is not None
    assert config == old
    assert read_job(tmp_path / "config.yaml")[0] == old
    assert make_run_id(OmegaConf.create(text), {}) == make_run_id(old, {})
    assert get_object(config.data.source._target_).__name__ == "RenderedFaces"
