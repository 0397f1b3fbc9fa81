from types import SimpleNamespace

import pytest
import torch

from facedistill.config import compose
from facedistill.errors import AssetError, ConfigError
from facedistill.runs.assembly import instantiate, refuse_other_width, validation_faces
from facedistill.system.trust import admit

admit([__name__])


def refuse(asset: str) -> None:
    raise AssetError(f"asset {asset}: is not available")


def test_user_error_inside_a_constructor_is_not_wrapped():
    with pytest.raises(AssetError) as caught:
        instantiate({"_target_": f"{__name__}.refuse", "asset": "weights"})
    assert str(caught.value) == "asset weights: is not available"


def test_dynamic_resampling_with_a_student_of_another_width_is_refused():
    student, teacher = SimpleNamespace(embedding_dim=128), SimpleNamespace(embedding_dim=512)
    overrides = ["data=stylegan", "method=rkd", "method.identity_weight=0"]
    refuse_other_width(compose("train", [*overrides, "data.source.resampling=static"]), student, teacher)
    with pytest.raises(ConfigError) as caught:
        refuse_other_width(compose("train", overrides), student, teacher)
    assert str(caught.value) == (
        "data.source.resampling=dynamic: needs embeddings of one width, and the student's have 128 dimensions and the "
        "teacher's 512; use data.source.resampling=static"
    )


def test_each_process_needs_a_stored_image():
    source = SimpleNamespace(stored_images=lambda number: torch.zeros(3, 1, 1, 1))
    assert len(validation_faces(source, None, 3, 3)) == 3
    with pytest.raises(ConfigError) as caught:
        validation_faces(source, None, 4, 4)
    assert str(caught.value) == (
        "trainer.devices: 4 processes and 3 images to validate on, less than one for each; start fewer processes, or train on one"
    )
