"""Damages `.rec`, `.idx`, `.bin`, `.tar`, JPEG and PNG files, and checks every reader.

    python benchmarks/fuzz.py --count 20000

Each input must give the right data, according to a second reader (`fuzz_oracles.py`), or a `UserError`;
any other exception, five seconds without an answer, a called function, or a record that is dropped without
a message is a finding. Writes `results/fuzz.md`; exit code 1 with findings.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import platform
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import fuzz_inputs, fuzz_oracles
from facedistill.data.formats.recordio.reader import RecordIOFaces
from facedistill.data.formats.shards.reader import ShardFaces
from facedistill.errors import UserError
from facedistill.evaluation.protocols.archives import TarArchive
from facedistill.evaluation.protocols.bin_file import load_bin
from facedistill.images import decode_face

RESULTS = Path(__file__).parent / "results"
LIMIT_S = 5.0


class Hang(BaseException):
    """No reader catches this one."""


class WrongError(Exception):
    """A reader accepted what it should not have, or gave something else."""


@dataclass
class Tally:
    """Results of one kind of input."""

    inputs: int = 0
    right: int = 0
    refused: int = 0
    slowest_s: float = 0.0
    findings: list[str] = field(default_factory=list)
    ways: Counter[str] = field(default_factory=Counter)


def _demand(holds: bool, message: str) -> None:
    if not holds:
        raise WrongError(message)


def check_rec(folder: Path, data: bytes, idx: bytes | None, truncated: str) -> None:
    """The same images and labels as the slow reader; with "drop", all before the damage, and a note."""
    (folder / "train.rec").write_bytes(data)
    (folder / "train.idx").unlink(missing_ok=True)
    if idx is not None:
        (folder / "train.idx").write_bytes(idx)
    messages = io.StringIO()
    with contextlib.redirect_stderr(messages):
        faces = RecordIOFaces(folder, truncated=truncated)  # type: ignore[arg-type]
    records, end = fuzz_oracles.records_of(data)
    whole = end == len(data)
    _demand(whole or truncated == "drop", "accepted an incomplete file")
    _demand(whole or "leaving out" in messages.getvalue(), "dropped the end without a message")
    keys = fuzz_oracles.keys_of(idx, records, end, len(data))
    _demand(
        keys is not None or not whole or "train.idx" in messages.getvalue(),
        "replaced the .idx without a message",
    )
    expected = fuzz_oracles.labeled_images(records, keys)
    _demand(expected is not None, "accepted what is no set")
    assert expected is not None
    _demand([image for _, image in expected] == [faces.encoded(i) for i in range(len(faces))], "other images")
    labels = [label for label, _ in expected]
    if faces.labels is None:
        _demand(len(set(labels)) == 1, "lost the labels")
    else:
        _demand(labels == [float(faces.identities[label]) for label in faces.labels], "other labels")


def check_bin(folder: Path, data: bytes) -> None:
    """The same images and flags as the standard reader, where that is safe to ask."""
    (folder / "x.bin").write_bytes(data)
    found = load_bin(folder / "x.bin")
    plain = fuzz_oracles.harmless_pickle(data)
    if plain is None:
        return
    archive = found.image_set.archive  # type: ignore[attr-defined]
    ends = [side.tolist() for side in (found.left, found.right)]
    images = [archive.read(str(end)) for pair in zip(*ends, strict=True) for end in pair]
    _demand(images == list(plain[0]), "other images")
    _demand(found.same.tolist() == [bool(flag) for flag in plain[1]], "other flags")


def check_tar(folder: Path, data: bytes) -> None:
    """Every image that the slow reader finds, and no other."""
    (folder / "x.tar").write_bytes(data)
    archive = TarArchive(folder / "x.tar")
    got = sorted(archive.read(name) for name in archive.names())
    members = fuzz_oracles.tar_members(data)
    if members is not None and not _has_long_names(data):
        endings = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
        _demand(
            got == sorted(body for name, body in members.items() if name.lower().endswith(endings)),
            "other images",
        )
    elif members is None:
        raise WrongError("accepted a tar that breaks off")


def check_shards(folder: Path, data: bytes) -> None:
    """Every sample that the slow reader finds, in order."""
    shard = folder / "shard-000000.tar"
    shard.write_bytes(data)
    faces = ShardFaces(shard)
    members = fuzz_oracles.tar_members(data)
    _demand(members is not None, "accepted a tar that breaks off")
    assert members is not None
    got = [faces.encoded(index) for index in range(len(faces))]
    if not _has_long_names(data):
        endings = (".jpg", ".jpeg", ".png", ".webp")
        expected = [body for name, body in members.items() if name.lower().endswith(endings)]
        _demand(sorted(got) == sorted(expected), "other images")


def check_image(data: bytes) -> None:
    """A face of 112 x 112 that looks as it does to Pillow."""
    pixels = decode_face(data, "the image")
    _demand(
        pixels.dtype == np.uint8 and pixels.shape == (112, 112, 3), f"pixels {pixels.dtype} {pixels.shape}"
    )
    reference = fuzz_oracles.pixels_of(data)
    _demand(reference is not None, "accepted what Pillow refuses")
    assert reference is not None
    apart = np.abs(pixels.astype(int) - reference).max()
    _demand(apart <= (3 if data[:2] == b"\xff\xd8" else 0), f"{apart} levels from Pillow")


def _has_long_names(data: bytes) -> bool:
    """Whether a header in the tar changes what the next one means, which the slow reader does not follow."""
    return any(
        data[start + 156 : start + 157] in (b"x", b"g", b"L", b"K", b"S", b"X")
        for start in range(0, len(data), 512)
    )


def inputs(
    draw: np.random.Generator, folder: Path, canary: str
) -> Iterator[tuple[str, str, Callable[[], None]]]:
    """Kind, kind of damage, and check of one input after the other, endlessly."""
    faces = fuzz_inputs.images(16)
    recs = fuzz_inputs.rec_files(faces)
    bins, tars = fuzz_inputs.bin_files(faces), fuzz_inputs.tar_files(faces)
    jpegs = [face for face in faces if face[:2] == b"\xff\xd8"]
    pngs = [face for face in faces if face[:1] == b"\x89"]
    hostile = fuzz_inputs.hostile_opcodes(canary)
    lengths = [b"\xff" * 4, bytes(4), b"\x0a\x23\xd7\xce", bytes(512), b"\xff\xd8\xff\xe0", b"IDAT"]

    def one_of(seeds: list[Any]) -> Any:
        return seeds[int(draw.integers(len(seeds)))]

    def damage(seeds: list[bytes], inserts: list[bytes]) -> tuple[str, bytes]:
        return fuzz_inputs.mutate(one_of(seeds), one_of(seeds), draw, inserts)

    while True:
        rec, idx = one_of(recs)
        way, data = fuzz_inputs.mutate(rec, one_of(recs)[0], draw, lengths)
        keep = idx if draw.random() < 0.5 else None
        mode = "drop" if draw.random() < 0.4 else "refuse"
        yield ".rec", way, lambda data=data, keep=keep, mode=mode: check_rec(folder, data, keep, mode)  # type: ignore[misc]
        way, damaged = fuzz_inputs.mutate(idx, one_of(recs)[1], draw, lengths)
        yield ".idx", way, lambda rec=rec, damaged=damaged: check_rec(folder, rec, damaged, "refuse")  # type: ignore[misc]
        way, data = damage(bins, hostile)
        yield ".bin", way, lambda data=data: check_bin(folder, data)  # type: ignore[misc]
        way, data = damage(tars, lengths)
        yield ".tar (benchmark)", way, lambda data=data: check_tar(folder, data)  # type: ignore[misc]
        way, data = damage(tars, lengths)
        yield ".tar (shard)", way, lambda data=data: check_shards(folder, data)  # type: ignore[misc]
        way, data = damage(jpegs, lengths)
        yield "JPEG", way, lambda data=data: check_image(data)  # type: ignore[misc]
        way, data = damage(pngs, lengths)
        yield "PNG", way, lambda data=data: check_image(data)  # type: ignore[misc]


def fuzz(count: int, seed: int = 0) -> dict[str, Tally]:
    """Runs `count` inputs.

    Args:
        count: Number of inputs over all kinds.
        seed: Of every choice.
    """
    tallies: dict[str, Tally] = {}
    draw = np.random.default_rng(seed)
    signal.signal(signal.SIGALRM, _hang)
    with tempfile.TemporaryDirectory() as name:
        folder, canary = Path(name) / "f", Path(name) / "canary"
        folder.mkdir()
        source = inputs(draw, folder, str(canary))
        for number in range(count):
            kind, way, check = next(source)
            tally = tallies.setdefault(kind, Tally())
            tally.inputs += 1
            start = time.perf_counter()
            finding = _finding(check, tally)
            tally.slowest_s = max(tally.slowest_s, time.perf_counter() - start)
            if canary.exists():
                finding = "executed code"
                canary.unlink()
            if finding is not None:
                tally.ways[way] += 1
                tally.findings.append(f"{kind}, input {number} ({way}): {finding}")
    return tallies


def _finding(check: Callable[[], None], tally: Tally) -> str | None:
    try:
        signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
        check()
        tally.right += 1
    except UserError as error:
        tally.refused += 1
        if "\n" in str(error) or len(str(error)) > 1000:
            return f"no single sentence: {str(error)[:120]!r}"
    except Hang:
        return f"no answer within {LIMIT_S:g} s"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return None


def _hang(signum: int, frame: FrameType | None) -> None:
    raise Hang


def table(tallies: dict[str, Tally]) -> str:
    """One line per kind."""
    lines = [
        "| input | mutated files | right data | one sentence | findings | slowest ms |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for kind, tally in tallies.items():
        slowest = math.ceil(tally.slowest_s * 1000)
        lines.append(
            f"| {kind} | {tally.inputs} | {tally.right} | {tally.refused} | {len(tally.findings)} | {slowest} |"
        )
    total = [
        sum(getattr(tally, name) for tally in tallies.values()) for name in ("inputs", "right", "refused")
    ]
    found = sum(len(tally.findings) for tally in tallies.values())
    lines.append(f"| all | {' | '.join(map(str, total))} | {found} | |")
    return "\n".join(lines)


def main() -> int:
    """Runs, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    start = time.monotonic()
    tallies = fuzz(args.count, args.seed)
    findings = [finding for tally in tallies.values() for finding in tally.findings]
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    text = (
        "# Damaged files and the readers\n\n"
        f"`python benchmarks/fuzz.py --count {args.count} --seed {args.seed}`, Python {platform.python_version()}: "
        f"{time.monotonic() - start:.0f} s, peak memory {peak_mib:.0f} MiB. Right data is what a second, slower reader "
        "finds in the same bytes; one sentence is a `DataError`. A finding is anything else: another exception, no "
        f"answer within {LIMIT_S:g} s, executed code, records dropped without a message.\n\n{table(tallies)}\n"
    )
    if findings:
        text += "\n" + "\n".join(f"- {finding}" for finding in findings[:50]) + "\n"
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "fuzz.md").write_text(text)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
