"""`facedistill.distill` with modules of a program on both sides, from the first step to the loaded student."""

import json

import pytest
import torch
from torch import nn

import facedistill as fd
from tests.helpers.assets import asset_or_skip

SMALL = (
    "debug=smoke", "data.batch_size=16", "generator.network.compile=false", "generator.network.exit=64",
    "evaluation.validation_pairs.identities=20",
)  # fmt: skip


class Own(nn.Module):
    """A network that facedistill does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, 4),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(128, 32),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)


@pytest.mark.slow
@pytest.mark.assets
def test_modules_of_a_program(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    asset_or_skip("mobilestylegan")
    torch.manual_seed(0)
    student, teacher = Own(), Own()
    settings = {"student": student, "teacher": teacher, "images": 32, "runs_dir": str(tmp_path)}
    trained = fd.distill(*SMALL, **settings)
    faces = torch.rand(3, 3, 112, 112) * 2 - 1
    rows = trained.embed(faces)
    assert not torch.allclose(rows, nn.functional.normalize(student.eval()(faces)))
    record = json.loads((trained.path.parent / "run.json").read_text())
    assert (record["status"], record["export"]["onnx_min_cosine"] > 0.9999) == ("finished", True)
    student.train()
    torch.testing.assert_close(fd.distill(*SMALL, **settings).embed(faces), rows)  # loaded, not trained again
    torch.testing.assert_close(
        fd.load(trained.path.with_name("student.onnx")).embed(faces), rows, rtol=0, atol=1e-5
    )
    torch.testing.assert_close(fd.load(trained.path, network=Own()).embed(faces), rows)
    assert "# Own distilled from Own\n" in (trained.path.parent / "README.md").read_text()
