"""Says which rows of a table were recorded with files that only the machine of their runs has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from facedistill.reporting.figures import part

MARK = "†"


def own_files(records: Sequence[Mapping[str, Any]]) -> str:
    """The files of the user behind the records of one row; empty where the repository and its cards name all of them."""
    found: dict[str, None] = {}
    for record in records:
        faces = record.get("stored_faces")
        if faces and not part(record["config"], "data", "synthetic"):
            images, fingerprint = faces.get("images"), faces.get("fingerprint")
            found[f"{faces.get('set')} of {images} images, fingerprint {fingerprint}"] = None
        if part(record["config"], "data", "source", "yaw") is not None:
            found["directions of the generator, estimated where the run was made"] = None
    return " and ".join(found)


def footnote(rows: Sequence[tuple[str, str]]) -> str:
    """The sentence under a table on its marked rows, given as label and files; empty if there is none."""
    if not rows:
        return ""
    named = "; ".join(f"{label}: {files}" for label, files in rows)
    return (
        f"{MARK} Recorded with files that are not in the repository. A run with another file has another run id, so a machine "
        f"that has others keeps the recorded run. {named}."
    )
