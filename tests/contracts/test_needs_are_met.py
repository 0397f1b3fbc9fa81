"""Every method can be trained on at least two kinds of data, and none of them needs a real face."""

from __future__ import annotations

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

from facedistill.config import compose
from facedistill.system.paths import config_dir

GENERATED = {"stylegan", "synthetic_identities", "synthetic_identities_stream"}


def _yamls(group):
    return {path.stem: OmegaConf.load(path) for path in (config_dir() / group).glob("*.yaml")}


SOURCES = {
    name: get_object(compose("train", [f"data={name}"]).data.source._target_).offers
    for name in _yamls("data")
}


@pytest.mark.parametrize(("name", "config"), sorted(_yamls("method").items()))
def test_needs(name, config):
    required = get_object(config._target_).requirements_with(config)
    meeting = {source for source, offers in SOURCES.items() if not required.missing(offers)}
    assert len(meeting) >= 2
    assert meeting & GENERATED


def test_the_sources_are_there():
    assert SOURCES.keys() == GENERATED | {
        "mixed",
        "faces",
        "recordio",
        "folder",
        "webdataset",
        "parquet",
        "lmdb",
    }
