"""`facedistill generate OUT`: labelled faces of people who do not exist, rendered once to tar shards."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from facedistill.data.formats.face_set import FaceSet
    from facedistill.data.generation.synthetic_set import MadeSet
    from facedistill.models.synthetic_identities import SyntheticIdentities

_ROWS, _COLUMNS = 10, 8


def main(arguments: Sequence[str]) -> int:
    """Renders the set, or finds it, and says how well the teacher separates it.

    Returns:
        0.

    Raises:
        UserError: If a setting is wrong, OUT holds another set, or it cannot be written.
    """
    parser = argparse.ArgumentParser(
        prog="facedistill generate",
        description="Render labelled synthetic identities to tar shards in the folder OUT, for data=webdataset "
        "data.path=OUT. An interrupted generation goes on with the same command.",
    )
    parser.add_argument(
        "out", type=Path, metavar="OUT", help="folder to make; a picture OUT.png is written next to it"
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="of conf/generate.yaml, for instance synthetic.identities=1000 images_per_identity=10",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")
    options = parser.parse_intermixed_args(list(arguments))
    from facedistill.config import compose
    from facedistill.config.numbers import demand_numbers
    from facedistill.data.formats.open import open_faces
    from facedistill.models.synthetic_identities import SyntheticIdentities

    config = compose("generate", options.overrides)
    demand_numbers(config)
    settings = SyntheticIdentities(**config.synthetic)
    start = time.monotonic()
    made = _make(config, settings, options.out, options.quiet)
    faces = open_faces(made.folder)
    sheet = _picture(faces, settings.identities, config.images_per_identity, made.folder)
    _tell(made, len(faces), settings.identities, time.monotonic() - start, sheet)
    return 0


def _make(config: DictConfig, settings: SyntheticIdentities, out: Path, quiet: bool) -> MadeSet:
    import torch

    from facedistill.assets import licence_record
    from facedistill.assets.own_file import card_of
    from facedistill.data.generation.synthetic_set import make_synthetic_set
    from facedistill.runs.assembly import load_generator, load_teacher

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cards = [card_of(config.generator, "generator"), card_of(config.teacher, "teacher")]
    assets = {"generator_asset": cards[0].name, "teacher_asset": cards[1].name}
    licences = [licence_record(card) for card in cards]
    return make_synthetic_set(
        load_generator(config).to(device),
        load_teacher(config).to(device),
        out,
        settings,
        config.images_per_identity,
        quality=config.quality,
        per_shard=config.per_shard,
        facts={**assets, "licences": licences},
        quiet=quiet,
    )


def _picture(faces: FaceSet, identities: int, images_per_identity: int, folder: Path) -> Path:
    """The first images of identities spread over the set, one identity per row."""
    import torch

    from facedistill.data.image_rows import write_rows
    from facedistill.images import decode_face

    shown = torch.linspace(0, identities - 1, min(identities, _ROWS)).long().tolist()
    rows = []
    for k in shown:
        numbers = range(k * images_per_identity, k * images_per_identity + min(images_per_identity, _COLUMNS))
        rows.append([decode_face(faces.encoded(number), faces.where(number)) for number in numbers])
    return write_rows(folder.with_name(f"{folder.name}.png"), rows)


def _tell(made: MadeSet, images: int, identities: int, seconds: float, sheet: Path) -> None:
    from facedistill.data.generation.separation import Separation

    meta: dict[str, Any] = dict(made.meta)
    separation = Separation(**{name: meta[name] for name in Separation.__dataclass_fields__})
    state = f"rendered in {seconds:.0f} s" if made.is_new else "there already"
    print(f"{images} images of {identities} identities in {made.folder}, {state}; picture {sheet}")
    replaced = meta["replaced_identities"]
    print(f"the teacher says: {separation.sentence()}; {replaced} latents replaced as too near to another")
    for licence in meta["licences"]:
        print(f"licence of {licence['asset']}: {licence['licence']}")
    print(f"train on it: facedistill train data=webdataset data.path={json.dumps(str(made.folder))}")
