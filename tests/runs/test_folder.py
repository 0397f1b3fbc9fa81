"""The record of a run."""

from __future__ import annotations

from importlib import metadata

import pytest

import facedistill
from facedistill.runs.folder import provenance


def test_code_that_is_not_installed_has_a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = metadata.version

    def version(name: str) -> str:
        if name == "facedistill":
            raise metadata.PackageNotFoundError(name)
        return installed(name)

    assert installed("facedistill") == facedistill.__version__
    monkeypatch.setattr(metadata, "version", version)
    assert provenance("facedistill train")["versions"]["facedistill"] == facedistill.__version__
