"""The progress display, with a fake clock: plain lines without a terminal, a live display with one."""

import io
import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from rich.console import Console

from facedistill.runs.callbacks.progress import ImagesProgress

METRICS = {
    "val/cosine": torch.tensor(0.2),
    "train/cosine": torch.tensor(0.25),
    "images_seen": torch.tensor(999.0),
    "train/mse": torch.tensor(0.5),
    "train/loss": torch.tensor(0.51234),
    "lr": torch.tensor(0.001),
}


class Run:
    """A fake trainer, method and clock."""

    def __init__(self, *, terminal: bool = False, rank_zero: bool = True, **arguments: Any) -> None:
        self.now = 1000.0
        self.written = io.StringIO()
        console = Console(file=self.written, force_terminal=terminal, width=160, _environ={"TERM": "xterm"})
        self.progress = ImagesProgress(console=console, clock=lambda: self.now, **arguments)
        self.trainer: Any = SimpleNamespace(
            is_global_zero=rank_zero, callback_metrics=METRICS, max_steps=100, global_step=0
        )
        self.method: Any = SimpleNamespace(images_seen=0)

    def start(self, images_seen: int = 0) -> None:
        self.method.images_seen = images_seen
        self.progress.on_train_start(self.trainer, self.method)

    def step(self, seconds: float = 2.0, images: int = 128) -> None:
        self.now += seconds
        self.method.images_seen += images
        self.trainer.global_step += 1
        self.progress.on_train_batch_end(self.trainer, self.method, None, None, self.trainer.global_step - 1)

    @property
    def lines(self) -> list[str]:
        return self.written.getvalue().splitlines()


def test_plain_line_every_ten_seconds_with_rate_and_time_left() -> None:
    run = Run(total_images=12_800)
    run.start()
    for _ in range(9):
        run.step(seconds=2.0, images=128)
    # 64 images/s; after 640 images 12,160 are left: 190 s.
    assert run.lines == [
        "640 / 12,800 images (5.0 %) | 64.0 images/s | 3 min 10 s left | "
        "train/loss 0.5123 | train/mse 0.5000 | train/cosine 0.2500 | val/cosine 0.2000"
    ]
    run.step()
    assert len(run.lines) == 2
    assert "\x1b" not in run.written.getvalue()


def test_last_line_shows_the_end_of_the_budget() -> None:
    run = Run(total_images=256)
    run.start()
    run.step(seconds=1)
    run.step(seconds=1)
    run.progress.on_train_end(run.trainer, run.method)
    assert run.lines[-1].startswith("256 / 256 images (100.0 %) | 128 images/s | 0 s left | ")


def test_long_line_is_not_wrapped() -> None:
    run = Run(total_images=10**12)
    run.trainer.callback_metrics = {f"train/term_{k}": torch.tensor(0.5) for k in range(30)}
    run.start()
    run.step(seconds=11)
    assert len(run.lines) == 1


def test_rate_covers_the_last_minute() -> None:
    run = Run(total_images=10**6)
    run.start()
    for _ in range(100):
        run.step(seconds=1, images=10)
    for _ in range(61):
        run.step(seconds=1, images=50)
    assert run.progress.images_per_s == pytest.approx(50)


def test_rate_of_steps_longer_than_a_minute() -> None:
    run = Run(total_images=10_000)
    run.start()
    for _ in range(3):
        run.step(seconds=200, images=100)
    assert run.progress.images_per_s == pytest.approx(0.5)
    assert run.progress.seconds_left == pytest.approx(9_700 / 0.5)


def test_resumed_run_counts_earlier_images_but_not_in_its_rate() -> None:
    run = Run(total_images=10_000)
    run.start(images_seen=5_000)
    run.step(seconds=10, images=100)
    assert run.lines[0].startswith("5,100 / 10,000 images (51.0 %) | 10.0 images/s | 8 min 10 s left | ")


def test_only_the_first_process_writes() -> None:
    run = Run(total_images=12_800, rank_zero=False)
    run.start()
    for _ in range(20):
        run.step()
    run.progress.on_train_end(run.trainer, run.method)
    assert run.lines == []


def test_metrics_are_read_only_when_shown() -> None:
    run = Run(total_images=12_800)
    reads: list[int] = []

    class Counted(dict[str, Any]):
        def items(self) -> Any:
            reads.append(1)
            return super().items()

    run.trainer.callback_metrics = Counted()
    run.start()
    for _ in range(12):
        run.step(seconds=1)
    assert len(reads) == 1


def test_live_display_shows_everything_and_restores_the_terminal() -> None:
    run = Run(total_images=12_800, terminal=True)
    run.start()
    run.step()
    run.progress.on_validation_start(run.trainer, run.method)
    run.step()
    run.progress.on_validation_end(run.trainer, run.method)
    run.step()
    run.progress.on_exception(run.trainer, run.method, KeyboardInterrupt())
    run.progress.teardown(run.trainer, run.method, "fit")
    written = run.written.getvalue()
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h") == 1  # cursor hidden and shown again
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written)
    for part in ("384 / 12,800 images (3.0 %)", "64.0 images/s", "3 min 14 s left", "validating",
                 "train/loss 0.5123", "train/cosine 0.2500", "val/cosine 0.2000"):  # fmt: skip
        assert part in text, part


class Tiny(LightningModule):
    """Eight images a step, one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.images_seen = 0

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.images_seen += len(batch)
        loss = self.layer(batch).square().mean()
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def test_in_a_real_trainer() -> None:
    written = io.StringIO()
    progress = ImagesProgress(40, console=Console(file=written))
    trainer = Trainer(
        max_steps=5, callbacks=[progress], accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_checkpointing=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Tiny(), torch.utils.data.DataLoader(torch.ones(80, 1), batch_size=8))
    assert re.fullmatch(
        r"40 / 40 images \(100\.0 %\) \| [\d,.]+ images/s \| 0 s left \| train/loss \d\.\d{4}\n",
        written.getvalue(),
    )
