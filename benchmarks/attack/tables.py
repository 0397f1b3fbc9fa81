"""Small tables that claim, or unpack to, far more than they hold."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from attempts import Attempts, run

import facedistill as fd
from facedistill.evaluation.protocols.bin_file import load_bin


def tables(folder: Path) -> Attempts:
    """Parquet, Arrow, .npz and .bin files."""
    face = b"\x89PNG" + bytes(65_532)
    rows, value = pa.nulls(10**7, pa.binary()), pa.array([face] * 4_000, pa.binary())
    for name, column, options in (
        ("10^7 rows", rows, {"compression": "zstd"}),
        ("a dictionary of one face", value, {"compression": "zstd"}),
        ("zeros", value, {"compression": "brotli", "use_dictionary": False}),
    ):
        path = folder / f"{len(name)}.parquet"
        pq.write_table(pa.table({"image": column}), path, **options)
        yield (
            f"data info: Parquet, {name}, {path.stat().st_size} bytes",
            lambda path=path: run("data", "info", str(path)),
        )
    path, table = folder / "zeros.arrow", pa.table({"image": value})
    with pa.ipc.new_stream(
        str(path), table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")
    ) as stream:
        stream.write_table(table)
    yield (
        f"data info: compressed Arrow, {path.stat().st_size} bytes",
        lambda path=path: run("data", "info", str(path)),
    )
    del table, value, rows
    gallery = folder / "gallery.npz"
    with zipfile.ZipFile(gallery, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("embeddings.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(
                member, {"descr": "<f4", "fortran_order": False, "shape": (10**6, 512)}
            )
            for _ in range(1024):
                member.write(bytes(1 << 20))
        archive.writestr("files.npy", b"")
    yield f"search: .npz gallery, {gallery.stat().st_size} bytes", lambda: fd.Gallery.load(gallery)
    for name, shape in (("10^15 values", (10**12, 1000)), ("10^9 values", (10**6, 1000))):
        path = folder / f"{shape[0]}.npz"
        with zipfile.ZipFile(path, "w") as archive, archive.open("files.npy", "w") as member:
            np.lib.format.write_array_header_1_0(
                member, {"descr": "<f4", "fortran_order": False, "shape": shape}
            )
        yield f"search: .npz gallery that claims {name}", lambda path=path: fd.Gallery.load(path)
    images = (
        b"]q\x00("
        + b"c_codecs\nencode\n"
        + b"X"
        + (1 << 20).to_bytes(4, "little")
        + b"a" * (1 << 20)
        + b"q\x01"
    )
    again = 14_000 * b"c_codecs\nencode\nh\x01X\x06\x00\x00\x00latin1\x86R"
    for name, content in (
        ("encoded 14,000 times", images + b"X\x06\x00\x00\x00latin1\x86R" + again + b"e"),
        (
            "named 10^6 times",
            b"](C\x01aB"
            + (1 << 20).to_bytes(4, "little")
            + bytes(1 << 20)
            + b"q\x01"
            + 10**6 * b"h\x01"
            + b"e",
        ),
        ("of 2^40 bytes", b"](\x8e" + (1 << 40).to_bytes(8, "little") + b"e"),
    ):
        path = folder / f"{name.replace(' ', '-')}.bin"
        path.write_bytes(b"\x80\x04" + content + b"](" + 500_000 * b"\x88" + b"e\x86.")
        yield f"evaluate: .bin with an image {name}", lambda path=path: load_bin(path)
