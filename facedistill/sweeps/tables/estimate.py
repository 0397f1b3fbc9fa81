"""How long a run would take on a large GPU: arithmetic from multiply-accumulates, never a measurement."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from omegaconf import DictConfig, OmegaConf

from facedistill.config import signature
from facedistill.config.trust import find_class
from facedistill.models.cost import count_macs
from facedistill.runs.inputs import other_teachers
from facedistill.runs.sources import instantiate, requirements

DEVICE = "one NVIDIA H100"
PEAK_FLOPS = 989e12  # dense bf16, NVIDIA's data sheet
WIDE_SHARE = (
    0.30  # of the peak, frozen ResNets and generators; trainings published for ResNets reach 8 to 23 %
)
LIGHT_SHARE = 0.02  # assumed: light students are bound by memory and launches, and no paper publishes theirs
HOW = (
    f"2 FLOP x (3 x student at {LIGHT_SHARE:.0%} + (teacher + generator) at {WIDE_SHARE:.0%}) of {DEVICE}'s "
    f"{PEAK_FLOPS / 1e12:.0f} TFLOPS (dense bf16), by the images; without losses, heads, decoding and evaluation"
)

# Multiply-accumulates of one image, synthesis only. MobileStyleGAN: whole images, so more than what the crop needs.
_MOBILESTYLEGAN = {"full": 7.29e9, 512: 7.29e9, 256: 5.72e9, 128: 4.07e9, 64: 4.07e9}
_STYLEGAN2 = {
    "stylegan2-ffhq-256x256": 15.0e9,
    "stylegan2-ffhq-1024x1024": 75.4e9,
}  # channel bases 16384, 32768


@dataclass(frozen=True)
class ImageCost:
    """Multiply-accumulates that one training image asks for, forward only.

    Attributes:
        student: Of all networks that learn.
        teacher: Of all teachers; 0 where it is not asked, or its embeddings are kept; NaN where it is an ONNX graph, which has no
            layers to count before it is loaded.
        generator: 0 where faces are stored; NaN where it is unknown; divided among the steps that replay a
            rendered face; none for the photographs of a mixture.
    """

    student: float
    teacher: float
    generator: float

    def gpu_hours(self, images: int) -> float:
        """Hours of one GPU for `images` images, see `HOW`."""
        light, wide = 3 * self.student, self.teacher + self.generator
        seconds = 2 * images * (light / LIGHT_SHARE + wide / WIDE_SHARE) / PEAK_FLOPS
        return seconds / 3600


def image_cost(config: DictConfig) -> ImageCost:
    """Counts what `config` trains with; networks are built without weights and without memory for them."""
    method = find_class(config.method._target_)
    num_students = 2 if "peer" in signature.accepted(method) else 1
    asked = requirements(config).teacher and not OmegaConf.select(config, "data.teacher_cache")
    teachers = [config.teacher, *other_teachers(config).values()]
    return ImageCost(
        student=num_students * _macs(config.backbone),
        teacher=sum(_macs(one.network, one.input_spec.size_px) for one in teachers) if asked else 0,
        generator=_generator_macs(config),
    )


def _macs(node: DictConfig, size_px: int = 112) -> float:
    plain = OmegaConf.to_container(node, resolve=True)
    assert isinstance(plain, dict)
    without_weights = {key: value for key, value in plain.items() if key not in ("asset", "pretrained")}
    return _counted(json.dumps(without_weights), size_px)


@lru_cache
def _counted(network: str, size_px: int) -> float:
    try:
        with torch.device("meta"):
            return count_macs(instantiate(json.loads(network)), (3, size_px, size_px))
    except NotImplementedError:  # what torch raises where a network wants its weights
        return math.nan


def _generator_macs(config: DictConfig) -> float:
    if "generator" not in signature.accepted(find_class(config.data.source._target_)):
        return 0
    network, name = config.generator.network, config.generator.get("name")
    macs = _MOBILESTYLEGAN[network.exit] if "exit" in network else _STYLEGAN2.get(name, math.nan)
    rendered = 1 - (OmegaConf.select(config, "data.source.share") or 0)
    return rendered * macs / (1 + (OmegaConf.select(config, "data.source.replay") or 0))
