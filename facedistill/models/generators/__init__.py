"""Frozen face generators: latents to aligned faces."""

from facedistill.models.generators.face_generator import FaceGenerator
from facedistill.models.generators.frozen import FrozenGenerator
from facedistill.models.generators.resampling import resample
from facedistill.models.generators.stylegan_generator import StyleGANGenerator

__all__ = ["FaceGenerator", "FrozenGenerator", "StyleGANGenerator", "resample"]
