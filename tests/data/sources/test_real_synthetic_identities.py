"""Synthetic identities of the pocket generator: the pocket teacher tells them apart."""

import pytest
import torch
import torch.nn.functional as F

from facedistill.models.generators import FaceGenerator
from facedistill.models.synthetic_identities import (
    SyntheticIdentities,
    choose_identities,
    render_identity_images,
)
from facedistill.models.teachers import ArcFaceMobileFaceNet, FrozenTeacher
from facedistill.types import InputSpec
from tests.helpers.assets import asset_or_skip

pytestmark = pytest.mark.assets


def test_four_identities_are_apart() -> None:
    settings = SyntheticIdentities(identities=4)
    generator = FaceGenerator(asset_or_skip("mobilestylegan"), exit=64)
    teacher = FrozenTeacher(ArcFaceMobileFaceNet(), asset_or_skip("w600k_mbf"), InputSpec())
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
