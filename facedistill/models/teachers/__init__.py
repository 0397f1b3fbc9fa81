"""Teachers: published networks, their converters, and the frozen shell that every one of them lives in."""

from facedistill.models.teachers.arcface_mobilefacenet import ArcFaceMobileFaceNet
from facedistill.models.teachers.dlib_resnet import DlibResNet
from facedistill.models.teachers.edgeface import EdgeFace
from facedistill.models.teachers.facenet import FaceNet
from facedistill.models.teachers.frozen import FrozenTeacher
from facedistill.models.teachers.ir import IR
from facedistill.models.teachers.iresnet import IResNet
from facedistill.models.teachers.local import teacher_card
from facedistill.models.teachers.mobilefacenet import FaceXZooMobileFaceNet
from facedistill.models.teachers.onnx_network import OnnxNetwork
from facedistill.models.teachers.student import Student
from facedistill.models.teachers.timm_network import TimmNetwork
from facedistill.models.teachers.torch_program import TorchProgram
from facedistill.models.teachers.vit import ViT

__all__ = [
    "IR",
    "ArcFaceMobileFaceNet",
    "DlibResNet",
    "EdgeFace",
    "FaceNet",
    "FaceXZooMobileFaceNet",
    "FrozenTeacher",
    "IResNet",
    "OnnxNetwork",
    "Student",
    "TimmNetwork",
    "TorchProgram",
    "ViT",
    "teacher_card",
]
