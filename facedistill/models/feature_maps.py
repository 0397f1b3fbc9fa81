"""Reads feature maps from inside a network, a frozen teacher included."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from facedistill.errors import ConfigError
from facedistill.models.teachers.frozen import FrozenTeacher, adapt


@dataclass(frozen=True)
class Layer:
    """A layer: its dotted module name and the C x H x W of its output for one face."""

    name: str
    channels: int
    height: int
    width: int


class FeatureMapTap:
    """The feature map of one layer, read while the network embeds.

    Not a module: it registers nothing.

    Attributes:
        layer: What is read.
    """

    def __init__(
        self, network: nn.Module, *, key: str, input_px: int = 112, name: str | None = None, size_px: int = 7
    ) -> None:
        """Finds the layer by embedding one black face in eval mode.

        Args:
            network: (N, 3, input_px, input_px) to (N, D).
            key: The configuration's key of `name`, for the messages: "method.student_layer".
            input_px: Height and width of the network's input.
            name: Dotted module name; None takes the last of the outermost layers whose map is `size_px` high and wide:
                a block or stage rather than a convolution inside one.
            size_px: Height and width to find if `name` is None.

        Raises:
            ConfigError: If there is no such layer, or its output is not a feature map.
        """
        self.network, self._input_px = network, input_px
        layers = _layers(network, input_px)
        self.layer = _by_name(layers, network, key, name) if name else _by_size(layers, network, size_px)

    def read(self, embed: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
        """Runs `embed`, which must call the network once and eagerly.

        Returns:
            What `embed` returns, (N, D), and the map (N, C, H, W) as the layer returned it, even if a later layer
            works in place.
        """
        maps: list[Tensor] = []
        with _hook(self.network.get_submodule(self.layer.name), lambda output: maps.append(output.clone())):
            embeddings = embed()
        return embeddings, maps[-1]

    @torch.enable_grad()
    def freeze_rest(self) -> None:
        """Has the parameters that the map does not depend on learn no more: DDP requires a gradient of those that do."""
        learned = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        _, maps = self.read(lambda: _embed_black(self.network, self._input_px))
        for parameter, gradient in zip(
            learned, torch.autograd.grad(maps.sum(), learned, allow_unused=True), strict=True
        ):
            parameter.requires_grad_(gradient is not None)


def teacher_tap(teacher: Any, *, name: str | None, size_px: int) -> FeatureMapTap:
    """The tap of a `FrozenTeacher`, whose network is not a registered submodule."""
    return FeatureMapTap(
        teacher.network,
        key="method.teacher_layer",
        input_px=teacher.input_spec.size_px,
        name=name,
        size_px=size_px,
    )


@torch.no_grad()
def read_teacher(teacher: FrozenTeacher, tap: FeatureMapTap, images: Tensor) -> tuple[Tensor, Tensor]:
    """Embeds faces with the teacher's own network, not its compiled copy, which runs no hooks.

    Args:
        teacher: The frozen teacher; its precision is kept.
        tap: From `teacher_tap`.
        images: (N, 3, H, W) RGB in [-1, 1].

    Returns:
        (N, D) raw float32 embeddings and the map (N, C, H, W), both without gradient.
    """
    adapted = adapt(images.float(), teacher.input_spec)
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=teacher.precision == "bf16"):
        embeddings, maps = tap.read(lambda: teacher.network(adapted))
    return embeddings.float(), maps


@torch.no_grad()
def _layers(network: nn.Module, input_px: int) -> list[Layer]:
    """Every layer with a (1, C, H, W) output, in the order in which they finish."""
    found: list[Layer] = []
    handles = [
        module.register_forward_hook(_recorder(name, found)) for name, module in network.named_modules()
    ]
    try:
        _embed_black(network, input_px)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _embed_black(network: nn.Module, input_px: int) -> Tensor:
    """The embedding (1, D) of a black face in eval mode."""
    was_training = network.training
    parameter = next(iter(network.parameters()), torch.empty(0))
    try:
        return network.eval()(torch.zeros(1, 3, input_px, input_px, device=parameter.device))
    finally:
        network.train(was_training)


def _recorder(name: str, found: list[Layer]) -> Callable[..., None]:
    def record(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.dim() == 4:
            found.append(Layer(name, *output.shape[1:]))

    return record


@contextmanager
def _hook(module: nn.Module, action: Callable[[Tensor], None]) -> Iterator[None]:
    handle = module.register_forward_hook(lambda module, inputs, output: action(output))
    try:
        yield
    finally:
        handle.remove()


def _by_name(layers: list[Layer], network: nn.Module, key: str, name: str) -> Layer:
    for layer in reversed(layers):
        if layer.name == name:
            return layer
    names = [layer.name for layer in layers if layer.name]
    raise ConfigError(
        f"{key}={name}: {type(network).__name__} has no such layer with a feature map; its last is {names[-1]}"
        if names
        else f"{key}={name}: {type(network).__name__} has no layer with a feature map"
    )


def _by_size(layers: list[Layer], network: nn.Module, size_px: int) -> Layer:
    matching = [layer for layer in layers if (layer.height, layer.width) == (size_px, size_px)]
    if matching:
        outermost = min(layer.name.count(".") for layer in matching)
        return [layer for layer in matching if layer.name.count(".") == outermost][-1]
    sizes = sorted({layer.height for layer in layers if layer.height == layer.width})
    raise ConfigError(
        f"method.size_px={size_px}: {type(network).__name__} has no feature map of that height and width; "
        f"there are {', '.join(map(str, sizes)) or 'none'}"
    )
