"""Margin heads: from embeddings to identity logits, in training only."""

from facedistill.models.heads.adaface import AdaFaceHead
from facedistill.models.heads.arcface import ArcFaceHead
from facedistill.models.heads.base import MarginHead
from facedistill.models.heads.cosface import CosFaceHead
from facedistill.models.heads.curricularface import CurricularFaceHead
from facedistill.models.heads.magface import MagFaceHead
from facedistill.models.heads.sharded import ShardedHead
from facedistill.models.heads.uniface import UniFaceHead

__all__ = [
    "AdaFaceHead",
    "ArcFaceHead",
    "CosFaceHead",
    "CurricularFaceHead",
    "MagFaceHead",
    "MarginHead",
    "ShardedHead",
    "UniFaceHead",
]
