import torch

from facedistill.evaluation.protocols.base import PairsProtocol
from facedistill.evaluation.protocols.images import ArrayImages
from facedistill.runs.callbacks.validation import GeneratedPairsCheck


class Pixels(torch.nn.Module):
    """Embeds a face as its coarse pixels."""

    def forward(self, images):
        return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)


class Method:
    """A LightningModule as far as the callback needs one."""

    device = torch.device("cpu")

    def __init__(self):
        self.student = Pixels().train()
        self.logged = {}

    def log_dict(self, figures):
        self.logged.update(figures)


def test_separable_pairs_score_one_and_the_student_stays_in_training_mode():
    faces = (
        torch.randint(0, 256, (20, 3, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
        .repeat_interleave(56, 2)
        .repeat_interleave(56, 3)
    )
    index = torch.arange(20)
    protocol = PairsProtocol(
        name="validation",
        image_set=ArrayImages(faces),
        left=index.repeat(2),
        right=torch.cat([index, index.roll(1)]),
        same=torch.arange(40) < 20,
        fold=(index % 10).repeat(2),
    )
    method = Method()
    GeneratedPairsCheck(protocol).on_validation_epoch_end(None, method)
    assert method.logged == {"val/accuracy": 1.0, "val/auc": 1.0}
    assert method.student.training
