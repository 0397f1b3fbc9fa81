"""Two gloo processes on halves of a batch are one process on the whole: terms, gradients, buffers."""

from __future__ import annotations

import pytest

from facedistill.losses.embedding import cosine_loss, embedding_mse
from facedistill.methods.at import AttentionTransfer
from facedistill.methods.cosine import Cosine
from facedistill.methods.coupleface import CoupleFace
from facedistill.methods.crd import CRD
from facedistill.methods.ddl import DDL
from facedistill.methods.ekd import EKD
from facedistill.methods.embedding_mse import EmbeddingMSE
from facedistill.methods.fitnet import FitNet
from facedistill.methods.iled_rpsd import ILEDRPSD
from facedistill.methods.mutual import Mutual
from facedistill.methods.refo import ReFO
from facedistill.methods.shrinkteanet import ShrinkTeaNet
from facedistill.methods.triplet_distillation import TripletDistillation
from facedistill.methods.weighted_sum import WeightedSum
from tests.methods.small_methods import SmallStudent, assert_two_processes_are_one
from tests.methods.test_bank_methods import CENTERS, CRD_SMALL

LABELLED = {"head": True, "identity_weight": 1.0}
CASES = [
    (EmbeddingMSE, LABELLED),
    (Cosine, LABELLED),
    (ShrinkTeaNet, LABELLED),
    (FitNet, {"size_px": 4, **LABELLED}),
    (FitNet, {"size_px": 4, "identity_weight": 0.0}),
    (AttentionTransfer, {"size_px": 4, **LABELLED}),
    (CRD, CRD_SMALL),
    (CRD, {**CRD_SMALL, **LABELLED, "negatives": "per_image"}),
    (TripletDistillation, {"reach": 4.0, **LABELLED}),
    (CoupleFace, {"centers": CENTERS, "num_relations": 2, **LABELLED}),
    (ReFO, {}),
    (DDL, LABELLED),
    (EKD, {"impostor_queue": 5, **LABELLED}),
    (ILEDRPSD, {"num_pairs": 12, "bank_size": 5, "identity_weight": 0.0}),
    (Mutual, {"peer": SmallStudent(seed=5), **LABELLED}),
    (
        WeightedSum,
        {"losses": {"mse": {"loss": embedding_mse, "weight": 2.0}, "cosine": {"loss": cosine_loss}}},
    ),
]


@pytest.mark.slow
def test_two_processes_are_one():
    assert_two_processes_are_one(CASES)
