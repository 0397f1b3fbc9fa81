"""The configuration, weights and faces that a checkpoint was made with, and whether they have changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import Any

from facedistill.errors import UserError

_VERSIONS = ("facedistill", "torch")
_MAX_CHANGES = 5  # named in one message


@dataclass(frozen=True)
class Origin:
    """What the result of a run depends on.

    Attributes:
        run_id: Eight hexadecimal digits; called `identity` in the checkpoints of older versions.
        config: The part of the configuration that can change the student.
        files: sha256 of the weights and fingerprint of the faces, by name.
        versions: Of the packages that compute.
    """

    run_id: str
    config: Mapping[str, Any]
    files: Mapping[str, str]
    versions: Mapping[str, str] = field(
        default_factory=lambda: {name: metadata.version(name) for name in _VERSIONS}
    )

    def as_dict(self) -> dict[str, Any]:
        """Plain containers, for a checkpoint."""
        return asdict(self)


def check_origin(path: object, saved: Mapping[str, Any] | None, now: Origin) -> str | None:
    """Refuses to continue a checkpoint with another configuration, other weights or other faces.

    Args:
        path: The checkpoint, for the message.
        saved: `Origin.as_dict()` from the checkpoint; None if it has none.
        now: Of the run that would continue.

    Returns:
        A warning if only the version of a package has changed, else None.

    Raises:
        UserError: Naming what differs.
    """
    if saved is None:
        raise UserError(
            f"{path} does not record its configuration (an older version wrote it) and cannot be continued exactly; "
            "force=true starts the run over"
        )
    saved_id = saved.get("run_id", saved.get("identity"))
    if saved_id != now.run_id:
        changes = different_config(saved["config"], now.config) + changed_files(saved["files"], now.files)
        changes = changes or [f"the run id was {saved_id} and is {now.run_id}"]
        more = f" and {len(changes) - _MAX_CHANGES} more" if len(changes) > _MAX_CHANGES else ""
        raise UserError(
            f"{path} belongs to another run: {'; '.join(changes[:_MAX_CHANGES])}{more}; restore these, or force=true "
            "starts the run over"
        )
    versions = "; ".join(changed_files(saved["versions"], now.versions))
    return f"made with another version, results may differ by rounding: {versions}" if versions else None


def different_config(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Keys whose values differ, as "optimizer.lr was 0.1 and is 0.01"."""
    before, after = _flatten(saved), _flatten(now)
    return [
        f"{key} was {before.get(key, 'absent')} and is {after.get(key, 'absent')}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def changed_files(saved: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Names whose hashes or versions differ, with the first twelve characters of both."""
    return [
        f"{name} was {saved.get(name, 'absent')[:12]} and is {now.get(name, 'absent')[:12]}"
        for name in sorted(saved.keys() | now.keys())
        if saved.get(name) != now.get(name)
    ]


def _flatten(node: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """The leaves of nested mappings as text, by dotted key."""
    leaves: dict[str, str] = {}
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            leaves |= _flatten(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = repr(value)
    return leaves
