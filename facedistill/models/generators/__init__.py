"""Frozen face generators: latents to aligned faces."""

from facedistill.models.generators.face_generator import FaceGenerator
from facedistill.models.generators.resampling import resample

__all__ = ["FaceGenerator", "resample"]
