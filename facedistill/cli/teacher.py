"""`facedistill teacher`: adds a file (recognizes it, finds its input spec, checks it) or converts a pickle."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from facedistill.cli.evaluate import main as evaluate
from facedistill.errors import ConfigError
from facedistill.system.files import write_atomically
from facedistill.types import InputSpec

if TYPE_CHECKING:
    from facedistill.metrics.decidability import Decidability
    from facedistill.models.teachers.recognize import Family


def main(arguments: Sequence[str]) -> int:
    """Runs `facedistill teacher add …` or `facedistill teacher convert …`.

    Raises:
        UserError: If the file is no teacher, or the faces do not tell two input specs apart and nothing else does.
    """
    options = _parser().parse_args(list(arguments))
    return int(options.verb(options))


def _add(options: argparse.Namespace) -> int:
    import yaml

    from facedistill.assets.archive import sha256_of
    from facedistill.assets.card_reader import available_cards, read_card
    from facedistill.models.teachers.golden import golden_of
    from facedistill.models.teachers.recognize import recognize
    from facedistill.runs.new_teacher import choose, loaded, measure, probe_faces, propose

    file = Path(options.file).expanduser().absolute()
    name = options.name or re.sub(r"[^a-z0-9_]+", "_", file.stem.lower()).strip("_")
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", name):
        raise ConfigError(f"--name {name}: use lower-case letters, digits, '_', '-' and '.'")
    family = recognize(file, options.timm, options.trust)
    sha256 = sha256_of(file)
    print(f"{file.name}: {family.title}; sha256 {sha256}")
    for known in (
        card for card in map(read_card, available_cards()) if sha256 in {m.sha256 for m in card.members}
    ):
        print(f"these are the weights of the asset {known.name}: {known.licence}")
    with loaded(family, file) as teacher:
        measured = measure(teacher, family, probe_faces(options.identities, options.quiet))
        _show(measured, family)
        teacher.input_spec = choose(measured, family, _given(options, family))
        golden = golden_of(teacher)
    teacher_yaml, asset = propose(name, file, sha256, family, teacher.input_spec, options.licence, golden)
    for kind, content in (("asset", asset), ("teacher", teacher_yaml)):
        path = Path(options.out).expanduser().absolute() / kind / f"{name}.yaml"
        text = yaml.safe_dump(content | _asset_path(content, path, name), sort_keys=False, allow_unicode=True)
        write_atomically(path, text)
        print(path)
    folder = f"hydra.searchpath=[file://{path.parent.parent}]"
    print(f"use it: facedistill train '{folder}' teacher={name} …")
    if not options.no_lfw:
        _on_lfw(name, folder)
    return 0


def _on_lfw(name: str, folder: str) -> None:
    """Evaluates the teacher on LFW if its faces are found, else prints where they were looked for."""
    from facedistill.config import compose
    from facedistill.runs.protocols import open_configured_protocols

    overrides = [folder, "evaluation.protocols=[lfw]"]
    found, absent = open_configured_protocols(compose("train", [f"teacher={name}", *overrides]))
    if found:
        evaluate([name, *overrides])
    else:
        print(*(item.reason for item in absent), sep="\n")


def _convert(options: argparse.Namespace) -> int:
    from facedistill.assets.pickle.convert import convert_pickled
    from facedistill.models.teachers.checkpoint import refuse_web_page
    from facedistill.models.weights import read_weights

    file, target = (Path(path).expanduser().absolute() for path in (options.file, options.out))
    if target.suffix != ".safetensors":
        raise ConfigError(f"--out {options.out}: name a file that ends in .safetensors")
    if not file.is_file():
        raise ConfigError(f"{options.file}: there is no such file")
    refuse_web_page(file)
    left_out: list[str] = []
    write_atomically(target, lambda partial: left_out.extend(convert_pickled(file, partial)))
    tensors = read_weights(target)[0]
    print(f"{target}: {len(tensors)} tensors, {sum(t.numel() for t in tensors.values()):,} numbers")
    if left_out:
        print(f"left out, and never run: {', '.join(left_out)}")
    print(f"next: facedistill teacher add {target} --out FOLDER")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="facedistill teacher", description="Teachers of your own.")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    add = verbs.add_parser("add", help="recognize a file, check its input spec, and write its two yaml files")
    add.set_defaults(verb=_add)
    add.add_argument("file", metavar="FILE", help="a checkpoint, a graph, a program or a student of ours")
    add.add_argument(
        "--out", required=True, metavar="FOLDER", help="where asset/NAME.yaml and teacher/NAME.yaml go"
    )
    add.add_argument("--name", help="the teacher's name; from the file's when left out")
    add.add_argument(
        "--licence", default="not stated by its owner", help="shown at first use and in every report"
    )
    add.add_argument("--color", choices=("RGB", "BGR"), help="decides where the probe faces cannot")
    add.add_argument("--mean", type=float, help="on 0..255; with --std")
    add.add_argument("--std", type=float, help="on 0..255; with --mean")
    add.add_argument(
        "--identities", type=int, default=20, help="probe faces: two each; a multiple of 10 from 20"
    )
    add.add_argument("--timm", metavar="NAME", help="the file holds weights of this network of timm")
    add.add_argument("--trust", action="store_true", help="let a TorchScript or torch.export program run")
    add.add_argument(
        "--no-lfw", action="store_true", help="skip the evaluation on LFW, which takes minutes on a CPU"
    )
    add.add_argument("--quiet", action="store_true", help="no progress")
    convert = verbs.add_parser(
        "convert",
        help="take the tensors out of a pickle of others, in a process of its own, running nothing of it",
    )
    convert.set_defaults(verb=_convert)
    convert.add_argument(
        "file", metavar="FILE", help="a pickled module, or a checkpoint with objects besides tensors"
    )
    convert.add_argument("--out", required=True, metavar="FILE.safetensors", help="where the tensors go")
    return parser


def _asset_path(content: dict[str, Any], path: Path, name: str) -> dict[str, str]:
    """A teacher of one's own names its asset card by its path."""
    return {"asset": str(path.parent.parent / "asset" / f"{name}.yaml")} if "asset" in content else {}


def _given(options: argparse.Namespace, family: Family) -> InputSpec | None:
    given = (options.color, options.mean, options.std)
    if given == (None, None, None):
        return None
    if None in given or not options.std > 0:
        raise ConfigError("--color, --mean and --std: give all three, and std above 0")
    return replace(InputSpec(*(family.size_px, *given)))


def _show(measured: dict[InputSpec, Decidability], family: Family) -> None:
    from facedistill.metrics.decidability import tied

    best = next(iter(measured.values()))
    table = Table("color", "mean", "std", "genuine", "impostor", "d-prime", "AUC", "")
    for spec, found in measured.items():
        notes = ["best" if found is best else "ties with the best" if tied(best, found) else ""]
        notes += ["its makers' own"] if spec == family.input_spec else []
        figures = (
            f"{found.genuine:.3f}",
            f"{found.impostor:.3f}",
            f"{found.d_prime:.2f}",
            f"{found.auc:.4f}",
        )
        table.add_row(spec.color, f"{spec.mean:g}", f"{spec.std:g}", *figures, ", ".join(filter(None, notes)))
    Console(width=110).print(table)
