"""IJB-B and IJB-C, 1:1 and 1:N, in the layout of insightface's package.

    IJBC/loose_crop/*.jpg
    IJBC/meta/ijbc_name_5pts_score.txt     name x1 y1 … x5 y5 score
    IJBC/meta/ijbc_face_tid_mid.txt        name template media, the same faces in the same order
    IJBC/meta/ijbc_template_pair_label.txt template template label
    IJBC/meta/ijbc_1N_gallery_G1.csv, _G2.csv, ijbc_1N_probe_mixed.csv   TEMPLATE_ID,SUBJECT_ID,…

IJB-B has the prefix `ijbb` and galleries S1 and S2. The three 1:N files may be missing together.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from facedistill.errors import DataError
from facedistill.evaluation.protocols.base import (
    Flip,
    FolderLayout,
    PairScores,
    Protocol,
    ProtocolResult,
    checked_embeddings,
)
from facedistill.evaluation.protocols.loose_crops import LooseCrops
from facedistill.evaluation.protocols.meta_files import read_columns
from facedistill.evaluation.protocols.templates import (
    N0D0F0,
    N1D1F1,
    TemplateMode,
    face_embeddings,
    pair_scores,
    pool_templates,
)
from facedistill.metrics.identification import (
    Searches,
    closed_set_summary,
    insightface_tpir,
    open_set_summary,
    search,
)
from facedistill.metrics.verification import insightface_tars, verification_summary

MODES = (N0D0F0, N1D1F1)
FARS = {f"1e-{k}": 10.0**-k for k in range(1, 7)}
FPIRS = {"1e-1": 1e-1, "1e-2": 1e-2}  # as usually reported


@dataclass(frozen=True)
class Enrolled:
    """Templates and their identities: a gallery, or the probes."""

    template: np.ndarray
    subject: np.ndarray


@dataclass(frozen=True, eq=False)
class IjbProtocol(Protocol):
    """IJB-B or IJB-C; each figure belongs to one named mode.

    Attributes:
        name: Its name in tables; entries are `<name>_<mode>`, for example `ijbc_n1d1f1`.
        image_set: M faces.
        template: (M,) template of each face.
        media: (M,) media of each face.
        detector_score: (M,) the detector's confidence in each face.
        left: (P,) first template of each pair.
        right: (P,) second template of each pair.
        same: (P,) bool, true for genuine pairs.
        galleries: Of the 1:N protocol, with disjoint identities; empty without 1:N.
        probes: Of the 1:N protocol; None without it.
    """

    flip: ClassVar[Flip | None] = "both"  # N0D0F0 uses the face alone, N1D1F1 its mirror image too
    template: Tensor
    media: Tensor
    detector_score: Tensor
    left: Tensor
    right: Tensor
    same: Tensor
    galleries: tuple[Enrolled, ...] = ()
    probes: Enrolled | None = None

    def measure(self, embeddings: Tensor, *, resamples: int) -> dict[str, ProtocolResult]:
        """Figures of each mode from (M, 2 D) embeddings: the face's, then its mirror image's."""
        plain, mirrored = checked_embeddings(self.name, embeddings).chunk(2, dim=1)
        return {
            f"{self.name}_{mode.name.lower()}": self._measure(plain, mirrored, mode, resamples)
            for mode in MODES
        }

    def _measure(self, plain: Tensor, mirrored: Tensor, mode: TemplateMode, resamples: int) -> ProtocolResult:
        faces = face_embeddings(plain, mirrored, self.detector_score, mode)
        templates, unit = pool_templates(faces, self.template, self.media)
        score = pair_scores(unit, *(torch.searchsorted(templates, side) for side in (self.left, self.right)))
        figures = verification_summary(score, self.same, None, fars=FARS)
        figures["tar_insightface"] = insightface_tars(score[self.same], score[~self.same], FARS)
        figures["mode"] = mode.name
        if self.probes is not None:
            figures["identification"] = self._identification(templates, unit, resamples)
        return ProtocolResult(
            figures, PairScores(score, self.same, torch.zeros(len(score), dtype=torch.int64))
        )

    def _identification(self, templates: Tensor, unit: Tensor, resamples: int) -> dict[str, Any]:
        """Rank-k in the union of the galleries (as usually reported), TPIR averaged over them (IJB's protocol)."""
        assert self.probes is not None
        subject = self.probes.subject
        ids, faces = torch.from_numpy(subject), unit[_rows(templates, self.probes)]
        joined = Enrolled(
            np.concatenate([gallery.template for gallery in self.galleries]),
            np.concatenate([gallery.subject for gallery in self.galleries]),
        )

        def searched(gallery: Enrolled) -> Searches:
            return search(faces, unit[_rows(templates, gallery)], ids, torch.from_numpy(gallery.subject))

        closed = closed_set_summary(searched(joined), subject)
        each = [searched(gallery) for gallery in self.galleries]
        tpir = open_set_summary(each, subject, fpirs=FPIRS, resamples=resamples)
        script = insightface_tpir(
            faces, unit[_rows(templates, joined)], ids, torch.from_numpy(joined.subject), FPIRS
        )
        return {**closed, "gallery": len(joined.template), "tpir": tpir, "tpir_insightface": script}


def _rows(templates: Tensor, side: Enrolled) -> Tensor:
    return torch.searchsorted(templates, torch.from_numpy(side.template))


def open_ijb(folder: Path, name: str) -> IjbProtocol:
    """Reads the meta files of an IJB folder, but no image.

    Raises:
        DataError: If a meta file is missing or malformed, or files disagree; with counts.
    """
    found = sorted((folder / "meta").glob("*_face_tid_mid.txt"))
    if len(found) != 1:
        raise DataError(
            f"{folder}: holds {len(found)} meta/*_face_tid_mid.txt where one is needed; unpack the package again"
        )
    prefix = found[0].name.removesuffix("_face_tid_mid.txt")
    faces = read_columns(found[0], ["text", "int", "int"])
    points_path = folder / "meta" / f"{prefix}_name_5pts_score.txt"
    points = read_columns(points_path, ["text", *["float"] * 11])
    _check_same_faces(found[0], faces[0], points_path, points[0])
    pairs_path = folder / "meta" / f"{prefix}_template_pair_label.txt"
    left, right, same = read_columns(pairs_path, ["int", "int", "int"])
    galleries, probes = _open_1n(folder / "meta", prefix)
    known = np.unique(faces[1])
    used = [(pairs_path, left), (pairs_path, right)]
    used += [(folder / "meta", side.template) for side in (*galleries, *([probes] if probes else []))]
    for path, templates in used:
        absent = ~np.isin(templates, known)
        if absent.any():
            raise DataError(
                f"{path}: {int(absent.sum())} of {len(templates)} entries name templates without a face in "
                f"{found[0].name}, the first is {templates[absent][0]}; take all meta files from one package"
            )
    if set(np.unique(same)) != {0, 1}:
        raise DataError(
            f"{pairs_path}: labels must be 0 and 1, and both must occur; found {np.unique(same)[:4].tolist()}"
        )
    return IjbProtocol(
        name=name,
        image_set=LooseCrops(
            folder / "loose_crop", faces[0].tolist(), np.stack(points[1:11], 1).reshape(-1, 5, 2)
        ),
        template=torch.from_numpy(faces[1]),
        media=torch.from_numpy(faces[2]),
        detector_score=torch.from_numpy(points[11]).float(),
        left=torch.from_numpy(left),
        right=torch.from_numpy(right),
        same=torch.from_numpy(same).bool(),
        galleries=galleries,
        probes=probes,
    )


def _open_1n(meta: Path, prefix: str) -> tuple[tuple[Enrolled, ...], Enrolled | None]:
    paths = sorted(meta.glob(f"{prefix}_1N_gallery_*.csv"))
    probes = meta / f"{prefix}_1N_probe_mixed.csv"
    if not paths and not probes.exists():
        return (), None
    if len(paths) != 2 or not probes.exists():
        raise DataError(
            f"{meta}: 1:N needs two {prefix}_1N_gallery_*.csv and {probes.name}; found {len(paths)} galleries and "
            f"{'the' if probes.exists() else 'no'} probe file; add what is missing or remove all three"
        )
    sides = [_enrolled(path) for path in (*paths, probes)]
    both = np.intersect1d(sides[0].subject, sides[1].subject)
    if len(both):
        raise DataError(
            f"{meta}: {len(both)} identities are in both galleries, the first is {both[0]}; take all three files from "
            "one package"
        )
    return (sides[0], sides[1]), sides[2]


def _enrolled(path: Path) -> Enrolled:
    """Each template once; the files have one line per face."""
    template, subject = read_columns(path, ["int", "int"], header=True)
    templates, first = np.unique(template, return_index=True)
    return Enrolled(templates, subject[first])


def _check_same_faces(path: Path, names: np.ndarray, other: Path, others: np.ndarray) -> None:
    if len(names) != len(others) or (names != others).any():
        differ = "" if len(names) != len(others) else f", {int((names != others).sum())} of them different"
        raise DataError(
            f"{path} names {len(names)} faces and {other.name} {len(others)}{differ}; both must name the same faces "
            "in the same order, so take them from one package"
        )


class IjbLayout(FolderLayout):
    """insightface's package of IJB-B or IJB-C."""

    name = "ijb"
    contents = "with loose_crop and meta, insightface's package"
    open = staticmethod(open_ijb)
