"""Teachers: published networks, their converters, and the frozen shell that every one of them lives in."""

from facedistill.models.teachers.arcface_mobilefacenet import ArcFaceMobileFaceNet
from facedistill.models.teachers.edgeface import EdgeFace
from facedistill.models.teachers.frozen import FrozenTeacher
from facedistill.models.teachers.iresnet import IResNet
from facedistill.models.teachers.local import teacher_card
from facedistill.models.teachers.onnx_network import OnnxNetwork

__all__ = ["ArcFaceMobileFaceNet", "EdgeFace", "FrozenTeacher", "IResNet", "OnnxNetwork", "teacher_card"]
