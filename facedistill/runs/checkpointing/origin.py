"""What a checkpoint was made under, and whether it still is so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import Any

from facedistill.errors import UserError

_VERSIONS = ("facedistill", "torch")
_MOST = 5  # keys named in one sentence


@dataclass(frozen=True)
class Origin:
    """What decides the result of a run.

    Attributes:
        identity: The run's eight digits.
        config: The part of the configuration that can change the student.
        files: sha256 of the weights, and the fingerprint of the faces, by name.
        versions: Of the packages that compute.
    """

    identity: str
    config: Mapping[str, Any]
    files: Mapping[str, str]
    versions: Mapping[str, str] = field(
        default_factory=lambda: {name: metadata.version(name) for name in _VERSIONS}
    )

    def as_dict(self) -> dict[str, Any]:
        """Plain containers, for a checkpoint or a JSON file."""
        return asdict(self)


def check_origin(path: object, saved: Mapping[str, Any] | None, now: Origin) -> str | None:
    """Refuses to continue a checkpoint under another configuration, other weights or other faces.

    Args:
        path: The checkpoint, for the message.
        saved: `Origin.as_dict()` as it lies in the checkpoint; None of a checkpoint that has none.
        now: Of the run that would go on.

    Returns:
        A sentence where only the version of a package has changed, else None.

    Raises:
        UserError: Naming what differs.
    """
    if saved is None:
        raise UserError(
            f"{path} does not say what it was made under (an older version wrote it) and cannot be continued exactly; "
            "force=true starts the run over"
        )
    found = different_config(saved["config"], now.config) + changed_files(saved["files"], now.files)
    if saved["identity"] != now.identity:
        found = found or [f"the identity was {saved['identity']} and is {now.identity}"]
        more = f" and {len(found) - _MOST} more" if len(found) > _MOST else ""
        raise UserError(
            f"{path} was made under something else: {'; '.join(found[:_MOST])}{more}; restore what it was made under, "
            "or force=true starts the run over"
        )
    versions = changed_files(saved["versions"], now.versions)
    return (
        f"made with another version, the end may differ in rounding: {'; '.join(versions)}"
        if versions
        else None
    )


def different_config(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Keys whose values differ, as "optimizer.lr was 0.1 and is 0.01"."""
    before, after = _flat(saved), _flat(now)
    return [
        f"{key} was {_shown(before, key)} and is {_shown(after, key)}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key, _ABSENT) != after.get(key, _ABSENT)
    ]


def changed_files(saved: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Names whose hashes or versions differ, with the first twelve characters of both."""
    return [
        f"{name} was {saved.get(name, 'absent')[:12]} and is {now.get(name, 'absent')[:12]}"
        for name in sorted(saved.keys() | now.keys())
        if saved.get(name) != now.get(name)
    ]


_ABSENT = object()


def _flat(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            found.update(_flat(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = value
    return found


def _shown(values: Mapping[str, Any], key: str) -> str:
    return repr(values[key]) if key in values else "absent"
