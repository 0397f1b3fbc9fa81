"""Two gloo processes on halves of a batch are one process on the whole: terms, gradients, buffers.

`tests/contracts/test_every_method.py` checks every yaml; here are settings that no yaml has.
"""

from __future__ import annotations

import pytest

from facedistill.methods.cosine import Cosine
from facedistill.methods.crd import CRD
from facedistill.methods.ekd import EKD
from facedistill.methods.embedding_mse import EmbeddingMSE
from facedistill.methods.fitnet import FitNet
from facedistill.methods.triplet_distillation import TripletDistillation
from tests.methods.small_methods import assert_two_processes_are_one
from tests.methods.test_bank_methods import CRD_SMALL

LABELED = {"head": True, "identity_weight": 1.0}
CASES = [
    (EmbeddingMSE, LABELED),
    (Cosine, LABELED),
    (FitNet, {"size_px": 4, "identity_weight": 0.0}),
    (CRD, {**CRD_SMALL, **LABELED, "negatives": "per_image"}),
    (TripletDistillation, {"reach": 4.0, **LABELED}),
    (EKD, {"impostor_queue": 5, **LABELED}),
]


@pytest.mark.slow
def test_two_processes_are_one():
    assert_two_processes_are_one(CASES)
