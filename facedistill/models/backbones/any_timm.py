"""Any image network of timm as a student, by name. timm is imported where it is used: that takes more than a second."""

from __future__ import annotations

import difflib
from typing import Any, Literal

import torch
from torch import Tensor, nn

from facedistill.errors import AssetError, ConfigError
from facedistill.models.backbones.base import Backbone
from facedistill.models.backbones.embedding import Head, embedding_layers

SIZE_PX = 112


class Timm(Backbone):
    """A network of timm on faces of 112 px: timm's trunk and its own or our embedding layers.

    Most of timm is made for 224 px and halves the map five times, so 112 px end in a 4 x 4 map. `first_stride`
    makes the stem coarser or finer; networks whose input size is fixed (ViT) are built for 112 px.
    """

    def __init__(
        self,
        name: str,
        embedding_dim: int = 512,
        head: Head | Literal["own"] = "own",
        first_stride: int | None = None,
        pretrained: bool = False,
    ) -> None:
        """Builds the network.

        Args:
            name: One of `timm.list_models()`, "resnet18", or with a weights tag "resnet18.a1_in1k".
            embedding_dim: D, width of the embedding.
            head: "own" replaces timm's classifier by Linear(C, D); the others take the last feature map
                (see `embedding_layers`), which the network must then have.
            first_stride: Stride of the convolution that reads the image; None leaves it. Its padding follows, so that
                the map after it is 112 / `first_stride` wide.
            pretrained: Start from timm's weights, which timm downloads; the embedding layers start at random.

        Raises:
            ConfigError: If timm has no such network, or the network no such stem or no feature map.
            AssetError: If the weights cannot be downloaded.
        """
        import timm

        super().__init__(name=name, embedding_dim=embedding_dim, head=head, first_stride=first_stride)
        check_timm_name("backbone.name", name)
        own = {"num_classes": embedding_dim} if head == "own" else {"num_classes": 0, "global_pool": ""}
        config = timm.get_pretrained_cfg(name)
        fixed = {"img_size": SIZE_PX} if config is not None and config.fixed_input_size else {}
        self.trunk = timm_network(name, pretrained, **own, **fixed)
        if first_stride is not None:
            _set_first_stride(self.trunk, name, first_stride)
        if head == "own":
            self.head: nn.Module = nn.Identity()
        else:
            channels, side = _last_map(self.trunk, name, head)
            self.head = embedding_layers(head, channels, side, embedding_dim)

    def forward(self, images: Tensor) -> Tensor:
        """Embeds (N, 3, 112, 112) faces in [-1, 1] as (N, D) un-normalized embeddings."""
        return self.head(self.trunk(images))

    def merge_branches(self) -> None:
        """See `Backbone.merge_branches`: timm's, for MobileOne, RepViT, FastViT, RepVGG and others."""
        from timm.utils import reparameterize_model

        reparameterize_model(self.trunk, inplace=True)


def timm_network(name: str, pretrained: bool, **arguments: Any) -> nn.Module:
    """A network of timm, with ImageNet weights from its hub if `pretrained`.

    Raises:
        AssetError: If the weights cannot be downloaded.
    """
    import timm

    if not pretrained:
        return timm.create_model(name, **arguments)
    try:
        return timm.create_model(name, pretrained=True, **arguments)
    except Exception as error:  # the downloaders raise many types; the fix is the same
        raise AssetError(
            f"backbone.pretrained: timm cannot fetch the ImageNet weights of {name} "
            f"({type(error).__name__}); connect to the Hugging Face hub once, "
            "or set backbone.pretrained=false to start from scratch"
        ) from error


def check_timm_name(key: str, name: str) -> None:
    """Raises a `ConfigError` that names close matches if timm has no network `name`; `key` set it."""
    import timm

    if timm.is_model(name):
        return
    near = difflib.get_close_matches(name.partition(".")[0], timm.list_models(), n=3)
    hint = f"did you mean {', '.join(near)}?" if near else "timm.list_models() lists them"
    raise ConfigError(f"{key}={name}: timm {timm.__version__} has no such network; {hint}")


def _set_first_stride(trunk: nn.Module, name: str, stride: int) -> None:
    """Sets stride and matching padding of every convolution that reads the image."""
    stems = [m for m in trunk.modules() if isinstance(m, nn.Conv2d) and m.in_channels == 3 and m.groups == 1]
    sides: list[int] = []
    for conv in stems:
        conv.stride = (stride, stride)
        if isinstance(conv.padding, tuple):
            conv.padding = tuple(max(0, (size - stride + 1) // 2) for size in conv.kernel_size)
        conv.register_forward_hook(lambda module, inputs, output: sides.append(output.shape[-1]))
    try:
        _run_on_zeros(trunk)
        fits = bool(sides) and {SIZE_PX // stride} == set(sides)
    except (RuntimeError, AssertionError, ValueError):
        fits = False
    for conv in stems:
        conv._forward_hooks.clear()
    if not fits:
        raise ConfigError(
            f"backbone.first_stride={stride}: {name} has no stem of this stride with a {SIZE_PX // stride} x "
            f"{SIZE_PX // stride} output; set it to null"
        )


def _last_map(trunk: nn.Module, name: str, head: str) -> tuple[int, int]:
    """C and S of the last feature map."""
    maps = _run_on_zeros(trunk)
    if maps.ndim != 4 or maps.shape[2] != maps.shape[3]:
        raise ConfigError(
            f"backbone.head={head}: {name} ends in {tuple(maps.shape[1:])}, not in a feature map; use backbone.head=own"
        )
    return int(maps.shape[1]), int(maps.shape[2])


@torch.no_grad()
def _run_on_zeros(trunk: nn.Module) -> Tensor:
    was_training = trunk.training
    try:
        return trunk.eval()(torch.zeros(1, 3, SIZE_PX, SIZE_PX))
    finally:
        trunk.train(was_training)
