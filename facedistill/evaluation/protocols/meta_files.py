"""Large tables of benchmarks, read by Arrow: 15.7 M lines in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from facedistill.errors import DataError

_TYPES = {"text": "string", "int": "int64", "float": "float64"}


def read_columns(path: Path, kinds: Sequence[str], *, header: bool = False) -> list[np.ndarray]:
    """Reads the first columns of a table.

    Args:
        path: The file.
        kinds: Type of each column: `text`, `int` or `float`. More columns are ignored in a file with a header,
            and an error in one without.
        header: Comma-separated with a header line, instead of space-separated without one.

    Returns:
        One array for each of `kinds`; text as objects.

    Raises:
        DataError: If the file is missing or empty, or a line is malformed.
    """
    import pyarrow as pa
    from pyarrow import csv

    wanted = ", ".join(kinds)
    try:
        if header:
            names = path.open(encoding="utf-8").readline().strip().split(",")[: len(kinds)]
            options = {"read_options": csv.ReadOptions(), "parse_options": csv.ParseOptions()}
        else:
            names = [str(number) for number in range(len(kinds))]
            options = {
                "read_options": csv.ReadOptions(column_names=names),
                "parse_options": csv.ParseOptions(delimiter=" ", quote_char=False),
            }
        types = {name: _TYPES[kind] for name, kind in zip(names, kinds, strict=True)}
        convert = csv.ConvertOptions(column_types=types, include_columns=names, null_values=[])
        table = csv.read_csv(path, convert_options=convert, **options)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or 'no such file'}); take it from the package again"
        ) from error
    except (pa.ArrowInvalid, pa.ArrowKeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise DataError(
            f"{path}: each line must hold {wanted} ({reason}); take it from the package again"
        ) from error
    if table.num_rows == 0:
        raise DataError(f"{path}: holds no line; take it from the package again")
    return [np.array(table.column(name).to_numpy(zero_copy_only=False)) for name in names]
