"""A trained network in use: `Student`, and `load`, which opens one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from numbers import Integral, Real
from pathlib import Path
from typing import get_args

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from facedistill.api.gallery import Gallery, Hit, SearchResult
from facedistill.api.hub import hub_file, is_hub_name
from facedistill.api.inputs import Pictures, aligned_face, batches, pictures_of
from facedistill.api.match import Match, crop_of
from facedistill.api.photographs import Chosen, Face, Picture, faces_of
from facedistill.api.thresholds import choose_threshold
from facedistill.data.alignment.choose_face import Detector
from facedistill.errors import AssetError, UserError
from facedistill.evaluation.thresholds import Threshold
from facedistill.export import Embedder, read_metadata
from facedistill.images import SIZE_PX
from facedistill.models.backbones.own import registered_for_file
from facedistill.models.imported import embedding_width
from facedistill.system.paths import config_dir


class Student:
    """A network that compares faces; `load` makes one.

    Attributes:
        embedding_dim: D.
        size_px: Side of the aligned faces that it takes.
        thresholds: Fitted by `facedistill evaluate`; empty if the model was not evaluated.
        path: Its file; None if it was not loaded from one.
        run: Name of the run that trained it; "" if unknown.
    """

    def __init__(
        self,
        network: Callable[[Tensor], Tensor],
        embedding_dim: int,
        *,
        size_px: int = 112,
        thresholds: tuple[Threshold, ...] = (),
        path: Path | None = None,
        run: str = "",
    ) -> None:
        """Wraps `network`, which maps (N, 3, size_px, size_px) RGB in [-1, 1] to (N, D) embeddings."""
        self._network = network
        self.embedding_dim, self.size_px = embedding_dim, size_px
        self.thresholds, self.path, self.run = thresholds, path, run

    def __repr__(self) -> str:
        """File and width."""
        return f"Student({str(self.path or self.run)!r}, embedding_dim={self.embedding_dim})"

    @torch.no_grad()
    def embed(
        self, images: Pictures, *, align: bool = False, batch_size: int = 64, detector: Detector | None = None
    ) -> Tensor:
        """Embeds faces, as the evaluation does without flip.

        Args:
            images: One image or several: paths, PIL images, (H, W, 3) uint8 RGB arrays, one (N, H, W, 3) array; or a
                tensor (N, 3, size_px, size_px), float RGB in [-1, 1] or uint8. Square aligned faces of another size
                are resized; a tensor is not.
            align: Whether the images are photographs, whose largest face is aligned first.
            batch_size: Faces per forward pass.
            detector: For `align`; see `find_faces`.

        Returns:
            (N, D) float32 unit rows.

        Raises:
            NoFaceError: If a photograph shows no face.
            DataError: If an image cannot be read, or is not what it should be.
        """
        if batch_size < 1:
            raise UserError(f"batch_size={batch_size}: expected at least 1")
        if align:
            images = [faces_of(picture, detector)[0].crop for picture in pictures_of(images)]
        parts = [
            F.normalize(self._network(part).float()) for part in batches(images, self.size_px, batch_size)
        ]
        return torch.cat(parts) if parts else torch.empty(0, self.embedding_dim)

    def verify(
        self,
        a: Picture,
        b: Picture,
        *,
        far: float | None = None,
        protocol: str | None = None,
        threshold: float | None = None,
        face: Chosen = "largest",
        aligned: bool = False,
        detector: Detector | None = None,
    ) -> Match:
        """Compares the faces of two photographs.

        Args:
            a: A photograph.
            b: Another one.
            far: The false accept rate at which the threshold was fitted; None: 1e-3, or 1e-2 if only that was measured.
            protocol: The benchmark that it was fitted on; None takes the one with the most impostor pairs.
            threshold: In place of the model's own, a cosine.
            face: Of several faces, the largest; or all, and the two most similar are the match.
            aligned: Whether both are square aligned faces already.
            detector: See `find_faces`.

        Raises:
            NoFaceError: If a photograph shows no face.
            DataError: If one cannot be read.
            UserError: If the model has thresholds, but none for this FAR and protocol.
        """
        if face not in get_args(Chosen):
            raise UserError(f"face={face!r}: expected {' or '.join(get_args(Chosen))}")
        fitted, limit = self._decision(far, protocol, threshold)
        first, second = (_faces(picture, face, aligned, detector) for picture in (a, b))
        used = [faces if face == "all" else faces[:1] for faces in (first, second)]
        rows = [self.embed([crop_of(one) for one in faces]) for faces in used]
        scores = rows[0] @ rows[1].T
        best = divmod(int(scores.argmax()), scores.shape[1])
        score = float(scores[best])
        pair = (used[0][best[0]], used[1][best[1]])
        return Match(
            score,
            limit,
            None if limit is None else score >= limit,
            (_box(pair[0]), _box(pair[1])),
            (len(first), len(second)),
            fitted,
            crops=(crop_of(pair[0]), crop_of(pair[1])),
        )

    def search(
        self,
        gallery: Gallery,
        probe: Picture,
        *,
        top: int = 5,
        far: float | None = None,
        protocol: str | None = None,
        threshold: float | None = None,
        aligned: bool = False,
        detector: Detector | None = None,
    ) -> SearchResult:
        """Finds the most similar faces of a gallery.

        Args:
            gallery: Of `Gallery.build` or `Gallery.load`, embedded by this student.
            probe: A photograph; its largest face is looked for.
            top: How many are returned.
            far: See `verify`; it holds for one comparison, and a search makes as many as the gallery has faces.
            protocol: See `verify`.
            threshold: See `verify`.
            aligned: Whether the probe is a square aligned face already.
            detector: See `find_faces`.

        Raises:
            NoFaceError: If the probe shows no face.
            UserError: If it is no gallery, was embedded by another student, or as `verify`.
        """
        if not isinstance(gallery, Gallery):
            raise UserError(f"{gallery!r}: is no gallery; give Gallery.load(…) or Gallery.build(…)")
        if not isinstance(top, Integral) or top < 1:
            raise UserError(f"top={top!r}: expected a whole number of at least 1")
        fitted, limit = self._decision(far, protocol, threshold)
        gallery.demand_made_by(self.run, self.embedding_dim)
        row = self.embed(crop_of(_faces(probe, "largest", aligned, detector)[0]))
        hits = [
            Hit(rank, gallery.names[index], score, None if limit is None else score >= limit)
            for rank, (index, score) in enumerate(gallery.nearest(row, top), start=1)
        ]
        return SearchResult(hits, limit, fitted)

    def _decision(
        self, far: float | None, protocol: str | None, threshold: float | None
    ) -> tuple[Threshold | None, float | None]:
        """The fitted threshold, and the cosine that decides; None where there is none."""
        for name, value, low in (("far", far, 0), ("threshold", threshold, -1)):
            if value is not None and not (isinstance(value, Real) and low <= value <= 1):
                raise UserError(f"{name}={value!r}: expected a number in [{low}, 1]")
        if threshold is not None:
            return None, float(threshold)  # a NumPy float32 would round the cosine that it is compared with
        fitted = choose_threshold(self.thresholds, far, protocol)
        return fitted, None if fitted is None else fitted.threshold


def _faces(
    picture: Picture, face: Chosen, aligned: bool, detector: Detector | None
) -> list[Face] | list[Image.Image]:
    if aligned:
        return [aligned_face(picture)]
    return faces_of(picture, detector, every=face == "all")


def _box(face: Face | Image.Image) -> tuple[float, float, float, float] | None:
    return face.box if isinstance(face, Face) else None


def load(
    source: str | Path | nn.Module, *, network: nn.Module | None = None, revision: str | None = None
) -> Student:
    """Opens a trained network.

    Args:
        source: A run folder or another folder with a student, `student.safetensors`, `student.onnx`, `org/name` on the
            Hugging Face hub, the name of a teacher in conf/teacher, or a network (N, 3, 112, 112) -> (N, D).
        network: For a student of a module of your own: that module, whose weights are replaced by the file's.
        revision: Branch, tag or commit on the hub.

    Raises:
        UserError: If there is no such model, or its file is damaged or not exported by facedistill.
    """
    if isinstance(source, nn.Module):
        return _of_module(source)
    if not isinstance(source, str | Path):
        raise AssetError(f"{source!r}: is no model; give the path or name of one, or an nn.Module object")
    path = Path(source).expanduser()
    if revision is not None and path.exists():
        raise UserError(
            f"revision={revision}: {source} is on this disk, and only the hub has revisions; leave it out"
        )
    if path.is_dir():
        path = _student_in(path)
    elif not path.exists():
        if (config_dir() / "teacher" / f"{source}.yaml").is_file():
            return _teacher(str(source))
        if not is_hub_name(str(source)):
            raise AssetError(
                f"{source}: there is no such run folder, student file or teacher, and it is no org/name of the hub"
            )
        path = hub_file(str(source), revision)
    with nullcontext() if network is None else registered_for_file(network, read_metadata(path), path):
        opened = Embedder(path)
    fitted = tuple(one for one in opened.thresholds if one.flip == "none")  # as `embed` does
    return Student(
        opened.embed_images, opened.embedding_dim,
        size_px=opened.size_px, thresholds=fitted, path=path, run=opened.run,
    )  # fmt: skip


def _teacher(name: str) -> Student:
    from facedistill.config import compose
    from facedistill.runs.frozen_networks import load_teacher

    teacher = load_teacher(compose("train", [f"teacher={name}"]))
    return Student(teacher, teacher.embedding_dim, run=name)


def _of_module(network: nn.Module) -> Student:
    return Student(network.eval(), embedding_width(network, type(network).__name__, SIZE_PX))


def _student_in(folder: Path) -> Path:
    for name in ("student.safetensors", "student.onnx"):
        if (folder / name).is_file():
            return folder / name
    raise UserError(
        f"{folder} holds no student.safetensors or student.onnx; give the folder of a finished run"
    )
