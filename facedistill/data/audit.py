"""`facedistill data audit TRAIN BENCHMARK`: are people of a benchmark among the training faces?

The teacher embeds both sets; each benchmark image is held against every training image.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facedistill.assets import obtain
from facedistill.data.audit_page import write_audit_page
from facedistill.data.bin_faces import BinFaces
from facedistill.data.counting import Counting
from facedistill.data.face_set import FaceSet
from facedistill.data.open import open_faces
from facedistill.data.reading import to_faces
from facedistill.decode import SIZE_PX, decode_face
from facedistill.errors import ConfigError, DataError
from facedistill.models.teachers import ArcFaceMobileFaceNet, FrozenTeacher
from facedistill.models.weights import write_whole
from facedistill.types import InputSpec

DUPLICATE_COSINE = 0.95  # the same photograph, or nearly
_BATCH = 64
_MOST_NAMED = 10


@dataclass(frozen=True)
class Audit:
    """The nearest training image of every benchmark image.

    Attributes:
        threshold: Teacher cosine from which on a match is taken for the same person.
        benchmark_indices: (M,) positions of the readable benchmark images.
        cosine: (M,) of the nearest training image, in [-1, 1].
        match: (M,) its position in the training set.
        num_train: Training images that were compared.
        unreadable: One sentence for each image, of either set, that could not be read and was left out.
    """

    threshold: float
    benchmark_indices: np.ndarray
    cosine: np.ndarray
    match: np.ndarray
    num_train: int
    unreadable: list[str]

    @property
    def leaks(self) -> np.ndarray:
        """Rows whose cosine reaches the threshold, the nearest first."""
        order = np.argsort(-self.cosine, kind="stable")
        return order[self.cosine[order] >= self.threshold]

    @property
    def duplicates(self) -> int:
        """Benchmark images whose match is nearly the same picture (cosine >= 0.95)."""
        return int((self.cosine >= DUPLICATE_COSINE).sum())


def main(
    arguments: Sequence[str],
    *,
    load_teacher: Callable[[], nn.Module] | None = None,
) -> int:
    """Audits, writes the report page and a JSON file beside it.

    Args:
        arguments: Words after `audit`.
        load_teacher: The network that compares; the pocket teacher if None.

    Returns:
        0 when no benchmark image has a match, 1 when some have.

    Raises:
        UserError: On a user's mistake.
    """
    options = _parser().parse_args(list(arguments))
    if not -1 < options.threshold <= 1:
        raise ConfigError(f"--threshold: must be within (-1, 1], got {options.threshold}")
    train = open_faces(options.train)
    is_bin = options.benchmark.suffix.lower() == ".bin"
    benchmark: FaceSet = BinFaces(options.benchmark) if is_bin else open_faces(options.benchmark)
    teacher = load_teacher() if load_teacher else _pocket_teacher(options.quiet)
    found = audit(train, benchmark, teacher, threshold=options.threshold, quiet=options.quiet)
    names = (str(options.train), str(options.benchmark))
    write_audit_page(options.report, found, train, benchmark, names)
    _write_json(options.report.with_suffix(".json"), found, train, benchmark)
    _tell(found, train, options.report)
    return 1 if len(found.leaks) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="facedistill data audit",
        description="Search a training set for the people of a benchmark, by the teacher's embeddings.",
        epilog="Exit codes: 0 no benchmark image has a match, 1 some have, 2 a mistake.",
    )
    parser.add_argument("train", type=Path, metavar="TRAIN", help="the training set, any format")
    parser.add_argument(
        "benchmark",
        type=Path,
        metavar="BENCHMARK",
        help="aligned faces of the benchmark: any format, or a .bin",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.7,
        help="teacher cosine from which on two images are taken for one person (default: 0.7)",
    )
    parser.add_argument(
        "--report",
        type=Path,
        default=Path("leak-audit.html"),
        metavar="HTML",
        help="page with the pictures of the matches (default: leak-audit.html); the list is .json beside it",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")
    return parser


def audit(
    train: FaceSet, benchmark: FaceSet, teacher: nn.Module, *, threshold: float = 0.7, quiet: bool = False
) -> Audit:
    """Finds the nearest training image of every benchmark image; no training embedding is kept.

    Args:
        train: Training faces, any number.
        benchmark: Benchmark faces; M·D numbers are held in memory.
        teacher: (N, 3, 112, 112) in [-1, 1] to (N, D), in eval mode.
        threshold: Cosine from which on a match counts.
        quiet: Shows no progress.

    Raises:
        DataError: If one of the sets has no readable image.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    teacher = teacher.to(device)
    unreadable: list[str] = []
    parts = list(_embedded(benchmark, teacher, device, "embedding the benchmark", unreadable, quiet))
    if not parts:
        raise DataError(f"audit: the benchmark has no readable image ({unreadable[0]})")
    indices = np.concatenate([part[0] for part in parts])
    wanted = torch.cat([part[1] for part in parts])
    best = torch.full((len(wanted),), -2.0, device=device)
    match = torch.zeros(len(wanted), dtype=torch.int64, device=device)
    count = 0
    for positions, embeddings in _embedded(train, teacher, device, "searching", unreadable, quiet):
        cosine, row = (wanted @ embeddings.T).max(dim=1)
        nearer = cosine > best
        best = torch.where(nearer, cosine, best)
        match = torch.where(nearer, torch.from_numpy(positions).to(device)[row], match)
        count += len(positions)
    if not count:
        raise DataError(f"audit: the training set has no readable image ({unreadable[-1]})")
    cosines = best.clamp(-1, 1).cpu().numpy()
    return Audit(threshold, indices, cosines, match.cpu().numpy(), count, unreadable)


def _embedded(
    faces: FaceSet, teacher: nn.Module, device: torch.device, title: str, unreadable: list[str], quiet: bool
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Positions (n,) and unit embeddings (n, D) of the readable images, block by block."""
    with Counting(title, len(faces), quiet=quiet) as counting:
        for start in range(0, len(faces), _BATCH):
            numbers = range(start, min(start + _BATCH, len(faces)))
            positions, images = [], []
            for number in numbers:
                try:
                    images.append(decode_face(faces.encoded(number), faces.where(number), SIZE_PX))
                    positions.append(number)
                except DataError as error:
                    unreadable.append(str(error))
            if images:
                with torch.inference_mode():
                    batch = to_faces(torch.from_numpy(np.stack(images)).to(device))
                    yield np.array(positions), F.normalize(teacher(batch).float(), dim=1)
            counting.advance(len(numbers))


def _pocket_teacher(quiet: bool) -> FrozenTeacher:
    return FrozenTeacher(ArcFaceMobileFaceNet(), obtain("w600k_mbf", quiet=quiet), InputSpec())


def matched_identities(found: Audit, train: FaceSet) -> list[str]:
    """Names of the training identities that a match points to; empty for an unlabelled set."""
    if train.labels is None:
        return []
    return [train.identities[k] for k in np.unique(train.labels[found.match[found.leaks]])]


def _write_json(path: Path, found: Audit, train: FaceSet, benchmark: FaceSet) -> None:
    matches = [
        {
            "cosine": round(float(found.cosine[row]), 4),
            "benchmark": benchmark.where(int(found.benchmark_indices[row])),
            "train": train.where(int(found.match[row])),
            "train_index": int(found.match[row]),
        }
        for row in found.leaks.tolist()
    ]
    content = {
        "threshold": found.threshold,
        "benchmark_images": len(found.cosine),
        "train_images": found.num_train,
        "matches": matches,
        "train_identities": matched_identities(found, train),
        "unreadable": found.unreadable,
    }
    write_whole(path, lambda partial: partial.write_text(json.dumps(content, indent=1), encoding="utf-8"))


def _tell(found: Audit, train: FaceSet, report: Path) -> None:
    leaks, total = len(found.leaks), len(found.cosine)
    people = len(matched_identities(found, train))
    said = f"{leaks} of {total} benchmark images have a match from cosine {found.threshold} on"
    said += f" among {found.num_train} training images"
    said += f", of {people} training identities" if people else ""
    print(f"{said}; {found.duplicates} of them are nearly the same picture" if leaks else said)
    for sentence in found.unreadable[:_MOST_NAMED]:
        print(f"  left out: {sentence}", file=sys.stderr)
    if len(found.unreadable) > _MOST_NAMED:
        print(f"  and {len(found.unreadable) - _MOST_NAMED} more left out", file=sys.stderr)
    print(f"report: {report}")
