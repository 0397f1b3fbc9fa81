"""Student networks: each from (N, 3, 112, 112) faces in [-1, 1] to (N, D) un-normalized embeddings."""

from facedistill.models.backbones.any_timm import Timm
from facedistill.models.backbones.base import Backbone
from facedistill.models.backbones.edgeface import EdgeFace
from facedistill.models.backbones.ghostfacenet import GhostFaceNet
from facedistill.models.backbones.iresnet import IResNet
from facedistill.models.backbones.mixfacenet import MixFaceNet
from facedistill.models.backbones.mobilefacenet import MobileFaceNet
from facedistill.models.backbones.mobilenetv2 import MobileNetV2
from facedistill.models.backbones.tinyfar import TinyFaR
from facedistill.models.backbones.vargfacenet import VarGFaceNet

__all__ = [
    "Backbone",
    "EdgeFace",
    "GhostFaceNet",
    "IResNet",
    "MixFaceNet",
    "MobileFaceNet",
    "MobileNetV2",
    "Timm",
    "TinyFaR",
    "VarGFaceNet",
]
