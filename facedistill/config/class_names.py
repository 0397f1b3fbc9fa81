"""Names of classes in configurations: a run id hashes the name under which a class was first published.

A class may move to another module. Its published name stays, so run ids stay too, and a `config.yaml` that was written
before the move still builds.
"""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

# Module in which a class was published -> module in which it is now.
_MOVED = {
    "facedistill.data.rendered": "facedistill.data.sources.rendered",
    "facedistill.data.stored": "facedistill.data.sources.stored",
    "facedistill.data.synthetic": "facedistill.data.sources.synthetic",
    "facedistill.launch.grid": "facedistill.sweeps.grid",
    "facedistill.launch.local": "facedistill.sweeps.launchers.local",
    "facedistill.launch.search": "facedistill.sweeps.search.optuna",
    "facedistill.launch.submitit": "facedistill.sweeps.launchers.submitit",
    "facedistill.loggers": "facedistill.runs.loggers",
}
_PUBLISHED = {now: published for published, now in _MOVED.items()}


def published_name(path: str) -> str:
    """The name under which the class or function at `path` was first published.

    >>> published_name("facedistill.data.sources.rendered.RenderedFaces")
    'facedistill.data.rendered.RenderedFaces'
    """
    return _renamed(path, _PUBLISHED)


def current_path(path: str) -> str:
    """Where the class or function with the published name `path` is now.

    >>> current_path("facedistill.data.rendered.RenderedFaces")
    'facedistill.data.sources.rendered.RenderedFaces'
    """
    return _renamed(path, _MOVED)


def with_published_names(config: Any) -> Any:
    """A copy of plain containers in which every `_target_` is a published name."""
    return _mapped(config, _PUBLISHED)


def with_current_paths(config: DictConfig) -> DictConfig:
    """A copy of a configuration in which every `_target_` can be imported."""
    renamed = OmegaConf.create(_mapped(OmegaConf.to_container(config, resolve=False), _MOVED))
    assert isinstance(renamed, DictConfig)
    return renamed


def _mapped(node: Any, modules: dict[str, str]) -> Any:
    if isinstance(node, dict):
        return {
            key: _renamed(value, modules)
            if key == "_target_" and isinstance(value, str)
            else _mapped(value, modules)
            for key, value in node.items()
        }
    return [_mapped(item, modules) for item in node] if isinstance(node, list) else node


def _renamed(path: str, modules: dict[str, str]) -> str:
    module, _, name = path.rpartition(".")
    return f"{modules[module]}.{name}" if module in modules else path
