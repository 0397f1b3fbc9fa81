"""Student networks: each from (N, 3, 112, 112) faces in [-1, 1] to (N, D) un-normalized embeddings."""

from facedistill.models.backbones.base import Backbone
from facedistill.models.backbones.mobilefacenet import MobileFaceNet
from facedistill.models.backbones.mobilenetv2 import MobileNetV2
from facedistill.models.backbones.tinyfar import TinyFaR

__all__ = ["Backbone", "MobileFaceNet", "MobileNetV2", "TinyFaR"]
