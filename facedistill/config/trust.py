"""What a configuration may instantiate: the classes of this table, and what the user admits with `trust=`.

Every configuration passes `refuse_foreign_code` when it is composed or read from a file, before any module that it names is
imported; `find_class` and `facedistill.runs.sources.instantiate` check again what is imported. See docs/security.md.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from omegaconf import DictConfig, OmegaConf

from facedistill.assets.converted import is_converter
from facedistill.errors import ConfigError
from facedistill.system.trust import is_admitted, load_object


@dataclass(frozen=True)
class Kind:
    """Classes that may stand at a key.

    Attributes:
        key: Dotted key of the node with the `_target_`; `*` stands for any part.
        package: They are defined in this package or module.
        base: Dotted path of their base class; None if they share none.
        functions: Whether functions are admitted too.
    """

    key: str
    package: str
    base: str | None = None
    functions: bool = False


KINDS = (
    Kind("backbone", "facedistill.models.backbones", "facedistill.models.backbones.base.Backbone"),
    Kind("teacher.network", "facedistill.models.teachers", "torch.nn.modules.module.Module"),
    Kind("teacher.network", "facedistill.models.backbones", "facedistill.models.backbones.base.Backbone"),
    Kind("teacher.others.*.network", "facedistill.models.teachers", "torch.nn.modules.module.Module"),
    Kind("teacher.others.*.network", "facedistill.models.backbones", "facedistill.models.backbones.base.Backbone"),
    Kind(
        "generator.network", "facedistill.models.generators",
        "facedistill.models.generators.frozen.FrozenGenerator",
    ),
    Kind("head", "facedistill.models.heads", "torch.nn.modules.module.Module"),
    Kind("head.head", "facedistill.models.heads", "torch.nn.modules.module.Module"),
    Kind("scheduler", "facedistill.methods.schedules"),
    Kind("method", "facedistill.methods", "facedistill.methods.base.DistillationMethod"),
    Kind("method.*", "facedistill.losses", functions=True),
    Kind("data.source.augment", "facedistill.data.augment"),
    Kind("data.source.augment", "facedistill.data.augmentation"),
    Kind("data.source", "facedistill.data.sources", "facedistill.data.sources.base.Source"),
    Kind("optimizer", "torch.optim", "torch.optim.optimizer.Optimizer"),
    Kind("optimizer", "facedistill.methods.muon", "torch.optim.optimizer.Optimizer"),
    Kind("logger.*", "facedistill.runs.loggers", functions=True),
    Kind("logger.*", "lightning.pytorch.loggers", "lightning.pytorch.loggers.logger.Logger"),
    Kind("launcher", "facedistill.sweeps.launchers"),
    Kind("sweep", "facedistill.sweeps.grid"),
    Kind("sweep", "facedistill.sweeps.search"),
)  # fmt: skip

# What may stay of `${…}`: other keys, and the variables of this package.
_HARMLESS = re.compile(r"\$\{([\w.\[\]]*|oc\.select:[^${}]*|oc\.env:FACEDISTILL_\w+(,[^${}]*)?)\}")
_MOST_JOINED = 12
_ENVIRONMENT = re.compile(r"\$\{oc\.env:[^${}]*\}")


def refuse_foreign_code(config: DictConfig, where: str = "") -> None:
    """Refuses a configuration that names code outside the table without the user's `trust=`; imports nothing.

    Args:
        config: Composed, or read from a file.
        where: Of the configuration, for the message.

    Raises:
        ConfigError: With a sentence for each such key.
    """
    found = [*_code(config), *_resolvers(OmegaConf.to_container(config, resolve=False))]
    if found:
        raise ConfigError("\n".join([f"{where}: {found[0]}" if where else found[0], *found[1:]]))


def find_class(path: str) -> Any:
    """Imports the class or function that a `_target_` names, if the table or the user admits it.

    Raises:
        ConfigError: If it is not admitted, not what the table says, or cannot be imported.
    """
    if is_admitted(path):
        return load_object(path)
    kinds = _kinds(path)
    if not kinds:
        raise ConfigError(f"{path} is no class that a configuration may name; {_advice(path)}")
    found, kind = load_object(path), kinds[0]
    if not _is_of(found, kind):
        what = f"subclass of {kind.base}" if kind.base else f"class{' or function' * kind.functions}"
        raise ConfigError(f"{path} is no {what} of {kind.package}; {_advice(path)}")
    return found


def refuse_foreign_classes(node: Any) -> None:
    """Checks the classes of one node before it is instantiated, whatever its key; imports them.

    Raises:
        ConfigError: See `find_class`.
    """
    plain = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    for _, target in targets(plain):
        find_class(str(target["_target_"]))


def targets(node: Any, prefix: str = "") -> Iterator[tuple[str, dict[Any, Any]]]:
    """Every mapping with a `_target_` in plain containers, lists included, with its dotted key."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield prefix, node
        children = list(node.items())
    else:
        children = list(enumerate(node)) if isinstance(node, list) else []
    for key, child in children:
        yield from targets(child, f"{prefix}.{key}" if prefix else str(key))


def _code(config: DictConfig) -> Iterator[str]:
    plain: Any = OmegaConf.to_container(config, resolve=False)
    for key, node in targets(plain):
        path = str(node["_target_"])
        if is_admitted(path):
            continue
        if not any(fnmatchcase(key, kind.key) for kind in _kinds(path)):
            allowed = " or ".join(one.package for one in KINDS if fnmatchcase(key, one.key))
            rule = f"is no class of {allowed}" if allowed else "is at a key that takes no class"
            yield f"{key}._target_: {path} {rule}; {_advice(path)}"
        elif "_args_" in node:
            yield f"{key}._args_: give the arguments of {path} by name"
        elif node.get("trusted") not in (None, False):
            yield (
                f"{key}.trusted: lets the file of {path.rpartition('.')[2]} run code; if you trust its author, add "
                f"trust={path} to the command line"
            )
    nodes = {group: plain.get(group) for group in ("teacher", "generator")}
    others = nodes["teacher"].get("others") if isinstance(nodes["teacher"], dict) else None
    nodes |= {f"teacher.others.{name}": node for name, node in (others or {}).items()}
    for group, node in nodes.items():
        convert = node.get("convert") if isinstance(node, dict) else None
        if convert and not is_converter(str(convert)):
            yield f"{group}.convert: {convert} is no converter of facedistill.models; {_advice(str(convert))}"


def _kinds(path: str) -> list[Kind]:
    """The kinds whose package is the longest that contains `path`; names of classes begin with a capital letter.

    Those of one package agree on the base class.
    """
    is_class = path.rpartition(".")[2][:1].isupper()
    found = [kind for kind in KINDS if path.startswith(f"{kind.package}.") and (is_class or kind.functions)]
    longest = max((len(kind.package) for kind in found), default=0)
    return [kind for kind in found if len(kind.package) == longest]


def _is_of(found: Any, kind: Kind) -> bool:
    """Whether an object is public, defined in the kind's package, and a class with the kind's base or a function.

    Teachers and backbones share networks, so each counts as defined in `facedistill.models`.
    """
    home, name = str(getattr(found, "__module__", "")), str(getattr(found, "__qualname__", "_"))
    within = "facedistill.models" if kind.package.startswith("facedistill.models.") else kind.package
    if not f"{home}.".startswith(f"{within}.") or name.startswith("_") or "." in name:
        return False
    if inspect.isclass(found):
        bases = {f"{base.__module__}.{base.__qualname__}" for base in inspect.getmro(found)}
        return kind.base is None or kind.base in bases
    return kind.functions and inspect.isfunction(found)


def _advice(path: str) -> str:
    module = path.rpartition(".")[0] or path
    return f"if you trust that code, add trust={module} to the command line"


def _num_joined(node: Any) -> int:
    """References to other keys in the values that join several; a chain of such values grows without limit."""
    if isinstance(node, dict | list):
        return sum(map(_num_joined, node.values() if isinstance(node, dict) else node))
    count = node.count("${") if isinstance(node, str) else 0
    return count if count > 1 else 0


def _resolvers(node: Any, key: str = "") -> Iterator[str]:
    """A sentence for each value that reads environment variables or calls another resolver, or if too many join others."""
    if not key and (count := _num_joined(node)) > _MOST_JOINED:
        yield f"its values join {count} references to other keys (${{…}}), and at most {_MOST_JOINED} are read; write them out"
    if isinstance(node, dict | list):
        for name, child in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _resolvers(child, f"{key}.{name}" if key else str(name))
    elif isinstance(node, str) and "${" in node:
        rest, before = node, ""
        while rest != before:
            before, rest = rest, _HARMLESS.sub("", rest)
            if is_admitted("oc.env"):
                rest = _ENVIRONMENT.sub("", rest)
        if "${" in rest:
            yield (
                f"{key}: {node} reads more than other keys, such as environment variables, which may be secret; write "
                "the value, or add trust=oc.env to the command line to let the configuration read the environment"
            )
