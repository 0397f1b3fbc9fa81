"""A network with merged branches embeds as before; the network that is trained keeps its branches."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from facedistill.export.onnx import inference_network
from facedistill.models.cost import count_params
from facedistill.models.teachers.golden import draw_faces
from tests.contracts.backbone_cards import trained

CARDS = {
    "facelivtv2_xs": {},
    "mobileone": {"first_stride": None},
    "repvit": {"first_stride": None},
    "fastvit": {},
}


@pytest.mark.parametrize(
    "name",
    [name if name == "facelivtv2_xs" else pytest.param(name, marks=pytest.mark.slow) for name in CARDS],
)
def test_merged_branches_embed_as_before(name: str) -> None:
    faces = draw_faces(4)
    backbone = trained(name, 16, faces, **CARDS[name])
    before = {key: tensor.clone() for key, tensor in backbone.state_dict().items()}
    merged = inference_network(backbone, "float")
    with torch.no_grad():
        found, expected = merged(faces), backbone(faces)
    assert torch.cosine_similarity(found.double(), expected.double()).min() > 0.99999
    assert (found - expected).abs().max() < 5e-4 * expected.std(dim=0).max()  # of what tells faces apart
    assert count_params(merged) < count_params(backbone)
    assert all(torch.equal(before[key], tensor) for key, tensor in backbone.state_dict().items())
    assert any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules())
