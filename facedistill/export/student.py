"""A student in one safetensors file that says how to build it again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from facedistill.errors import AssetError, ConfigError
from facedistill.models.backbones import Backbone, backbone_classes
from facedistill.models.imported import ImportedBackbone
from facedistill.models.rebuild import check_width, rebuild
from facedistill.models.weights import load_state, read_weights, write_weights

KEY = "facedistill"  # the metadata entry, in safetensors and ONNX files alike, that holds the description
FORMAT = 1


def describe(backbone: Backbone, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Everything a file must say about the student inside it.

    Args:
        backbone: Of a class in `facedistill.models.backbones`, or an `ImportedBackbone`.
        metadata: JSON-ready facts about the run: run id, teacher, licences.

    Returns:
        JSON-ready `format`, `backbone` (class and constructor arguments), `embedding_dim`, `input_spec` and
        `metadata`.

    Raises:
        ConfigError: If the backbone is of another class, which no reader could build again.
    """
    kind = type(backbone).__name__
    if isinstance(backbone, ImportedBackbone):
        kind = backbone.path
    elif backbone_classes().get(kind) is not type(backbone):
        known = ", ".join(backbone_classes())
        raise ConfigError(f"backbone: {kind} cannot be saved as a student; use one of {known}")
    return {
        "format": FORMAT,
        "backbone": {"class": kind, "arguments": dict(backbone.arguments)},
        "embedding_dim": backbone.embedding_dim,
        "input_spec": asdict(backbone.input_spec),
        "metadata": dict(metadata),
    }


def save_student(backbone: Backbone, path: Path, metadata: Mapping[str, Any]) -> None:
    """Writes the weights with the description of `describe`, completely or not at all.

    Raises:
        ConfigError: If the backbone's class is not in `facedistill.models.backbones`.
        UserError: If the file cannot be written.
    """
    write_weights(
        path, backbone.state_dict(), {KEY: json.dumps(describe(backbone, metadata), sort_keys=True)}
    )


def load_student(path: Path) -> Backbone:
    """Builds the student that a file describes, in eval mode.

    A `Backbone` of `facedistill.models.backbones` is built, or a class that the user has admitted with `trust=`: a file
    cannot name other code.

    Raises:
        AssetError: If the file is missing, damaged, does not describe a student, or names a class that is not admitted.
    """
    state, metadata = read_weights(path)
    description = parse_description(metadata, path)
    if not isinstance(description.get("backbone"), Mapping):
        raise AssetError(f"{path} describes no backbone; give a file that facedistill has exported")
    backbone = rebuild(description["backbone"], str(path), state)
    load_state(backbone, state, str(path))
    return backbone.eval()


def read_metadata(path: Path) -> dict[str, Any]:
    """The description inside a student's safetensors file, as `describe` made it.

    Raises:
        AssetError: If the file is missing, damaged, or no student of this package.
    """
    return parse_description(read_weights(path)[1], path)


def parse_description(metadata: Mapping[str, str], path: Path) -> dict[str, Any]:
    """Reads the description out of a file's metadata.

    Raises:
        AssetError: If there is none, or it is of another format.
    """
    try:
        description = json.loads(metadata[KEY])
        is_ours = description["format"] == FORMAT
    except (KeyError, TypeError, ValueError, RecursionError):
        is_ours = False
    if not is_ours:
        raise AssetError(
            f"{path} carries no facedistill description; give a file that facedistill has exported"
        )
    check_width(description.get("embedding_dim"), str(path))
    return description
