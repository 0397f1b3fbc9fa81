"""`facedistill generate OUT`: labeled faces of people who do not exist, rendered once to tar shards."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facedistill.cli.arguments import parser_with_examples
from facedistill.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from facedistill.data.generation.synthetic_set import MadeSet
    from facedistill.models.synthetic_identities import SyntheticIdentities

_ROWS, _COLUMNS = 10, 8


_EXAMPLES = """\
examples:
  facedistill generate faces synthetic.identities=1000 images_per_identity=10
  facedistill generate faces --shard 0/8 synthetic.identities=100000
  facedistill generate --to s3://bucket/faces --shard 0/8 synthetic.identities=100000

A SLURM array of 100 jobs, one GPU each, that make one set together:
  sbatch --array=0-99 --gpus=1 --wrap 'facedistill generate --to s3://bucket/faces \\
      --shard $SLURM_ARRAY_TASK_ID/100 synthetic.identities=1000000'
"""


def main(arguments: Sequence[str]) -> int:
    """Renders the set or a share of it, or finds it, and says how well the teacher separates it.

    Returns:
        0.

    Raises:
        UserError: If a setting is wrong, OUT holds another set, or it cannot be written.
    """
    parser = parser_with_examples(
        "generate",
        "Render labeled synthetic identities to tar shards in the folder OUT, for data=webdataset data.path=OUT. The "
        "same command continues an interrupted generation.",
        _EXAMPLES,
        usage="facedistill generate (OUT | --to ADDRESS) [--shard I/N] [--quiet] [KEY=VALUE ...]",
    )
    parser.add_argument(
        "out", nargs="?", metavar="OUT", help="folder to make; a picture OUT.png is written next to it"
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="of conf/generate.yaml, for instance synthetic.identities=1000 images_per_identity=10",
    )
    parser.add_argument(
        "--to", metavar="ADDRESS", help="instead of OUT: an fsspec address such as s3://bucket/faces"
    )
    parser.add_argument(
        "--shard",
        metavar="I/N",
        help="render only shards I, I + N, I + 2N, … of the set, I from 0 to N - 1; N machines make it together",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")
    options = parser.parse_intermixed_args(list(arguments))
    out, overrides = _place(options.to, options.out, options.overrides)
    share = None if options.shard is None else _share(options.shard)
    from facedistill.config import compose
    from facedistill.config.numbers import demand_numbers
    from facedistill.models.synthetic_identities import SyntheticIdentities

    config = compose("generate", overrides)
    demand_numbers(config)
    settings = SyntheticIdentities(**config.synthetic)
    start = time.monotonic()
    made = _make(config, settings, out, share, options.quiet)
    if made.missing:
        done = "rendered" if made.is_new else "there already"
        print(
            f"{made.folder}: this share is {done}; {made.missing} shard(s) of the others are missing; the last job to finish "
            "completes the set"
        )
        return 0
    _tell(
        made, config.images_per_identity * settings.identities, settings.identities, time.monotonic() - start
    )
    if isinstance(made.folder, Path):
        print(f"picture {_picture(made.folder, settings.identities, config.images_per_identity)}")
    print(f"train on it: facedistill train data=webdataset data.path={json.dumps(str(made.folder))}")
    return 0


def _place(to: str | None, out: str | None, overrides: list[str]) -> tuple[Path | str, list[str]]:
    """Where the set shall be, and the overrides; with --to, what stands in the place of OUT is one of them."""
    from facedistill.system.store import is_remote

    if out is not None and "=" in out and not is_remote(out):
        overrides, out = [out, *overrides], None
    if out is None and to is None:
        raise UserError(
            "generate: name the folder to make, as `facedistill generate OUT …`, or an address with --to"
        )
    if out is not None and to is not None:
        raise UserError(f"generate: both {out} and --to {to} say where to write; give one of them")
    place = to or out
    assert place is not None
    return place if is_remote(place) else Path(place), overrides


def _share(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if found is None or not int(found[1]) < int(found[2]):
        raise UserError(f"--shard {text}: must be I/N with I from 0 to N - 1, such as 0/8")
    return int(found[1]), int(found[2])


def _make(
    config: DictConfig,
    settings: SyntheticIdentities,
    out: Path | str,
    share: tuple[int, int] | None,
    quiet: bool,
) -> MadeSet:
    from facedistill.assets import licence_record
    from facedistill.assets.own_file import card_of
    from facedistill.data.generation.synthetic_set import make_synthetic_set
    from facedistill.runs.frozen_networks import load_generator, load_teacher
    from facedistill.system.devices import default_device

    device = default_device()
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
        share=share,
        facts={**assets, "licences": licences},
        quiet=quiet,
    )


def _picture(folder: Path, identities: int, images_per_identity: int) -> Path:
    """The first images of identities spread over the set, one identity per row."""
    import torch

    from facedistill.data.formats.open import open_faces
    from facedistill.data.image_rows import write_rows
    from facedistill.images import decode_face

    faces = open_faces(folder)
    shown = torch.linspace(0, identities - 1, min(identities, _ROWS)).long().tolist()
    rows = []
    for k in shown:
        numbers = range(k * images_per_identity, k * images_per_identity + min(images_per_identity, _COLUMNS))
        rows.append([decode_face(faces.encoded(number), faces.where(number)) for number in numbers])
    return write_rows(folder.with_name(f"{folder.name}.png"), rows)


def _tell(made: MadeSet, images: int, identities: int, seconds: float) -> None:
    from facedistill.data.generation.separation import Separation

    meta: dict[str, Any] = dict(made.meta)
    separation = Separation(**{name: meta[name] for name in Separation.__dataclass_fields__})
    state = f"rendered in {seconds:.0f} s" if made.is_new else "there already"
    print(f"{images} images of {identities} identities in {made.folder}, {state}")
    replaced = meta["replaced_identities"]
    print(f"the teacher says: {separation.sentence()}; {replaced} latents replaced as too near to another")
    for licence in meta["licences"]:
        print(f"licence of {licence['asset']}: {licence['licence']}")
