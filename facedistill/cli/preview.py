"""`facedistill data preview`: a sheet of the faces that a configuration shows to student and teacher."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from facedistill.cli.arguments import parser_with_examples, positive
from facedistill.config import compose, signature
from facedistill.config.trust import find_class
from facedistill.config.validate import validate_groups
from facedistill.data.augment import Augment
from facedistill.data.augmentation import PhotoAugment
from facedistill.data.augmentation.examples import effect_examples
from facedistill.errors import ConfigError
from facedistill.reporting.face_sheet import Line, draw_face_sheet, picture_kind, write_picture
from facedistill.runs.frozen_networks import load_generator, load_teacher
from facedistill.runs.inputs import trains_on_generated_faces
from facedistill.runs.sources import build_source, instantiate, open_set
from facedistill.system.devices import default_device
from facedistill.system.paths import config_dir

_EXAMPLES = """\
examples:
  facedistill data preview experiment=demo augment=photo
  facedistill data preview data=folder data.path=faces augment=photo_strong --out faces.png
  facedistill data preview augment=photo --effects --out effects.png
"""
_PLAIN = {"augment": None, "balanced": None, "decoded_cache": False, "replay": 0}
_EFFECT_BLOCKS = 3


def main(arguments: Sequence[str]) -> int:
    """Draws the sheet.

    Returns:
        0.

    Raises:
        UserError: If a setting is wrong, the faces cannot be read, or the picture cannot be written.
    """
    options = _parser().parse_intermixed_args(list(arguments))
    picture_kind(options.out)
    if options.step < 0:
        raise ConfigError(f"--step {options.step}: must be 0 or more")
    config = compose("train", options.overrides)
    validate_groups(config, ("data", "generator", "teacher", "seed"))
    node = OmegaConf.select(config, "data.source.augment")
    augment = None if node is None else instantiate(node)
    preset = preset_name(node)
    if options.effects and not isinstance(augment, PhotoAugment):
        raise ConfigError(
            f"--effects: shows the effects of augment=photo or photo_strong, and not of {preset}"
        )
    if options.effects:
        title, blocks = f"effects of {preset}, each alone, weak to strong", _EFFECT_BLOCKS
        assert isinstance(augment, PhotoAugment)
        lines = [Line(*one) for one in effect_examples(augment, clean_faces(config, options.faces)[-1])]
    else:
        title, blocks = f"augment {preset}, {_faces_of(config)}, seed {config.seed}", 1
        lines = sheet_lines(
            clean_faces(config, options.faces), augment, config.seed, options.step, options.draws
        )
    write_picture(options.out, draw_face_sheet(title, lines, blocks=blocks))
    print(f"{title}: {options.out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = parser_with_examples(
        "data preview",
        "Draw the first faces of a configuration, clean and as augmented in several steps.",
        _EXAMPLES,
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="of training: data=…, augment=…, seed=…"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("preview.png"), metavar="FILE", help=".png or .jpg; preview.png"
    )
    parser.add_argument("--faces", type=positive, default=8, help="faces in a line (8)")
    parser.add_argument("--draws", type=positive, default=4, help="lines of augmented faces (4)")
    parser.add_argument("--step", type=int, default=0, help="of the first of them (0)")
    parser.add_argument(
        "--effects",
        action="store_true",
        help="draw each effect alone, weak to strong, on the last of the faces",
    )
    return parser


def sheet_lines(faces: Tensor, augment: Augment | None, seed: int, step: int, draws: int) -> list[Line]:
    """The clean faces (n, 3, 112, 112), then the same as augmented in `draws` steps from `step` on."""
    lines = [Line("clean", faces)]
    if augment is not None:
        samples = torch.arange(len(faces))
        lines += [
            Line(f"step {n}", augment(faces, seed=seed, step=n, samples=samples))
            for n in range(step, step + draws)
        ]
    return lines


@torch.no_grad()
def clean_faces(config: DictConfig, count: int) -> Tensor:
    """(count, 3, 112, 112) in [-1, 1]: the first faces of the configuration's first step, not augmented."""
    plain = config.copy()
    OmegaConf.set_struct(plain, False)
    for key, value in _PLAIN.items():
        if key in plain.data.source:
            plain.data.source[key] = value
    plain.data.teacher_cache = False
    for network in (plain.generator.network, plain.teacher):
        if "compile" in network:
            network.compile = False  # takes longer than a few faces
    device = default_device()
    faces = open_set(config)
    synthetic = OmegaConf.select(config, "data.synthetic") is not None
    asks_teacher = synthetic or "teacher" in signature.accepted(find_class(config.data.source._target_))
    source = build_source(
        plain,
        load_generator(plain).to(device) if trains_on_generated_faces(config) else None,
        load_teacher(plain).to(device) if asks_teacher else None,
        faces,
    )
    raw: dict[str, Any] = source.raw(0, batch_size=count)
    moved = {key: value.to(device) if isinstance(value, Tensor) else value for key, value in raw.items()}
    return source.finish(moved).images.cpu()


def preset_name(node: DictConfig | None) -> str:
    """The name of the preset in `conf/augment` with the values of `data.source.augment`.

    >>> preset_name(None)
    'none'
    """
    if node is None:
        return "none"
    values = OmegaConf.to_container(node, resolve=True)
    for file in sorted((config_dir() / "augment").glob("*.yaml")):
        if values == OmegaConf.to_container(compose("train", [f"augment={file.stem}"]).data.source.augment):
            return file.stem
    return "with values of its own"


def _faces_of(config: DictConfig) -> str:
    if trains_on_generated_faces(config):
        return f"faces of {OmegaConf.select(config, 'generator.asset') or config.generator.name}"
    return f"faces of {Path(config.data.path).name}"
