"""Two processes embed each face once between them, and both get the figures of one."""

from __future__ import annotations

import torch
from torch import nn

from facedistill.evaluation.benchmark import run_protocols
from facedistill.evaluation.embedder import embed
from facedistill.evaluation.protocols.base import PairsProtocol
from facedistill.evaluation.protocols.images import ArrayImages
from tests.distributed.processes import in_processes


class Counting(nn.Module):
    """Embeds a face as its 2 x 2 pixels; knows how many faces it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def forward(self, images):
        self.seen += len(images)
        return nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)


def _protocol(faces: int) -> PairsProtocol:
    images = torch.randint(
        0, 256, (faces, 3, 112, 112), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    index = torch.arange(40)
    return PairsProtocol(
        "x", ArrayImages(images), index % faces, (index * 3 + 1) % faces, index % 2 == 0, index % 10
    )


def _embedded(rank, folder):
    answers = []
    for faces in (13, 1):
        network, protocol = Counting(), _protocol(faces)
        embeddings = embed(network, protocol, batch_size=4, shared=True, quiet=True)
        seen = network.seen
        # each process has a cache of its own, the second one's stays empty: it must not be waited for in vain
        options = {
            "role": "teacher",
            "cache": folder / f"{rank}",
            "scores_dir": folder / "scores",
            "shared": True,
        }
        first, again = (
            run_protocols(network, [protocol], **options, resamples=5, quiet=True)["x"]["accuracy"]
            for _ in range(2)
        )
        answers.append((embeddings, seen, first, again))
    return answers


def test_shares_join_to_the_full_tensor(tmp_path):
    answers = in_processes(_embedded, tmp_path)
    for number, faces in enumerate((13, 1)):
        network = Counting()
        wanted = embed(network, _protocol(faces), batch_size=4, quiet=True)
        figures = run_protocols(network, [_protocol(faces)], role="teacher", resamples=5, quiet=True)
        assert sum(answer[number][1] for answer in answers) == faces
        for embeddings, _, first, again in (answer[number] for answer in answers):
            assert torch.allclose(embeddings, wanted, atol=1e-6)
            assert first == again == figures["x"]["accuracy"]
    assert [path.name for path in (tmp_path / "scores").iterdir()] == ["x.teacher.npz"]
