"""Writes w600k_mbf.json: what the pocket teacher says about drawn faces. Run it only if the drawings change.

python tests/golden/make_w600k_mbf.py
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from facedistill.assets import obtain
from facedistill.models.teachers import ArcFaceMobileFaceNet, FrozenTeacher
from facedistill.models.teachers.golden import draw_faces
from facedistill.types import InputSpec

HERE = Path(__file__).parent


def main() -> None:
    """Embeds four drawn faces."""
    teacher = FrozenTeacher(ArcFaceMobileFaceNet(), obtain("w600k_mbf"), InputSpec())
    embeddings = teacher(draw_faces(4))
    unit = torch.nn.functional.normalize(embeddings)
    golden = {
        "fingerprint": teacher.fingerprint,
        "norm": [round(value, 4) for value in embeddings.norm(dim=1).tolist()],
        "leading": [[round(value, 5) for value in row] for row in embeddings[:, :8].tolist()],
        "cosine": [[round(value, 5) for value in row] for row in (unit @ unit.T).tolist()],
    }
    (HERE / "w600k_mbf.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
