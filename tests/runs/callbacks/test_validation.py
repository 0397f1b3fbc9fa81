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


class Rank:
    """A Trainer as far as the callback needs one."""

    is_global_zero, global_step = True, 7


def validation_pairs():
    faces = (
        torch.randint(0, 256, (20, 3, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
        .repeat_interleave(56, 2)
        .repeat_interleave(56, 3)
    )
    index = torch.arange(20)
    return PairsProtocol(
        name="validation",
        image_set=ArrayImages(faces),
        left=index.repeat(2),
        right=torch.cat([index, index.roll(1)]),
        same=torch.arange(40) < 20,
        fold=(index % 10).repeat(2),
    )


def test_separable_pairs_score_one_and_the_student_stays_in_training_mode():
    method = Method()
    GeneratedPairsCheck(validation_pairs()).on_validation_epoch_end(Rank, method)
    assert method.logged == {"val/accuracy": 1.0, "val/auc": 1.0}
    assert method.student.training


def test_a_collapsed_student_scores_chance_and_the_run_continues(capsys):
    method = Method()
    method.student = torch.nn.Sequential(Pixels(), torch.nn.Linear(12, 3))
    torch.nn.init.zeros_(method.student[1].weight)
    GeneratedPairsCheck(validation_pairs()).on_validation_epoch_end(Rank, method)
    assert method.logged == {"val/accuracy": 0.5, "val/auc": 0.5}
    assert "step 7: validation: all 20 embeddings point in one direction" in capsys.readouterr().err
