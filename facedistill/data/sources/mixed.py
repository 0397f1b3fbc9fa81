"""The source that mixes unlabeled photographs with faces that the generator renders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facedistill.data.formats.face_set import FaceSet, read_faces
from facedistill.data.sources.rendered import RenderedFaces
from facedistill.data.sources.sampling import ShuffledOrder, drawn_from
from facedistill.errors import ConfigError
from facedistill.images import to_float
from facedistill.types import FaceBatch, Offers


class MixedFaces(RenderedFaces):
    """Batches of `round(share · batch_size)` photographs, then rendered faces as `RenderedFaces` makes them.

    Labels of the photographs are not read. Each photograph is shown once per pass, in an order drawn from (seed, pass).
    Resampling and replay apply to the rendered rows only; the augmentation applies to all.

    Args:
        generator: Frozen generator.
        faces: The photographs, opened with `facedistill.data.formats.open.open_faces`.
        seed: The run's seed.
        share: Fraction of photographs in each global batch, in (0, 1).
        held_out: Photographs that are kept for validation and never trained on; the same ones for every seed.
        **kwargs: Those of `RenderedFaces`.

    Raises:
        ConfigError: If the share is outside (0, 1), or no photograph is left to train on.
    """

    offers = Offers()

    def __init__(
        self,
        generator: Any,
        faces: FaceSet,
        *,
        seed: int,
        share: float = 0.35,
        held_out: int = 500,
        **kwargs: Any,
    ) -> None:
        super().__init__(generator, seed=seed, **kwargs)
        if not 0 < share < 1:
            raise ConfigError(
                f"data.source.share={share}: must be between 0 and 1; use data=stylegan for rendered faces alone, or "
                "data=faces for photographs alone"
            )
        demand_some_left(faces, held_out)
        self.faces = faces
        self.share = share
        order = drawn_from(0, "held-out photographs").permutation(len(faces))
        self._held_out, self._trained_on = np.sort(order[:held_out]), np.sort(order[held_out:])
        self._order = ShuffledOrder(len(self._trained_on), seed, "photographs")

    def raw(self, number: int, *, batch_size: int, rank: int = 0, world_size: int = 1) -> dict[str, Any]:
        """Decodes this rank's photographs of step `number`, and draws the latents of its rendered faces.

        Raises:
            ConfigError: If the batch would hold no photograph, or a process no rendered face.
            DataError: If a photograph cannot be decoded.
        """
        photographs = round(self.share * batch_size)
        if not 0 < photographs <= batch_size - world_size:
            raise ConfigError(
                f"data.source.share={self.share}: makes {photographs} of data.batch_size={batch_size} images "
                f"photographs, and at least 1 must be one and {world_size} rendered; raise data.batch_size"
            )
        share = torch.arange(rank, batch_size, world_size)
        mine = share[share < photographs]
        indices = self._trained_on[self._order.take(number * photographs + mine.numpy())]
        return {
            **self.draw(number, share[share >= photographs], batch_size),
            **self.changes(step=number, samples=share),
            "photographs": torch.from_numpy(read_faces(self.faces, indices)),
        }

    def finish(self, raw: Mapping[str, Any]) -> FaceBatch:
        """Renders (or replays) faces, puts the photographs before them, and augments all."""
        rendered, _ = self.render(raw)
        photographs = to_float(raw["photographs"].permute(0, 3, 1, 2)).to(rendered.dtype)
        images = torch.cat([photographs, rendered])
        return FaceBatch(**self.views(images, raw))

    def held_out_images(self) -> Tensor:
        """(M, 3, 112, 112) uint8 photographs that are never trained on, not augmented."""
        return torch.from_numpy(read_faces(self.faces, self._held_out)).permute(0, 3, 1, 2).contiguous()


def demand_some_left(faces: FaceSet, held_out: int) -> None:
    """Refuses a set of which validation would take every photograph.

    Raises:
        ConfigError: In that case.
    """
    if not 0 <= held_out < len(faces):
        raise ConfigError(
            f"data.source.held_out={held_out}: the set has {len(faces)} photographs, and some must be left to train on; "
            f"set it to {len(faces) // 10}"
        )
