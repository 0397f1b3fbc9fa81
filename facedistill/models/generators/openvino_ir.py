"""OpenVINO's intermediate representation (an XML graph and a file of raw constants), read as plain data."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facedistill.errors import AssetError

_DTYPES: dict[str, np.dtype[Any]] = {"f32": np.dtype("<f4"), "i64": np.dtype("<i8"), "i32": np.dtype("<i4")}


@dataclass(frozen=True)
class Node:
    """One layer of the graph.

    Attributes:
        key: The layer's id in the file.
        kind: OpenVINO's operation ("Convolution", "Const", …).
        name: The exporter's name.
        inputs: Ids of the layers that feed it, in port order.
        value: The array of a "Const" layer, None for every other kind.
    """

    key: str
    kind: str
    name: str
    inputs: tuple[str, ...]
    value: np.ndarray | None


class Graph:
    """A network of `Node`s in the file's (topological) order; a query without a result raises an `AssetError`."""

    def __init__(self, nodes: list[Node], source: str) -> None:
        self.source = source
        self.nodes = {node.key: node for node in nodes}
        self._consumers: dict[str, list[Node]] = {node.key: [] for node in nodes}
        for node in nodes:
            for key in node.inputs:
                if key not in self.nodes:
                    raise AssetError(f"{source}: layer {node.name!r} is fed by {key!r}, which does not exist")
                self._consumers[key].append(node)

    def of_kind(self, *kinds: str) -> list[Node]:
        """All nodes whose kind is one of `kinds`, in file order."""
        return [node for node in self.nodes.values() if node.kind in kinds]

    def feeds(self, node: Node, kind: str) -> Node:
        """The only input of `node` that has this kind."""
        found = [self.nodes[key] for key in node.inputs if self.nodes[key].kind == kind]
        return self._single(found, f"{kind} to feed {node.name!r}")

    def follows(self, node: Node, kind: str) -> Node:
        """The only node of this kind that `node` feeds."""
        found = [consumer for consumer in self._consumers[node.key] if consumer.kind == kind]
        return self._single(found, f"{kind} to follow {node.name!r}")

    def constant(self, node: Node, shape: tuple[int, ...] | None = None) -> np.ndarray:
        """The constant operand of a binary node; `shape`, if given, must match."""
        value = self.feeds(node, "Const").value
        assert value is not None  # every Const was given its array by read_ir
        if shape is not None and value.shape != shape:
            raise AssetError(
                f"{self.source}: the constant of {node.name!r} has shape {value.shape}, not {shape}"
            )
        return value

    def _single(self, found: list[Node], wanted: str) -> Node:
        if len(found) != 1:
            raise AssetError(f"{self.source}: expected one {wanted}, found {len(found)}")
        return found[0]


def read_ir(xml: Path, raw: Path) -> Graph:
    """Reads one network.

    Args:
        xml: The graph, IR version 10 or 11.
        raw: The constants that it refers to by byte offset.

    Returns:
        The graph with every constant as a numpy array.

    Raises:
        AssetError: If the XML does not parse or is not IR, an edge has no source, or a constant has an unknown
            element type or is outside the file.
    """
    try:
        root = ElementTree.parse(xml).getroot()
    except (ElementTree.ParseError, OSError) as error:
        raise AssetError(f"{xml.name}: not a readable OpenVINO graph ({error})") from None
    layers, edges = root.find("layers"), root.find("edges")
    if layers is None or edges is None:
        raise AssetError(f"{xml.name}: not an OpenVINO graph, it has no layers or no edges")
    wires: dict[str, list[tuple[int, str]]] = {}
    for edge in edges:
        wires.setdefault(edge.attrib["to-layer"], []).append(
            (int(edge.attrib["to-port"]), edge.attrib["from-layer"])
        )
    data = raw.read_bytes()
    nodes = []
    for layer in layers:
        key, kind, name = layer.attrib["id"], layer.attrib["type"], layer.attrib["name"]
        value = _constant(layer, data, f"{xml.name}: {name!r}") if kind == "Const" else None
        inputs = tuple(source for _, source in sorted(wires.get(key, [])))
        nodes.append(Node(key, kind, name, inputs, value))
    return Graph(nodes, xml.name)


def _constant(layer: ElementTree.Element, data: bytes, where: str) -> np.ndarray:
    """Cuts one constant out of the raw file."""
    attributes = getattr(layer.find("data"), "attrib", {})
    try:
        dtype = _DTYPES[attributes["element_type"]]
        shape = tuple(int(size) for size in attributes["shape"].split(",") if size.strip())
        start, length = int(attributes["offset"]), int(attributes["size"])
    except (KeyError, ValueError) as error:
        raise AssetError(f"{where} is a constant that cannot be read ({error!r})") from None
    if length != dtype.itemsize * int(np.prod(shape)) or start < 0 or start + length > len(data):
        raise AssetError(
            f"{where} does not fit its file: shape {shape}, offset {start}, {length} of {len(data)} bytes"
        )
    return np.frombuffer(data, dtype, count=int(np.prod(shape)), offset=start).reshape(shape)
