"""Synthetic identities of the pocket generator: the pocket teacher tells them apart."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from facedistill.assets import obtain
from facedistill.errors import AssetError
from facedistill.models.generators import FaceGenerator
from facedistill.models.synthetic_identities import (
    SyntheticIdentities,
    choose_identities,
    render_identity_images,
)
from facedistill.models.teachers import ArcFaceMobileFaceNet, FrozenTeacher
from facedistill.types import InputSpec

pytestmark = pytest.mark.assets


def weights(name: str) -> Path:
    try:
        return obtain(name, quiet=True)
    except AssetError as error:
        pytest.skip(str(error))


def test_four_identities_are_apart() -> None:
    settings = SyntheticIdentities(identities=4)
    generator = FaceGenerator(weights("mobilestylegan"), exit=64)
    teacher = FrozenTeacher(ArcFaceMobileFaceNet(), weights("w600k_mbf"), InputSpec())
    chosen = choose_identities(generator, teacher, settings)
    k = torch.arange(4).repeat_interleave(3)
    made = render_identity_images(generator, teacher, chosen, k, torch.arange(3).repeat(4), settings)
    unit = F.normalize(made.embeddings, dim=1)
    cosines, same = unit @ unit.T, k[:, None] == k
    apart = ~torch.eye(12, dtype=torch.bool)
    assert float(cosines[same & apart].mean()) > 0.5
    assert float(cosines[~same].max()) < 0.4
    assert bool((made.teacher_cosine[torch.arange(12) % 3 > 0] >= 0.5).all())
    assert float(made.faces.float().std()) > 30
