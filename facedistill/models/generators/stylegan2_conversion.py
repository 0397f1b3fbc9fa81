"""From the published StyleGAN2 layouts, NVlabs' (stylegan2-ada-pytorch, stylegan3) and rosinality's, to `StyleGAN2`."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, log2

import torch
from torch import Tensor

from facedistill.errors import AssetError
from facedistill.models.generators.pickled_module import PickledModule

_ROSINALITY_RATE = 0.01  # learning-rate multiplier of the mapping: the default of its code, not in its files
State = dict[str, Tensor]


def from_nvlabs(network: PickledModule) -> State:
    """Reads `G_ema` of a pickle.

    Returns:
        `mapping.*`, `synthesis.*` and `w_avg`, float64.

    Raises:
        AssetError: If it has another architecture, or a tensor is missing, unknown or of another shape.
    """
    state = mapping_of(network)
    synthesis = network.child("synthesis")
    size = synthesis.setting("img_resolution", int)
    count = check_size(size, network) - 1
    for level in range(count):
        side = 4 * 2**level
        block = synthesis.child(f"b{side}")
        block.require("architecture", "skip")
        _share(state, "synthesis.blur", block.tensor("resample_filter", 4, 4) * 4, network)
        if level == 0:
            state["synthesis.constant"] = block.tensor("const", None, 4, 4)[None]
            state |= _layer(block.child("conv1"), "synthesis.layers.0", side, state, network)
        else:
            for half in (0, 1):
                name = f"synthesis.layers.{2 * level - 1 + half}"
                state |= _layer(block.child(f"conv{half}"), name, side, state, network)
        image = block.child("torgb")
        _share(state, "synthesis.clamp", clamp_of(image), network)
        state |= _image(image, f"synthesis.images.{level}")
    network.finish()
    return state


def mapping_of(network: PickledModule) -> State:
    """Reads the mapping network of a StyleGAN2 or StyleGAN3, gains folded in.

    Raises:
        AssetError: If it is conditional, or its layers are not all as wide as the latents.
    """
    if (classes := network.setting("c_dim", int)) != 0:
        raise AssetError(
            f"{network.source} is conditional (c_dim={classes}); give an unconditional generator"
        )
    network.require("img_channels", 3)
    width = network.setting("z_dim", int)
    network.require("w_dim", width)
    mapping = network.child("mapping")
    state = {"w_avg": mapping.tensor("w_avg", width)}
    for number in range(mapping.setting("num_layers", int)):
        layer = mapping.child(f"fc{number}")
        layer.require("activation", "lrelu")
        state |= linear(layer, f"mapping.layers.{number}", width, width)
    return state


def linear(
    layer: PickledModule, name: str, outer: int | None = None, inner: int | None = None, gain: float = 1
) -> State:
    """A fully connected layer with its gains, times `gain`, folded in."""
    weight, bias = layer.tensor("weight", outer, inner), layer.tensor("bias", outer)
    return {
        f"{name}.weight": weight * layer.setting("weight_gain", float) * gain,
        f"{name}.bias": bias * layer.setting("bias_gain", float) * gain,
    }


def check_size(size: int, network: PickledModule) -> int:
    """log2 of a size that is a power of two from 8."""
    if size < 8 or size & (size - 1):
        raise network.problem(f"its resolution is {size}")
    return int(log2(size))


def _layer(layer: PickledModule, name: str, size: int, state: State, network: PickledModule) -> State:
    layer.require("activation", "lrelu")
    _share(state, "synthesis.blur", layer.tensor("resample_filter", 4, 4) * 4, network)
    _share(state, "synthesis.clamp", clamp_of(layer), network)
    weight = layer.tensor("weight", None, None, 3, 3)
    outer, inner = weight.shape[:2]
    return {
        f"{name}.weight": weight,
        f"{name}.bias": layer.tensor("bias", outer).view(1, -1, 1, 1),
        f"{name}.noise": layer.tensor("noise_const", size, size)[None, None],
        f"{name}.strength": layer.tensor("noise_strength").reshape(()),
        **linear(layer.child("affine"), f"{name}.style", inner),
    }


def _image(layer: PickledModule, name: str) -> State:
    weight = layer.tensor("weight", 3, None, 1, 1)
    gain = layer.setting("weight_gain", float)
    return {
        f"{name}.weight": weight,
        f"{name}.bias": layer.tensor("bias", 3).view(1, -1, 1, 1),
        **linear(layer.child("affine"), f"{name}.style", weight.shape[1], gain=gain),
    }


def clamp_of(layer: PickledModule) -> Tensor:
    """The largest magnitude that a layer's features may have."""
    none = layer.attributes.get("conv_clamp") is None
    return torch.tensor(inf if none else layer.setting("conv_clamp", float), dtype=torch.float64)


def _share(state: State, name: str, found: Tensor, network: PickledModule) -> None:
    """Records a tensor that all layers must share."""
    if not torch.equal(state.setdefault(name, found), found):
        raise network.problem(f"its layers differ in {name.rpartition('.')[2]}")


def from_rosinality(tensors: Mapping[str, Tensor], w_avg: Tensor | None, source: str) -> State:
    """Reads `g_ema` of a checkpoint.

    Args:
        tensors: The state dict.
        w_avg: (L,) the checkpoint's `latent_avg`, if it has one.
        source: The file, for messages.

    Returns:
        `mapping.*`, `synthesis.*` and, if given, `w_avg`; float64.

    Raises:
        AssetError: If a tensor is missing, unknown or of another shape.
    """
    left = {key: tensor.double() for key, tensor in tensors.items()}

    def take(key: str) -> Tensor:
        if key not in left:
            raise AssetError(
                f"{source} is not a StyleGAN2 generator of rosinality: it lacks {key}; give its g_ema"
            )
        return left.pop(key)

    def dense(key: str, rate: float = 1, gain: float = 1) -> tuple[Tensor, Tensor]:
        weight = take(f"{key}.weight")
        return weight * (rate * gain / weight.shape[1] ** 0.5), take(f"{key}.bias") * (rate * gain)

    state: State = {"synthesis.clamp": torch.tensor(inf), "synthesis.constant": take("input.input")}
    for number in range(sum(key.startswith("style.") and key.endswith(".weight") for key in tensors)):
        name = f"mapping.layers.{number}"
        state[f"{name}.weight"], state[f"{name}.bias"] = dense(f"style.{number + 1}", _ROSINALITY_RATE)
    count = 1 + sum(key.endswith(".upsample.kernel") for key in tensors)
    for number in range(2 * count - 1):
        key, name = f"convs.{number - 1}" if number else "conv1", f"synthesis.layers.{number}"
        weight = take(f"{key}.conv.weight")[0]
        state[f"{name}.weight"] = weight / weight[0].numel() ** 0.5
        state[f"{name}.style.weight"], state[f"{name}.style.bias"] = dense(f"{key}.conv.modulation")
        state[f"{name}.bias"] = take(f"{key}.activate.bias").view(1, -1, 1, 1)
        state[f"{name}.strength"] = take(f"{key}.noise.weight").reshape(())
        state[f"{name}.noise"] = take(f"noises.noise_{number}")
        if number % 2:
            state["synthesis.blur"] = take(f"{key}.conv.blur.kernel")
    for number in range(count):
        key, name = f"to_rgbs.{number - 1}" if number else "to_rgb1", f"synthesis.images.{number}"
        weight = take(f"{key}.conv.weight")[0]
        state[f"{name}.weight"] = weight / weight.shape[1] ** 0.5
        state[f"{name}.style.weight"], state[f"{name}.style.bias"] = dense(f"{key}.conv.modulation")
        state[f"{name}.bias"] = take(f"{key}.bias").view(1, -1, 1, 1)
        if number:
            state["synthesis.blur"] = take(f"{key}.upsample.kernel")
    if left:
        raise AssetError(
            f"{source} is not a StyleGAN2 generator of rosinality: it also holds {min(left)}; give its g_ema"
        )
    return state if w_avg is None else state | {"w_avg": w_avg.double().reshape(-1)}
