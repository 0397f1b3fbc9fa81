"""The examples in docstrings run, and print what they say."""

from __future__ import annotations

import doctest
import importlib.util
import inspect
import pkgutil

import pytest
import torch

import facedistill

PACKAGES = ("losses", "metrics", "models", "images", "config.class_names", "api.overrides", "api.hub")


def _modules() -> list[str]:
    """The modules of `PACKAGES` whose source has an example; they are read, not imported."""
    found = []
    for name in PACKAGES:
        root = f"{facedistill.__name__}.{name}"
        spec = importlib.util.find_spec(root)
        assert spec is not None
        inside = pkgutil.walk_packages(
            spec.submodule_search_locations or [], f"{root}.", onerror=lambda _: None
        )
        for module in (root, *(module.name for module in inside)):
            source = importlib.util.find_spec(module)
            if ">>> " in source.loader.get_source(module):
                found.append(module)
    return found


class _Finder(doctest.DocTestFinder):
    """Also finds the examples of functions behind a decorator of another module."""

    def _from_module(self, module, object):
        return super()._from_module(module, inspect.unwrap(object))


@pytest.mark.parametrize("name", _modules())
def test_examples_print_what_they_say(name):
    module = importlib.import_module(name)
    torch.manual_seed(0)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for example in _Finder().find(module, extraglobs={"torch": torch}):
        runner.run(example)
    found = runner.summarize(verbose=False)
    assert found.attempted == inspect.getsource(module).count(">>> ")
    assert not found.failed, f"python -m doctest -v {module.__file__}"
