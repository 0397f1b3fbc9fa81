"""From NVlabs' published StyleGAN3 layout (configurations T and R) to `StyleGAN3`."""

from __future__ import annotations

import torch
from torch import Tensor

from facedistill.models.generators.pickled_module import PickledModule
from facedistill.models.generators.stylegan2_conversion import State, clamp_of, linear, mapping_of
from facedistill.models.generators.stylegan3 import LayerSpec


def from_nvlabs(network: PickledModule) -> State:
    """Reads `G_ema` of a pickle.

    Returns:
        `mapping.*`, `synthesis.*` and `w_avg`, float64 (`synthesis.layout` int64).

    Raises:
        AssetError: If a tensor or a setting is missing, unknown, or not what the architecture makes of the others.
    """
    state = mapping_of(network)
    synthesis = network.child("synthesis")
    state |= _input(synthesis.child("input"))
    names = synthesis.attributes.get("layer_names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or not names:
        raise network.problem("its synthesis has no layer_names")
    layout, clamps = [], set()
    for number, name in enumerate(names):
        layer = synthesis.child(name)
        last = number == len(names) - 1
        layer.require("is_torgb", last)
        tensors, sizes = _layer(layer, f"synthesis.layers.{number}", last)
        state |= tensors
        layout.append(sizes)
        clamps.add(float(clamp_of(layer)))
    if len(clamps) != 1:
        raise network.problem("its layers differ in conv_clamp")
    state["synthesis.layout"] = torch.tensor(layout)
    state["synthesis.clamp"] = torch.tensor(clamps.pop())
    state["synthesis.output_scale"] = torch.tensor(synthesis.setting("output_scale", float))
    network.finish()
    return state


def _input(waves: PickledModule) -> State:
    weight = waves.tensor("weight", None, None)
    channels = len(weight)
    rates = [waves.setting(name, float) for name in ("sampling_rate", "bandwidth")]
    return {
        "synthesis.input.weight": weight / channels**0.5,
        "synthesis.input.frequencies": waves.tensor("freqs", channels, 2),
        "synthesis.input.phases": waves.tensor("phases", channels),
        "synthesis.input.transform": waves.tensor("transform", 3, 3),
        "synthesis.input.rates": torch.tensor(rates, dtype=torch.float64),
        **linear(waves.child("affine"), "synthesis.input.style", 4),
    }


def _layer(layer: PickledModule, name: str, last: bool) -> tuple[State, tuple[int, int, int, int]]:
    weight = layer.tensor("weight", None, None, None, None)
    outer, inner, side, _ = weight.shape
    if not last:
        weight = weight * weight.square().mean((1, 2, 3), keepdim=True).rsqrt()
    state = {
        f"{name}.weight": weight,
        f"{name}.bias": layer.tensor("bias", outer).view(1, -1, 1, 1),
        f"{name}.gain": layer.tensor("magnitude_ema").reshape(()).rsqrt(),
        **linear(layer.child("affine"), f"{name}.style", inner, gain=inner**-0.5 if last else 1),
    }
    filters: dict[str, Tensor | None] = {key: layer.optional(key) for key in ("up_filter", "down_filter")}
    state |= {f"{name}.{key}": taps for key, taps in filters.items() if taps is not None}
    up, down = (layer.setting(f"{way}_factor", int) for way in ("up", "down"))
    sizes = layer.side("in_size"), layer.side("out_size"), up, down
    up_taps, down_taps = (() if taps is None else tuple(taps.shape) for taps in filters.values())
    fits = (
        (up, down, up_taps, down_taps) == (1, 1, (), ()) if last else up > 1 and bool(up_taps and down_taps)
    )
    if not fits:
        raise layer.problem(
            f"{layer.path[:-1]} samples by {up} and {down} with {up_taps} and {down_taps} taps"
        )
    spec = LayerSpec(inner, outer, side, *sizes, up_taps[0] if up_taps else 1, down_taps)
    before, after = spec.padding
    if layer.attributes.get("padding") != [before, after, before, after]:
        raise layer.problem(f"its {layer.path}padding is not {[before, after, before, after]}")
    return state, sizes
