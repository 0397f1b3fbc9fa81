"""The source of faces that lie on disk, with or without identity labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facedistill.assets import cache_dir
from facedistill.data.augment import Augment
from facedistill.data.cache.array import KeptArray
from facedistill.data.cache.teacher_embeddings import TeacherCache
from facedistill.data.formats.face_set import FaceSet, read_faces
from facedistill.data.sources.base import OnHost, Source, TeacherView
from facedistill.data.sources.sampling import Balanced, BatchPlan
from facedistill.errors import ConfigError
from facedistill.images import SIZE_PX, to_float
from facedistill.models.teachers.team import Teacher
from facedistill.types import FaceBatch, Offers


class StoredFaces(Source):
    """Aligned faces of a RecordIO file, folder, tar shards, Parquet files or LMDB.

    Images are decoded to bytes in the worker and normalized, mirrored and augmented on the device. What a step
    trains on is a function of (seed, step), see `facedistill.data.sources.sampling`.

    Args:
        faces: The set, opened with `facedistill.data.formats.open.open_faces`.
        seed: The run's seed.
        balanced: The identity-balanced part of each batch, {identities: P, images: K}; None for none.
        augment: See `Source`.
        teacher_view: See `Source`; with "clean", stored embeddings go with any augmentation.
        decoded_cache: Keep the decoded bytes of all images (37.6 kB each) in the cache folder, so that later
            epochs and runs decode nothing.

    Raises:
        ConfigError: If `balanced` does not fit the set.
    """

    offers = Offers(labels=True, indices=True, class_centers=True)
    stores_images = True

    def __init__(
        self,
        faces: FaceSet,
        *,
        seed: int,
        balanced: Mapping[str, int] | None = None,
        augment: Augment | None = None,
        teacher_view: TeacherView = "same",
        decoded_cache: bool = False,
    ) -> None:
        labeled = faces.labels is not None
        self.offers = Offers(labels=labeled, indices=True, class_centers=labeled)
        self.num_identities = len(faces.identities) if labeled else None
        self.num_images = len(faces)
        self.faces = faces
        self.seed = seed
        self.augment = augment
        self.teacher_view = teacher_view
        self.plan = BatchPlan(
            len(faces), faces.labels, seed=seed, balanced=Balanced(**balanced) if balanced else None
        )
        self.teacher_cache: TeacherCache | None = None
        self._decoded = self._keep_decoded() if decoded_cache else None

    def cache_teacher(self, teacher: Teacher) -> None:
        """Embeds the whole set with the teacher, once, and adds the embeddings to each batch.

        Raises:
            ConfigError: If the teacher sees images that were changed in other ways than by mirroring them.
        """
        seen = self.augment if self.teacher_view == "same" else None
        if seen is not None and not getattr(seen, "only_mirrors", False):
            raise ConfigError(
                "data.teacher_cache=true: stored embeddings are right for plain and mirrored images only; set "
                "data.source.augment to {flip: 0.5} alone, data.source.teacher_view to clean, or teacher_cache to false"
            )
        mirrored = seen is not None and seen.flip > 0
        self.teacher_cache = TeacherCache(self.faces, teacher, cache_dir(), mirrored=mirrored)

    def embed_set(self, teacher: Teacher) -> tuple[Tensor, Tensor]:
        """The teacher's embeddings (N, D) and the labels (N,) of the whole set."""
        assert self.faces.labels is not None
        cache = self.teacher_cache or TeacherCache(self.faces, teacher, cache_dir(), mirrored=False)
        return cache.all_embeddings(), torch.from_numpy(self.faces.labels)

    def stored_images(self, number: int) -> Tensor:
        """(M, 3, 112, 112) uint8 images spread over the set, M <= `number`, not augmented."""
        spaced = np.linspace(0, len(self.faces) - 1, min(number, len(self.faces))).round().astype(np.int64)
        return torch.from_numpy(read_faces(self.faces, spaced)).permute(0, 3, 1, 2).contiguous()

    def raw(self, number: int, *, batch_size: int, rank: int = 0, world_size: int = 1) -> dict[str, Any]:
        """Decodes this rank's share of step `number`: every `world_size`-th image from `rank` on.

        The kept teacher embeddings are read here, next to the images.
        """
        indices, balanced = self.plan.batch(number, batch_size)
        if balanced is not None and int((~balanced).sum()) % world_size:
            raise ConfigError(
                f"data.batch_size={batch_size}: leaves {int((~balanced).sum())} images outside the balanced part, which "
                f"{world_size} processes cannot share equally; change it by {int((~balanced).sum()) % world_size}"
            )
        share = np.arange(rank, batch_size, world_size)
        mine = indices[share]
        raw: dict[str, Any] = {
            **self.changes(step=number, samples=torch.from_numpy(share)),
            "indices": torch.from_numpy(mine),
            "images": torch.from_numpy(self._images(mine)),
        }
        if self.faces.labels is not None:
            raw["labels"] = torch.from_numpy(self.faces.labels[mine].astype(np.int64))
        if balanced is not None:
            raw["balanced"] = OnHost(balanced[share])
        if self.teacher_cache is not None:
            mirrored: Tensor | None = None
            if self.augment is not None and self.teacher_view == "same":
                mirrored = self.augment.mirrored(seed=self.seed, step=number, samples=torch.from_numpy(share))
            raw["teacher_embeddings"] = self.teacher_cache.embeddings(raw["indices"], mirrored)
        return raw

    def finish(self, raw: Mapping[str, Any]) -> FaceBatch:
        """Normalizes and augments on the device."""
        images = to_float(raw["images"].permute(0, 3, 1, 2))
        balanced = raw.get("balanced")
        return FaceBatch(
            **self.views(images, raw),
            labels=raw.get("labels"),
            indices=raw["indices"],
            balanced=None if balanced is None else torch.from_numpy(balanced.values),
            teacher_embeddings=raw.get("teacher_embeddings"),
        )

    def _images(self, indices: np.ndarray) -> np.ndarray:
        if self._decoded is not None:
            return np.asarray(self._decoded[indices])
        return read_faces(self.faces, indices)

    def _keep_decoded(self) -> KeptArray:
        shape = (len(self.faces), SIZE_PX, SIZE_PX, 3)
        kept = KeptArray(cache_dir(), "decoded", {"faces": self.faces.fingerprint}, shape, np.uint8)
        kept.fill(
            lambda start, stop: read_faces(self.faces, np.arange(start, stop)),
            block=256,
            title="decoding, once",
        )
        return kept
