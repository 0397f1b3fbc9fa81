"""A student of this package as a teacher; its file names the backbone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facedistill.errors import AssetError, ConfigError
from facedistill.models.backbones import Backbone
from facedistill.models.rebuild import rebuild
from facedistill.models.teachers.file_network import FileNetwork
from facedistill.models.weights import check_state, read_weights

METADATA = "facedistill"  # the entry of a student's file that describes it


class Student(FileNetwork):
    """The backbone that a `student.safetensors` describes; see `facedistill.models.rebuild`.

    The description is in the buffer `description`.

    Attributes:
        embedding_dim: D.
    """

    def __init__(self, embedding_dim: int) -> None:
        """Declares the network; `allocate` and the weights of `convert` complete it.

        Args:
            embedding_dim: D, checked against the file.
        """
        super().__init__(embedding_dim, "description")
        self.backbone: Backbone | None = None

    def allocate(self, weights: Path) -> dict[str, Tensor]:
        """Builds the backbone that the file describes.

        Raises:
            AssetError: If this version does not have that backbone, or its class is not admitted by the user.
            ConfigError: If its embeddings have another width.
        """
        state = super().allocate(weights)
        if "description" not in state:
            raise AssetError(f"{weights} describes no student; give a student.safetensors of a run")
        description = json.loads(bytes(state["description"].tolist()))
        own = {key.removeprefix("backbone."): value for key, value in state.items() if key != "description"}
        self.backbone = rebuild(description, weights.name, own)
        if self.backbone.embedding_dim != self.embedding_dim:
            raise ConfigError(
                f"teacher.embedding_dim: {self.embedding_dim}, but the student's embeddings have "
                f"{self.backbone.embedding_dim} dimensions; set it to {self.backbone.embedding_dim}"
            )
        return state

    def forward(self, images: Tensor) -> Tensor:
        """Embeds (N, 3, 112, 112) RGB faces in [-1, 1] as (N, D) un-normalized embeddings."""
        assert self.backbone is not None
        return self.backbone(images)


def convert(members: Mapping[str, Path]) -> dict[str, Tensor]:
    """Reads a student's file into the state of a `Student`, every key of its backbone and no other.

    Args:
        members: One `student.safetensors` and its path.

    Raises:
        AssetError: If it is not a student of this package, or incomplete.
    """
    ((name, path),) = members.items()
    state, metadata = read_weights(path)
    description = description_of(metadata, name)
    wanted = rebuild(description, name, state).state_dict()
    check_state(wanted, state, name, description["class"])
    text = json.dumps(description, sort_keys=True).encode()
    return {f"backbone.{key}": value for key, value in state.items()} | {
        "description": torch.frombuffer(bytearray(text), dtype=torch.uint8)
    }


def description_of(metadata: Mapping[str, str], name: str) -> dict[str, Any]:
    """`class` and `arguments` of the backbone that a student's file describes in its metadata.

    Raises:
        AssetError: If it describes none.
    """
    try:
        found = json.loads(metadata[METADATA])["backbone"]
        return {"class": str(found["class"]), "arguments": dict(found["arguments"])}
    except (KeyError, TypeError, ValueError) as error:
        raise AssetError(f"{name} describes no student; give a student.safetensors of a run") from error
