"""A margin head whose identities are split over the processes: each holds and updates its own part of the centers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from facedistill.distributed.collectives import world_size
from facedistill.distributed.partition import Partition
from facedistill.errors import ConfigError
from facedistill.models.heads.base import HeadLogits, MarginHead

_BLOCK = 2**16  # identities whose random numbers are drawn together, in whichever process they are


class ShardedHead(nn.Module):
    """Exactly the loss of `head`, from K / W columns per process; no process holds all logits.

    Embeddings and labels of all processes are gathered; each process computes the (W·N, K / W) logits of its columns;
    the maximum, the sum of exponentials and the target logit are reduced over the processes as (W·N,) numbers
    (`Partition`). With one process it is the plain head.

    Gradients: those of the embeddings, and of the head's other parameters, are W times this process's part of the sum,
    as `facedistill.distributed.collectives` wants before DDP averages. Those of the centers are complete, and each
    process has other centers: DDP must ignore `share.weight`, so add the names in `unaveraged` to
    `_ddp_params_and_buffers_to_ignore` of the module that DDP wraps. The state dict is the plain head's: `weight`
    is gathered on saving (every process must call `state_dict`) and split on loading, so W may change in between.

    A head that is built before the process group exists has all centers; `divide` splits them afterwards.

    Args:
        head: Makes the plain head from `num_identities` and `embedding_dim`. It is built with all centers and then
            split, so that the initial centers do not depend on W.
        num_identities: K.
        embedding_dim: D.
        sample_rate: Probability of an identity to take part in a training step; those of the batch always do (Partial
            FC, An et al., CVPR 2022). 1 is exact. The draw depends on `seed` and the number of steps only, not on W
            and not on a resume. The authors draw a fixed number in each process, so that their draw depends on W; and
            unlike with their optimizer, momentum and weight decay also apply to centers that were not drawn.
        seed: Seed of that draw.

    Attributes:
        share: The plain head with this process's centers as its weight.
    """

    is_split: ClassVar[bool] = True
    unaveraged: ClassVar[tuple[str, ...]] = ("share.weight",)
    draws: Tensor

    def __init__(
        self, *, head: Callable[..., MarginHead], num_identities: int, embedding_dim: int, sample_rate: float = 1.0,
        seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        if not 0 < sample_rate <= 1:
            raise ConfigError(f"head.sample_rate: expected a fraction in (0, 1], got {sample_rate}")
        self.share = head(num_identities=num_identities, embedding_dim=embedding_dim)
        self.num_identities = num_identities
        self.embedding_dim = embedding_dim
        self.scale = self.share.scale
        self.sample_rate = sample_rate
        self.seed = seed
        self.divide()
        self.register_buffer("draws", torch.tensor(0))
        self.register_state_dict_post_hook(_save_joined)
        self.register_load_state_dict_pre_hook(_load_split)

    @property
    def partition(self) -> Partition:
        """The identities that this process holds."""
        return self.share.partition

    @property
    def unsplit(self) -> MarginHead:
        """The head that has the margin, with this process's centers."""
        return self.share

    def divide(self) -> None:
        """Reduces the weight to this process's centers, unless that is done or there is one process.

        Raises:
            ConfigError: If a process would be left without an identity.
        """
        if world_size() == 1 or not self.partition.is_whole:
            return
        self.share.partition = Partition.of_this_process(self.num_identities)
        weight = self.share.weight
        self.share.weight = nn.Parameter(self.split(weight.data), requires_grad=weight.requires_grad)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Loss per image of this process, (N,), from its embeddings (N, D) and labels (N,); N is the same everywhere."""
        margined, cosines, columns = self.head_logits(embeddings, labels)
        del cosines  # frees memory before the loss needs it
        return self.losses(embeddings, margined, columns)

    def head_logits(self, embeddings: Tensor, labels: Tensor) -> HeadLogits:
        """`MarginHead.head_logits` of this process's identities, sampled in training if `sample_rate` is below 1."""
        sample = self._sampled if self.training and self.sample_rate < 1 else None
        return self.share.head_logits(embeddings, labels, sample)

    def losses(self, embeddings: Tensor, margined: Tensor, columns: Tensor) -> Tensor:
        """`forward`, given the `head_logits` of the same embeddings (N, D)."""
        return self.share.losses(embeddings, margined, columns)

    def freeze(self, centers: Tensor) -> None:
        """`MarginHead.freeze` with given centers (K, D), of which this process keeps its part."""
        self.share.freeze(centers)

    def split(self, rows: Tensor) -> Tensor:
        """This process's rows of (K·C, ...), a copy; for the weight and for the optimizer's state of it."""
        return self.partition.split(rows, self.share.sub_centers)

    def joined(self, rows: Tensor) -> Tensor:
        """(K·C, ...) from the rows of all processes: the inverse of `split`. All processes must call it."""
        return self.partition.joined(rows, self.share.sub_centers)

    def _sampled(self, weight: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Centers and target columns of the identities that take part in this step."""
        draw = self._draw().to(columns.device)
        self.draws += 1
        taken = draw < self.sample_rate
        taken[columns[columns >= 0]] = True  # the identities of the batch
        taken[draw.argmin()] = True  # at least one, so that no process is left without a column
        chosen = torch.nonzero(taken).squeeze(1)
        # new_column[old column] for all K' columns; the extra last entry is what index -1 reads, and stays -1.
        new_column = torch.full((len(draw) + 1,), -1, device=columns.device)
        new_column[chosen] = torch.arange(len(chosen), device=columns.device)
        rows = weight.unflatten(0, (len(draw), -1))[chosen].flatten(
            0, 1
        )  # keeps the C centers of an identity adjacent
        return rows, new_column[columns]

    def _draw(self) -> Tensor:
        """(K',) numbers in [0, 1) for this process's identities, each a function of (seed, step, identity).

        Random numbers are drawn in blocks of fixed size, each with its own seed, so that a process draws only the
        blocks it needs and an identity gets the same number whatever the number of processes.
        """
        first, last = self.partition.first, self.partition.last
        blocks = range(first // _BLOCK, (last - 1) // _BLOCK + 1)
        numbers = []
        for block in blocks:
            seed = (self.seed * 1_000_003 + block) * 1_000_000_007 + int(self.draws)
            numbers.append(torch.rand(_BLOCK, generator=torch.Generator().manual_seed(seed % 2**63)))
        start = blocks[0] * _BLOCK
        return torch.cat(numbers)[first - start : last - start]


def _save_joined(module: nn.Module, state: dict[str, Any], prefix: str, _: dict[str, Any]) -> None:
    """Moves `share.<name>` to `<name>`, as in the plain head, and joins the centers of all processes."""
    assert isinstance(module, ShardedHead)
    inner = f"{prefix}share."
    for key in [key for key in state if key.startswith(inner)]:
        value = state.pop(key)
        name = key.removeprefix(inner)
        state[prefix + name] = module.joined(value.detach()) if name == "weight" else value


def _load_split(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """The inverse of `_save_joined`; also takes the state of a plain head, which has no `draws`."""
    assert isinstance(module, ShardedHead)
    state.setdefault(f"{prefix}draws", module.draws.clone())
    for name in module.share.state_dict():
        if f"{prefix}{name}" in state:
            value = state.pop(f"{prefix}{name}")
            state[f"{prefix}share.{name}"] = module.split(value) if name == "weight" else value
