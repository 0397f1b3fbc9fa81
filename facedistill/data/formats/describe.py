"""What a face set holds, in a few lines of text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from facedistill.data.formats.face_set import FaceSet
from facedistill.errors import DataError
from facedistill.images import look_at

_SAMPLED = 256
_BARS = "▁▂▃▄▅▆▇█"
_FEWEST_IMAGES = 4  # what a P x K batch draws of each identity


def describe(faces: FaceSet) -> list[str]:
    """Lines on images, identities, sizes, color and fingerprint, then one per warning."""
    sizes, modes, unreadable = _sample(faces)
    num_sampled = sum(sizes.values()) + unreadable
    lines = [_line("images", f"{len(faces):,}")]
    if faces.labels is None:
        lines.append(_line("identities", "none"))
    else:
        counts = np.bincount(faces.labels, minlength=len(faces.identities))
        lines.append(_line("identities", f"{len(faces.identities):,}"))
        spread = f"min {counts.min():,}, median {np.median(counts):,.0f}, max {counts.max():,}"
        lines += [_line("per identity", spread), _line("", _histogram(counts))]
    of_sampled = f"of {num_sampled:,} images looked at"
    lines.append(_line("size", f"{_counted(sizes)} {of_sampled}"))
    lines.append(_line("color", f"{_counted(modes)} {of_sampled}"))
    lines.append(_line("fingerprint", faces.fingerprint))
    lines += [_line("warning", warning) for warning in _warnings(faces, sizes, modes, unreadable)]
    return lines


def _warnings(faces: FaceSet, sizes: Counter[str], modes: Counter[str], unreadable: int) -> Iterator[str]:
    if faces.labels is None:
        yield "no labels, or one identity only: methods that need identities cannot use this set"
    else:
        if len(faces.identities) == 1:
            yield "one identity only: methods that need identities learn nothing from it"
        numbers = [int(name) for name in faces.identities if name.isdecimal()]
        if len(numbers) == len(faces.identities) and numbers:
            gaps = max(numbers) - min(numbers) + 1 - len(numbers)
            if gaps:
                yield f"labels have gaps: {gaps:,} between {min(numbers)} and {max(numbers)} do not occur"
        counts = np.bincount(faces.labels, minlength=len(faces.identities))
        few = int((counts < _FEWEST_IMAGES).sum())
        if few:
            yield (
                f"{few:,} of {len(counts):,} identities have fewer than {_FEWEST_IMAGES} images: P x K batches "
                "repeat theirs"
            )
    if len(sizes) > 1:
        yield f"{len(sizes)} different sizes: faces are 112x112; run `facedistill data align` on the photographs"
    elif sizes and "112x112" not in sizes:
        yield f"faces are 112x112, not {next(iter(sizes))}; run `facedistill data align` on the photographs"
    odd = {mode: number for mode, number in modes.items() if mode != "RGB"}
    if odd:
        yield f"{sum(odd.values())} images are not RGB ({', '.join(sorted(odd))}); they are converted when read"
    yield from getattr(faces, "warnings", list)()
    if unreadable:
        yield f"{unreadable} of the images looked at cannot be read; run `facedistill data verify`"


def _sample(faces: FaceSet) -> tuple[Counter[str], Counter[str], int]:
    """Sizes, color modes and the number of unreadable ones of 256 images spread over the set."""
    sizes: Counter[str] = Counter()
    modes: Counter[str] = Counter()
    unreadable = 0
    for index in np.unique(np.linspace(0, len(faces) - 1, _SAMPLED).astype(int)):
        try:
            wide, high, mode = look_at(faces.encoded(int(index)), faces.where(int(index)))
        except DataError:
            unreadable += 1
            continue
        sizes[f"{wide}x{high}"] += 1
        modes[mode] += 1
    return sizes, modes, unreadable


def _histogram(counts: np.ndarray) -> str:
    """`1-1 ▁ 2 | 2-3 ▄ 40 | 4-7 █ 77`: identities by number of images, in powers of two."""
    powers = np.floor(np.log2(np.maximum(counts, 1))).astype(int)
    heights = np.bincount(powers)
    parts = []
    for power in range(powers.min(), powers.max() + 1):
        bar = _BARS[round((len(_BARS) - 1) * heights[power] / heights.max())] if heights[power] else " "
        parts.append(f"{_span(2**power, 2 ** (power + 1) - 1)} {bar} {heights[power]:,}")
    return " | ".join(parts)


def _span(first: int, last: int) -> str:
    return f"{first}" if first == last else f"{first}-{last}"


def _counted(counts: Counter[str]) -> str:
    if len(counts) == 1:
        return next(iter(counts))
    parts = [f"{name} ({number})" for name, number in counts.most_common(4)]
    return ", ".join(parts) + (f" and {len(counts) - 4} more," if len(counts) > 4 else "") or "unknown"


def _line(name: str, text: str) -> str:
    return f"{name:<14}{text}"
