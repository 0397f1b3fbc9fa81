"""What 10^9 images of 10^7 identities would cost: costs per unit, measured in miniature here, times the number of units.

    python benchmarks/scale_plan.py

Bytes are sizes of arrays and what `tracemalloc` counts, times are CPU seconds of one thread. Both are taken to grow in
proportion to the number of units; `docs/scale.md` says where they do not. Writes `results/scale_plan.md`.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.data import draw_faces
from facedistill.data.cache.array import KeptArray
from facedistill.data.formats.fingerprint import fingerprint_of
from facedistill.data.formats.recordio.reader import RecordIOFaces, write_recordio
from facedistill.data.formats.shards.reader import ShardFaces
from facedistill.data.formats.shards.writer import write_shards
from facedistill.data.sources.sampling import Balanced, BatchPlan, ShuffledOrder
from facedistill.images import decode_face
from facedistill.losses.grouping import Grouping
from facedistill.losses.groups import gkd
from facedistill.models.heads.centers import mean_centers
from facedistill.models.heads.cosface import CosFaceHead

RESULTS = Path(__file__).parent / "results" / "scale_plan.md"
IMAGES, IDENTITIES, DIM, BATCH = 10**9, 10**7, 512, 512
SETS = {"5.8 M / 85,742": (5.8e6, 85_742), "1e9 / 1e7": (IMAGES, IDENTITIES)}  # MS1MV2, and the plan


@dataclass(frozen=True)
class Cost:
    """One row of the table.

    Attributes:
        what: It is.
        unit: Of `images`, `identities`, or `entries`, the logits of one batch.
        bytes: Per unit; 0 if not of interest.
        seconds: Of CPU per unit; 0 if not of interest.
        where: The bytes are, or the time is spent.
    """

    what: str
    unit: str
    bytes: float
    seconds: float
    where: str


def measured(act: Callable[[], object]) -> tuple[float, int, int]:
    """CPU seconds of `act`, bytes that its result holds, most bytes held at once; of two calls, as tracing costs time."""
    start = time.process_time()
    act()
    seconds = time.process_time() - start
    tracemalloc.start()
    kept = act()
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    return seconds, held, peak


def slope(make: Callable[[int], Callable[[], object]], small: int, large: int) -> tuple[float, float, float]:
    """Seconds, held and peak bytes per unit, fixed costs subtracted."""
    low, high = measured(make(small)), measured(make(large))
    return tuple(max(0.0, (b - a) / (large - small)) for a, b in zip(low, high, strict=True))  # type: ignore[return-value]


def reading(folder: Path) -> list[Cost]:
    """Opening, decoding and storing files."""
    os.environ["FACEDISTILL_CACHE"] = str(folder / "cache")
    counts = (20_000, 60_000)
    for count in counts:  # opening reads no image
        items = [(b"\xff\xd8\xff" + bytes(13), 1000 + number // 50) for number in range(count)]
        write_shards(folder / f"tar{count}", items, [str(n) for n in range(items[-1][1] + 1)])
        write_recordio(folder / f"rec{count}" / "train", items)
    tar = slope(lambda count: lambda: ShardFaces(folder / f"tar{count}"), *counts)
    rec = slope(lambda count: lambda: RecordIOFaces(folder / f"rec{count}"), *counts)
    write_shards(folder / "faces", [(face, None) for face in draw_faces(500)], [])
    on_disk = (folder / "faces" / "000000.tar").stat().st_size / 500
    opened = ShardFaces(folder / "faces")
    decoding = measured(lambda: [decode_face(opened.encoded(i), "face") for i in range(500)])[0] / 500
    return [
        Cost("tar shards of 112 px JPEG", "images", on_disk, 0, "store"),
        Cost("decoding, per epoch", "images", 0, decoding, "all loading processes together"),
        Cost("opening tar shards: index held", "images", tar[1], tar[0], "each process"),
        Cost("opening tar shards: most at once", "images", tar[2], 0, "each process"),
        Cost("opening RecordIO: index held", "images", rec[1], rec[0], "each process"),
        Cost("opening RecordIO: most at once", "images", rec[2], 0, "each process"),
    ]


def ordering() -> list[Cost]:
    """The order of an epoch, the balanced part's tables, and the fingerprint."""
    first = np.zeros(1, np.int64)
    order = slope(lambda count: lambda: _taken(ShuffledOrder(count, 0), first), 10**5, 4 * 10**6)
    balanced = slope(_balanced, 10**5, 10**6)
    sizes = np.full(2 * 10**6, 10_000)
    marks = slope(
        lambda count: lambda: fingerprint_of(sizes[:count], sizes[:count], (), lambda index: b""),
        10**5, 2 * 10**6,
    )  # fmt: skip
    return [
        Cost("order of an epoch: held (two at its end)", "images", order[1], order[0], "each process"),
        Cost("order of an epoch: most at once", "images", order[2], 0, "each process"),
        Cost("balanced part: tables held", "images", balanced[1], balanced[0], "each process"),
        Cost("fingerprint: most at once", "images", marks[2], marks[0], "each process"),
    ]


def _balanced(count: int) -> Callable[[], BatchPlan]:
    labels = np.arange(count) // 100
    return lambda: BatchPlan(count, labels, seed=0, balanced=Balanced())


def _taken(order: ShuffledOrder, positions: np.ndarray) -> ShuffledOrder:
    order.take(positions)
    return order


def teaching(folder: Path) -> list[Cost]:
    """Cached teacher embeddings, and centers from them."""
    kept = KeptArray(folder, "teacher", {}, (100, 2, DIM), np.float16)
    kept.fill(lambda start, stop: np.zeros((stop - start, 2, DIM), np.float16), block=64, title="")
    labels = torch.arange(20_000) // 20
    faces = torch.randn(20_000, DIM)
    seconds = measured(lambda: mean_centers(faces, labels, 1000))[0] / len(faces)
    return [
        Cost("teacher cache, two views", "images", kept.path.stat().st_size / 100, 0, "store"),
        Cost("teacher centers: embeddings read at once", "images", DIM * faces.element_size(), seconds, "each process"),
        Cost("teacher centers: sums in float64", "identities", DIM * 8, 0, "each process"),
    ]  # fmt: skip


def heading() -> list[Cost]:
    """A step of a head, its state, and GKD's loss."""
    seconds, state = {}, {}
    for count in (1000, 9000):
        head = CosFaceHead(num_identities=count, embedding_dim=DIM)
        optimizer = torch.optim.SGD(head.parameters(), 0.1, momentum=0.9)
        faces, labels = torch.randn(64, DIM), torch.arange(64)
        times = []
        for _ in range(4):
            start = time.process_time()
            optimizer.zero_grad()
            head(faces, labels).mean().backward()
            optimizer.step()
            times.append(time.process_time() - start)
        seconds[count] = min(times)
        saved = [head.weight, *optimizer.state[head.weight].values()]
        state[count] = sum(tensor.numel() * tensor.element_size() for tensor in saved) / count
    step = (seconds[9000] - seconds[1000]) / 8000
    loss = {}
    for count in (2000, 10_000):
        student, teacher = (8 * torch.randn(64, count) for _ in range(2))
        grouping = Grouping("top_n", size=count // 8)
        times = []
        for _ in range(3):
            ours = student.clone().requires_grad_()
            start = time.process_time()
            gkd(ours, teacher, torch.arange(64), grouping).mean().backward()
            times.append(time.process_time() - start)
        loss[count] = min(times)
    return [
        Cost("centers in float32", "identities", DIM * 4, 0, "all together; each process while it is built"),
        Cost("centers, gradient and momentum", "identities", state[9000] + DIM * 4, 0, "all processes together"),
        Cost("checkpoint: centers and momentum", "identities", state[9000], 0, "each process; store, two files"),
        Cost("one matrix of logits", "entries", 4, step / 64, "all processes together; the time is of the head's step"),
        Cost("GKD: both logits and a gradient", "entries", 12, (loss[10_000] - loss[2000]) / 8000 / 64, "all processes together"),
        Cost("names of identities", "identities", sys.getsizeof("1234567") + 8, 0, "each process"),
    ]  # fmt: skip


def page(costs: list[Cost]) -> str:
    """The table."""
    lines = []
    for cost in costs:
        cells = [cost.what, f"{cost.bytes:,.1f}" if cost.bytes else "", f"{1e6 * cost.seconds:.4g}" if cost.seconds else ""]  # fmt: skip
        for images, identities in SETS.values():
            units = {"images": images, "identities": identities, "entries": BATCH * identities}[cost.unit]
            cells.append(_total(cost, units))
        lines.append(f"| {cells[0]} | {cost.unit} | {' | '.join(cells[1:])} | {cost.where} |")
    names = " | ".join(f"{name} images / identities" for name in SETS)
    return (
        "# 10^9 images and 10^7 identities, from costs per unit\n\n"
        f"`python benchmarks/scale_plan.py`: costs per image, identity, or entry of the logits of {BATCH} faces, measured in "
        f"miniature with one thread (PyTorch {torch.__version__.split('+')[0]}, D = {DIM}), times the number of units. CPU "
        "time. Bytes repeat; times differ by up to a factor of two between runs.\n\n"
        f"| what | per | bytes | µs | {names} | held or spent by |\n|---|---|--:|--:|--:|--:|---|\n"
        + "\n".join(lines)
        + "\n"
    )


def _total(cost: Cost, units: float) -> str:
    parts = []
    if cost.bytes:
        size = cost.bytes * units
        parts.append(f"{size / 1e12:,.1f} TB" if size >= 1e12 else f"{size / 1e9:,.2f} GB")
    if cost.seconds:
        spent = cost.seconds * units
        parts.append(f"{spent / 3600:,.1f} h" if spent >= 3600 else f"{spent:,.1f} s")
    return ", ".join(parts)


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        costs = [*reading(Path(folder)), *ordering(), *teaching(Path(folder)), *heading()]
    RESULTS.write_text(page(costs))
    print(page(costs))


if __name__ == "__main__":
    main()
