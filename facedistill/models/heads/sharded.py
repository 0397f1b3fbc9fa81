"""A margin head whose identities are split across the processes: each holds and updates its own share of centers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from facedistill.distributed.collectives import gather, gather_constant, rank, world_size
from facedistill.errors import ConfigError
from facedistill.losses.margins import own_cosines, replace_own
from facedistill.losses.precision import at_least_float32
from facedistill.models.heads.own_margin import OwnMarginHead, fitting

_BLOCK = 2**16  # identities whose numbers are drawn at once, whoever holds them


class ShareLogits(NamedTuple):
    """Logits of one process's identities for the images of all processes.

    Attributes:
        margined: (W·N, K') with the margin in the own identity's column.
        cosines: (W·N, K') without scale and margin.
        columns: (W·N,) the own identity's column among these, -1 where another process holds it.
    """

    margined: Tensor
    cosines: Tensor
    columns: Tensor


class ShardedHead(nn.Module):
    """Exactly the loss of `head`, from K / W columns per process; no process holds all logits.

    Embeddings and labels of all processes are gathered; each process computes the (W·N, K / W) logits of its columns;
    the maximum, the sum of exponentials and the own logit cross processes as (W·N,) numbers. Identities are dealt
    out in runs of ceil(K / W). With one process it is the plain head.

    Gradients: those of the embeddings, and of the head's other parameters, are W times the sum's share, as
    `facedistill.distributed.collectives` wants before DDP averages. Those of the share of centers are already whole, and each
    process has another share: DDP must leave `share.weight` alone, so name the module's `unaveraged` parameters in
    `_ddp_params_and_buffers_to_ignore` of the module that DDP wraps. The state dict is the plain head's: `weight`
    is gathered on saving (every process must call `state_dict`) and split on loading, whatever W was.

    A head made before the process group exists has all centers; `divide` cuts them once it does.

    Args:
        head: Makes the plain head from `num_identities` and `embedding_dim`. It is made whole and cut down, so that
            the initial centers do not depend on W.
        num_identities: K.
        embedding_dim: D.
        sample_rate: Probability of an identity to enter a training step; those of the batch always do (Partial FC, An et
            al., CVPR 2022). 1 is exact. The draw depends on `seed` and the number of steps only, neither on W nor on a
            resume. The authors draw a fixed number in each process, so that their draw depends on W; and unlike their
            optimizer, momentum and weight decay go on for centers that were not drawn.
        seed: Seed of that draw.

    Attributes:
        share: The plain head with this process's centers as its weight.
    """

    is_split: ClassVar[bool] = True
    unaveraged = ("share.weight",)
    draws: Tensor

    def __init__(
        self, *, head: Callable[..., OwnMarginHead], num_identities: int, embedding_dim: int, sample_rate: float = 1.0,
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
        self.first, self.last = 0, num_identities
        self.divide()
        self.register_buffer("draws", torch.tensor(0))
        self.register_state_dict_post_hook(_save_whole)
        self.register_load_state_dict_pre_hook(_load_split)

    def divide(self) -> None:
        """Keeps this process's centers of a whole weight; nothing where that is done or there is one process.

        Raises:
            ConfigError: If a process would be left without an identity.
        """
        whole, weight = (self.first, self.last) == (0, self.num_identities), self.share.weight
        if not whole or world_size() == 1:
            return
        self.first, self.last = _bounds(self.num_identities, rank())
        if self.first >= self.last:
            raise ConfigError(
                f"head: {self.num_identities} identities leave process {rank()} of {world_size()} without one; use the "
                "plain head"
            )
        self.share.weight = nn.Parameter(self.split(weight.data), requires_grad=weight.requires_grad)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Loss per image of this process, (N,), from its embeddings (N, D) and labels (N,); N is the same everywhere."""
        margined, cosines, columns = self.share_logits(embeddings, labels)
        del cosines  # memory
        return self.losses(embeddings, margined, columns)

    def losses(self, embeddings: Tensor, margined: Tensor, columns: Tensor) -> Tensor:
        """`forward`, given the `share_logits` of the same embeddings (N, D)."""
        losses = self.own_images(self.share.losses(margined, columns, _Total.apply, _highest))
        extra = self.share.regularizer(embeddings)
        return losses if extra is None else losses + extra

    @staticmethod
    def own_images(values: Tensor) -> Tensor:
        """(W·N,) values that every process has, to the (N,) of this one's images, with gradient."""
        return _Own.apply(values)

    def share_logits(self, embeddings: Tensor, labels: Tensor) -> ShareLogits:
        """Logits of this process's identities for the images of all processes.

        Args:
            embeddings: (N, D) this process's.
            labels: (N,) this process's, in [0, K).
        """
        everyone = gather(at_least_float32(embeddings))
        columns = share_columns(gather_constant(labels), self.first, self.last)
        weight = _Divided.apply(self.share.weight)
        if self.training and self.sample_rate < 1:
            weight, columns = self._sampled(weight, columns)
        cosines = self.share.cosines_to(everyone, weight)
        margined = share_margin(self.share, cosines, columns, everyone)
        return ShareLogits(self.scale * margined, cosines, columns)

    def _sampled(self, weight: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        draw = self._draw().to(columns.device)
        self.draws += 1
        taken = draw < self.sample_rate
        taken[columns[columns >= 0]] = True
        taken[draw.argmin()] = True  # never none
        chosen = torch.nonzero(taken).squeeze(1)
        place = torch.full(
            (len(draw) + 1,), -1, device=columns.device
        )  # the last entry answers for column -1
        place[chosen] = torch.arange(len(chosen), device=columns.device)
        rows = weight.unflatten(0, (len(draw), -1))[chosen].flatten(0, 1)
        return rows, place[columns]

    def _draw(self) -> Tensor:
        """(K',) numbers in [0, 1) for this process's identities, each a function of (seed, step, identity)."""
        blocks = range(self.first // _BLOCK, (self.last - 1) // _BLOCK + 1)
        numbers = []
        for block in blocks:
            seed = (self.seed * 1_000_003 + block) * 1_000_000_007 + int(self.draws)
            numbers.append(torch.rand(_BLOCK, generator=torch.Generator().manual_seed(seed % 2**63)))
        start = blocks[0] * _BLOCK
        return torch.cat(numbers)[self.first - start : self.last - start]

    def freeze(self, centers: Tensor) -> None:
        """`OwnMarginHead.freeze` with given centers (K, D), of which this process keeps its share."""
        self.share.weight = nn.Parameter(self.split(fitting(centers, self.share)), requires_grad=False)

    def split(self, whole: Tensor) -> Tensor:
        """This process's rows of (K·C, ...), a copy; for the weight and whatever an optimizer keeps beside it."""
        size = self.share.sub_centers
        return whole[self.first * size : self.last * size].clone()

    def joined(self, share: Tensor) -> Tensor:
        """(K·C, ...) from the rows of all processes; the opposite of `split`, called by all processes."""
        if world_size() == 1:
            return share
        size = self.share.sub_centers
        longest = math.ceil(self.num_identities / world_size()) * size
        padded = share.new_zeros(longest, *share.shape[1:])
        padded[: len(share)] = share
        return gather_constant(padded)[: self.num_identities * size]


def share_columns(labels: Tensor, first: int, last: int) -> Tensor:
    """(N,) labels in [0, K) as columns of the identities [first, last), -1 for others."""
    return torch.where((labels >= first) & (labels < last), labels - first, -1)


def share_margin(head: OwnMarginHead, cosines: Tensor, columns: Tensor, embeddings: Tensor) -> Tensor:
    """`OwnMarginHead.with_margin` where each process has some columns of the same rows.

    Args:
        head: The head whose margin it is; in training its statistics move.
        cosines: (W·N, K') with this process's centers.
        columns: (W·N,) the own identity's column among these, -1 where another process holds it.
        embeddings: (W·N, D).
    """
    here, safe = columns >= 0, columns.clamp(min=0)
    own = _Total.apply(torch.where(here, own_cosines(cosines, safe), 0))
    if head.training:
        norms = torch.linalg.vector_norm(at_least_float32(embeddings.detach()), dim=1)
        head.observe(own.detach(), norms)
    others = head.other_margin(cosines, own)
    return replace_own(
        others, safe, torch.where(here, head.own_margin(own, embeddings), own_cosines(others, safe))
    )


def _bounds(num_identities: int, number: int) -> tuple[int, int]:
    run = math.ceil(num_identities / world_size())
    return min(number * run, num_identities), min((number + 1) * run, num_identities)


def _save_whole(module: nn.Module, state: dict[str, Any], prefix: str, _: dict[str, Any]) -> None:
    assert isinstance(module, ShardedHead)
    inner = f"{prefix}share."
    for key in [key for key in state if key.startswith(inner)]:
        value = state.pop(key)
        name = key.removeprefix(inner)
        state[prefix + name] = module.joined(value.detach()) if name == "weight" else value


def _load_split(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    assert isinstance(module, ShardedHead)
    state.setdefault(f"{prefix}draws", module.draws.clone())  # a plain head's state has none
    for name in module.share.state_dict():
        if f"{prefix}{name}" in state:
            value = state.pop(f"{prefix}{name}")
            state[f"{prefix}share.{name}"] = module.split(value) if name == "weight" else value


@torch.no_grad()
def _highest(values: Tensor) -> Tensor:
    """Maximum over the processes, elementwise."""
    if world_size() > 1:
        values = values.clone()
        dist.all_reduce(values, dist.ReduceOp.MAX)
    return values


class _Total(torch.autograd.Function):
    """Sum over the processes; what follows is the same everywhere, and so is the gradient that comes back."""

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor) -> Tensor:
        values = values.clone()
        if world_size() > 1:
            dist.all_reduce(values)
        return values

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Any:
        return gradient


class _Own(torch.autograd.Function):
    """(W·N,) to this process's (N,); back, every process learns what all made of theirs."""

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor) -> Tensor:
        share = len(values) // world_size()
        return values[rank() * share : (rank() + 1) * share].clone()

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Any:
        return gather_constant(gradient.contiguous())


class _Divided(torch.autograd.Function):
    """The identity, whose gradient is divided by W: this parameter will not be averaged."""

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Any:
        return gradient / world_size()
