"""What a second CUDA stream gains: the next faces are rendered while the student learns from the last ones."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.bench import Bench, seconds_of


class TwoNetworks:
    """The generator on one side; teacher, student and optimizer on the other.

    Args:
        bench: Device and sizes.
    """

    def __init__(self, bench: Bench) -> None:
        from facedistill.config import compose
        from facedistill.runs.frozen_networks import load_generator, load_teacher
        from facedistill.runs.sources import build_backbone

        config = compose("train", bench.synthdistill())
        self.device, self.batch_size = bench.device, config.data.batch_size
        self.generator: Any = load_generator(config).to(self.device)
        self.teacher = load_teacher(config).to(self.device)
        student = build_backbone(config.backbone).to(self.device).train()
        self.student = student.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(student.parameters(), fused=self.device.type == "cuda")
        self.styles = self.generator.map(
            torch.randn(self.batch_size, self.generator.latent_dim, device=self.device)
        )

    def render(self) -> Tensor:
        """Faces of one batch."""
        faces: Tensor = self.generator.render(self.styles)
        return faces

    def learn(self, faces: Tensor) -> None:
        """One step of the student."""
        wanted = self.teacher(faces)
        with torch.autocast(self.device.type, torch.bfloat16):
            embeddings = self.student(faces)
        loss = F.mse_loss(F.normalize(embeddings.float()), F.normalize(wanted))
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def overlap(bench: Bench) -> None:
    """One stream against two."""
    networks = TwoNetworks(bench)
    size = networks.batch_size
    render_s = seconds_of(networks.render, bench)
    faces = networks.render()
    learn_s = seconds_of(lambda: networks.learn(faces), bench)
    bench.record("generator alone", images_per_s=size / render_s)
    bench.record("teacher and student alone", images_per_s=size / learn_s)
    one_s = seconds_of(lambda: networks.learn(networks.render()), bench)
    bench.record("one stream", images_per_s=size / one_s)
    if bench.device.type != "cuda":
        return
    side, main = torch.cuda.Stream(), torch.cuda.current_stream()
    ready = [faces]

    def both() -> None:
        side.wait_stream(main)
        with torch.cuda.stream(side):
            following = networks.render()
        networks.learn(ready[0])
        main.wait_stream(side)
        following.record_stream(main)
        ready[0] = following

    two_s = seconds_of(both, bench)
    bench.record("two streams", images_per_s=size / two_s, gain=one_s / two_s)
