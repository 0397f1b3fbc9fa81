"""What a teacher of the user's own needs to be added: its input spec, found on probe faces, and its two yaml files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facedistill.assets import cache_dir
from facedistill.assets.card import MEBI
from facedistill.config import compose
from facedistill.errors import ConfigError
from facedistill.evaluation.generated_pairs import GeneratedPairs, make_generated_pairs
from facedistill.images import to_float
from facedistill.metrics.decidability import Decidability, decidability, tied
from facedistill.models.backbones.mobilefacenet import MobileFaceNet
from facedistill.models.teachers.frozen import FrozenTeacher
from facedistill.models.teachers.recognize import Family
from facedistill.models.weights import read_weights, write_weights
from facedistill.runs.frozen_networks import load_generator, load_teacher
from facedistill.types import InputSpec

SCALES = ((127.5, 127.5), (127.5, 128.0), (0.0, 255.0), (0.0, 1.0))
"""Mean and std on 0..255 that published recognizers are fed with."""
LEAST_D_PRIME = 3.5  # random weights reach 3.3, published recognizers 4.1 and more: docs/teachers.md
_BATCH = 10


def probe_faces(identities: int, quiet: bool = False) -> tuple[Tensor, Tensor]:
    """Base faces and variations, each uint8 (K, 3, 112, 112), rendered once into the cache."""
    config = compose("train", [])
    pairs = config.evaluation.generated_pairs
    settings = GeneratedPairs(identities, pairs.seed, pairs.spread, pairs.min_teacher_cosine)
    path = make_generated_pairs(
        load_generator(config), load_teacher(config), cache_dir(), settings, quiet=quiet
    )
    arrays = read_weights(path)[0]
    return arrays["base"], arrays["variation"]


@contextmanager
def loaded(family: Family, file: Path) -> Iterator[FrozenTeacher]:
    """The file as a frozen teacher, with its family's input spec, or else the package's default."""
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.safetensors"
        write_weights(weights, family.convert({file.name: file}), {})
        spec = family.input_spec or InputSpec(family.size_px)
        yield FrozenTeacher(family.network(**family.arguments), weights, spec)


def measure(
    teacher: FrozenTeacher, family: Family, faces: tuple[Tensor, Tensor]
) -> dict[InputSpec, Decidability]:
    """The decidability under every plausible input spec, best first; the teacher keeps the last that was tried."""
    own = family.input_spec
    specs = [InputSpec(family.size_px, color, *scale) for color in ("RGB", "BGR") for scale in SCALES]
    specs += [own] if own is not None and own not in specs else []
    found = {}
    for spec in specs:
        teacher.input_spec = spec
        found[spec] = decidability(*(_embed(teacher, group) for group in faces))
    return dict(sorted(found.items(), key=lambda item: -item[1].d_prime))


def choose(
    measured: dict[InputSpec, Decidability], family: Family, given: InputSpec | None = None
) -> InputSpec:
    """The input spec to write: what the user says, else what the family uses if nothing beats it, else the only best.

    Args:
        measured: Best first.
        family: May know its own input spec.
        given: The user's word.

    Raises:
        ConfigError: If the faces do not single one out, contradict the family, or are not separated at all.
    """
    best = next(iter(measured))
    if given is not None:
        return given
    if measured[best].d_prime < LEAST_D_PRIME:
        raise ConfigError(
            f"{family.title}: however it is fed, it tells the probe faces apart no better than random weights do "
            f"(d-prime {measured[best].d_prime:.1f}, {LEAST_D_PRIME} is the least); it is no recognizer of aligned "
            f"faces, or say how it is fed, for example {_flags(best)}"
        )
    among = [spec for spec in measured if spec == best or tied(measured[best], measured[spec])]
    if family.input_spec in among:
        return family.input_spec
    if family.input_spec is not None:
        raise ConfigError(
            f"{_words(best)} tells people apart better than {_words(family.input_spec)}, which {family.title} is made "
            f"for; say which with {_flags(best)} or {_flags(family.input_spec)}"
        )
    if len(among) > 1:
        raise ConfigError(
            f"the probe faces cannot tell {' from '.join(map(_words, among))}; say which, for example {_flags(best)}"
        )
    return best


def propose(
    name: str,
    file: Path,
    sha256: str,
    family: Family,
    spec: InputSpec,
    licence: str,
    golden: list[list[float]],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The contents of `teacher/NAME.yaml` and `asset/NAME.yaml`."""
    convert = f"{family.convert.__module__}.{family.convert.__name__}"
    home = "backbones" if family.network is MobileFaceNet else "teachers"
    target = f"facedistill.models.{home}.{family.network.__name__}"
    teacher = {
        "asset": name,
        "embedding_dim": family.embedding_dim,
        "network": {"_target_": target, **family.arguments},
        "input_spec": asdict(spec),
        "precision": "fp32",
        "compile": False,
        "card": {"flip": "none", "classifier": family.classifier, "accuracy": None, "golden": golden},
    }
    asset = {
        "name": name,
        "source": "file",
        "file": str(file),
        "members": [{"path": file.name, "sha256": sha256}],
        "licence": licence,
        "origin": family.title,
        "size_mb": round(max(0.1, file.stat().st_size / MEBI), 1),
        "convert": convert,
    }
    return teacher, asset


def _embed(teacher: FrozenTeacher, faces: Tensor) -> Tensor:
    return torch.cat([teacher(to_float(part)) for part in faces.split(_BATCH)])


def _words(spec: InputSpec) -> str:
    return f"{spec.color} (x - {spec.mean:g}) / {spec.std:g}"


def _flags(spec: InputSpec) -> str:
    return f"--color {spec.color} --mean {spec.mean:g} --std {spec.std:g}"
