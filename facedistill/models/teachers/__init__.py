"""Teachers: published networks, their converters, and the frozen shell that every one of them lives in."""

from facedistill.models.teachers.arcface_mobilefacenet import ArcFaceMobileFaceNet
from facedistill.models.teachers.frozen import FrozenTeacher

__all__ = ["ArcFaceMobileFaceNet", "FrozenTeacher"]
