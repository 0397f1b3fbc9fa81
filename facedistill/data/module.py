"""The one DataModule: counts steps, asks a source for raw batches, finishes them on the device."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from facedistill.data.sources.base import Source
from facedistill.errors import ConfigError, UserError
from facedistill.images import to_float
from facedistill.types import FaceBatch


class FaceDataModule(LightningDataModule):
    """Feeds any source to any method, and held-out faces to validation.

    Progress is counted in images: `images` of the budget make `num_steps` steps of `batch_size`. The position
    in the stream is in the checkpoint, so a resumed run continues with the next step.

    Args:
        source: Where the training faces come from.
        validation_faces: (M, 3, H, W) uint8, held out from the source.
        batch_size: Global batch size, over all devices.
        images: Image budget: every image trained on counts, fresh, resampled or replayed.
        num_workers: Processes that prepare raw batches; 0 suffices for rendered faces.
        device: Where the batches go; the trainer's device if None.
        folder: Of the run, where the source keeps what it needs; None outside a run.
        resume: Whether training continues from a checkpoint.
    """

    def __init__(
        self,
        source: Source,
        validation_faces: Tensor,
        *,
        batch_size: int,
        images: int,
        num_workers: int = 0,
        device: torch.device | None = None,
        folder: Path | None = None,
        resume: bool = False,
    ) -> None:
        super().__init__()
        self.source = source
        self.validation_faces = validation_faces
        self.batch_size = batch_size
        self.num_steps = max(1, images // batch_size)
        self.num_workers = num_workers
        self._device = device
        self._folder, self._resume = folder, resume
        self._next_step = 0

    def setup(self, stage: str) -> None:
        """Opens the source when all processes have met: the main one has made, or with `force` cleared, the folder by then."""
        if self._folder is not None:
            self.source.open(self._folder, resume=self._resume, rank=self._rank_and_world_size()[0])

    def train_dataloader(self) -> DataLoader:
        """One pass of `num_steps` raw batches, from the first step not yet trained on."""
        rank, world_size = self._rank_and_world_size()
        if self.batch_size % world_size:
            raise ConfigError(
                f"data.batch_size={self.batch_size}: must be a multiple of the {world_size} processes, so that each "
                "has an equal share"
            )
        steps = _Steps(self.source, self.batch_size, rank, world_size, self.num_steps)
        return DataLoader(
            steps,
            sampler=_FromStep(self),
            batch_size=None,
            num_workers=self.num_workers,
            collate_fn=None,
            pin_memory=self._trains_on_cuda,  # else the copy to the device waits for it
            worker_init_fn=_leave_signals_to_the_main_process,
        )

    def val_dataloader(self) -> DataLoader:
        """The held-out faces, in batches of (n, 3, H, W) uint8, split over the devices; each has as many batches."""
        rank, world_size = self._rank_and_world_size()
        return DataLoader(
            self.validation_faces[rank::world_size],  # type: ignore[arg-type]
            batch_sampler=_equally_many(len(self.validation_faces), self.batch_size, rank, world_size),
            generator=torch.Generator(),  # else each validation draws from the training's
        )

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Raises the mistake that a worker found, as the one sentence that it is."""
        if isinstance(batch, UserError):
            raise batch
        return batch

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> FaceBatch:
        """Renders or normalizes on the device; a method cannot tell which it got."""
        if isinstance(batch, Tensor):
            return FaceBatch(images=to_float(batch))
        return self.source.finish(batch)

    def finish_step(self, agreement: Tensor | None) -> None:
        """Called once in each training step: moves the position on and closes SynthDistill's loop."""
        if agreement is not None:
            self.source.observe(self._next_step, agreement)
        self._next_step += 1

    def state_dict(self) -> dict[str, Any]:
        """Position in the stream and the source's own state."""
        return {"next_step": self._next_step, "source": self.source.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores `state_dict()`."""
        self._next_step = state_dict["next_step"]
        self.source.load_state_dict(state_dict["source"])

    @property
    def next_step(self) -> int:
        """The first step not yet trained on."""
        return self._next_step

    @property
    def _trains_on_cuda(self) -> bool:
        device = self.trainer.strategy.root_device if self.trainer else self._device
        return device is not None and device.type == "cuda"

    def _rank_and_world_size(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)


def _leave_signals_to_the_main_process(worker: int) -> None:
    """A Ctrl-C, or what SLURM sends, goes to all processes; the main one still needs batches to finish its step."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def _equally_many(images: int, batch_size: int, rank: int, world_size: int) -> list[list[int]]:
    """The batches of one process's share of `images`, at least one each; FSDP needs as many in every process.

    A share that is one image smaller than the largest may fill one batch less; then its first batch is divided.

    >>> [_equally_many(9, 4, rank, 2) for rank in (0, 1)]
    [[[0, 1, 2, 3], [4]], [[0], [1, 2, 3]]]
    """
    share = list(range(len(range(rank, images, world_size))))
    batches = [share[first : first + batch_size] for first in range(0, len(share), batch_size)]
    if len(batches) < -(-images // (world_size * batch_size)):
        first, *rest = batches
        return [first[:1], first[1:], *rest]
    return batches


class _Steps(Dataset):
    def __init__(self, source: Source, batch_size: int, rank: int, world_size: int, num_steps: int) -> None:
        self.source = source
        self.share: dict[str, int] = {"batch_size": batch_size, "rank": rank, "world_size": world_size}
        self.num_steps = num_steps

    def __len__(self) -> int:
        return self.num_steps

    def __getitem__(self, number: int) -> dict[str, Any] | UserError:
        """The raw batch of a step; a mistake travels as a value, because a loader adds its traceback to what it raises."""
        try:
            return self.source.raw(number, **self.share)
        except UserError as error:
            return error


class _FromStep(Sampler[int]):
    """Steps from the DataModule's position on; its length stays that of the whole pass, as Lightning counts it."""

    def __init__(self, module: FaceDataModule) -> None:
        self.module = module

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.module.next_step, self.module.num_steps))

    def __len__(self) -> int:
        return self.module.num_steps
