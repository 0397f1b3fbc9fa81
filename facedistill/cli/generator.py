"""`facedistill generator convert | preview | directions`: converts generators, previews and turns what they render."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from facedistill.cli.arguments import positive
from facedistill.errors import ConfigError
from facedistill.system.files import write_atomically

if TYPE_CHECKING:
    from facedistill.models.generators import FrozenGenerator
    from facedistill.models.generators.directions import Directions
    from facedistill.models.generators.stylegan_generator import NoiseMode
    from facedistill.reporting.face_sheet import Line
    from facedistill.reporting.generator_sheet import Row

_TURNS = (-45, -30, -15, 0, 15, 30, 45)
_TURNED_FACES = 32
_STEPS = (0.25, 0.5, 0.75, 1.0)
"""Coefficients c of the variations; in training c = (cos(student, teacher) + 1) / 2."""


def main(arguments: Sequence[str]) -> int:
    """Runs `facedistill generator …`.

    Raises:
        UserError: If a file is no generator, a setting is wrong, or nothing can be written.
    """
    options = _parser().parse_args(list(arguments))
    return int(options.run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="facedistill generator", description="Generators of your own, and a look at any."
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    once = verbs.add_parser(
        "convert",
        help="turn a StyleGAN2, StyleGAN2-ADA or StyleGAN3 file into weights and the yaml that names them",
    )
    once.add_argument("file", metavar="FILE", help="NVlabs' .pkl (G_ema) or rosinality's .pt (g_ema)")
    once.add_argument("--out", required=True, metavar="DIR", help="where weights, asset/ and generator/ go")
    once.add_argument("--name", help="the generator's name; from the file's when left out")
    once.add_argument(
        "--licence", default="not stated by its owner", help="shown at first use and in every report"
    )
    once.set_defaults(run=_convert)
    look = verbs.add_parser("preview", help="draw native faces, their crops and their variations")
    look.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="of training: generator=…, data.source.spread=…"
    )
    look.add_argument("--out", default="generator.png", metavar="FILE", help="the picture; generator.png")
    look.add_argument("--faces", type=int, default=6, help="rows")
    look.add_argument("--seed", type=int, default=0, help="of the latents")
    look.set_defaults(run=_preview)
    turn = verbs.add_parser(
        "directions", help="estimate once what turns a generator's faces, for data.source.yaw"
    )
    turn.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of training: generator=…")
    turn.add_argument("--renders", type=positive, default=1500, help="faces to render (1500)")
    turn.add_argument("--out", metavar="FILE", help="a picture of turned faces, .png or .jpg")
    turn.set_defaults(run=_directions)
    return parser


def _convert(options: argparse.Namespace) -> int:
    file, out = (Path(path).expanduser().absolute() for path in (options.file, options.out))
    name = options.name or re.sub(r"[^a-z0-9_.]+", "-", file.stem.lower()).strip("-._")
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", name):
        raise ConfigError(f"--name {name}: use lower-case letters, digits, '_', '-' and '.'")
    if not file.is_file():
        raise ConfigError(f"{options.file}: does not exist; give the path of a generator's file")
    import yaml

    from facedistill.assets.archive import sha256_of
    from facedistill.assets.card import MEBI
    from facedistill.models.generators.stylegan_conversion import convert
    from facedistill.models.generators.stylegan_generator import StyleGANGenerator
    from facedistill.models.weights import write_weights

    print(f"{file.name}: sha256 {sha256_of(file)}")
    weights = out / f"{name}.safetensors"
    write_weights(weights, convert({file.name: file}), {"origin": file.name, "licence": options.licence})
    noise: NoiseMode = "none" if _is_stylegan3(weights) else "const"
    generator = StyleGANGenerator(weights, noise=noise)
    params = sum(parameter.numel() for parameter in generator.parameters())
    kind = type(generator.synthesis).__name__
    print(
        f"{kind} at {generator.native_size} px, {params / 1e6:.1f} M parameters, w of {generator.latent_dim} for "
        f"{generator.num_styles} rows"
    )
    asset = {
        "name": name,
        "source": "file",
        "file": f"../{weights.name}",
        "members": [{"path": weights.name, "sha256": sha256_of(weights)}],
        "licence": options.licence,
        "origin": f"{kind} at {generator.native_size} px, converted from the user's own file {file.name}",
        "size_mb": round(max(0.1, weights.stat().st_size / MEBI), 1),
    }
    settings = {
        "_target_": "facedistill.models.generators.StyleGANGenerator",
        "crop": "paper",
        "truncation_psi": 1.0,
        "noise": noise,
        "precision": "fp32",
        "compile": False,
        "micro_batch": None,
    }
    card = out / "asset" / f"{name}.yaml"
    for path, content in (
        (card, asset),
        (out / "generator" / f"{name}.yaml", {"asset": str(card), "network": settings}),
    ):
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        write_atomically(path, text)
        print(path)
    print(f"look at it: facedistill generator preview 'hydra.searchpath=[file://{out}]' generator={name}")
    print(f"use it: facedistill train 'hydra.searchpath=[file://{out}]' generator={name} …")
    return 0


def _is_stylegan3(weights: Path) -> bool:
    from safetensors import safe_open

    with safe_open(weights, framework="pt") as file:
        return "synthesis.layout" in file.keys()  # noqa: SIM118


def _preview(options: argparse.Namespace) -> int:
    if options.faces < 1:
        raise ConfigError(f"--faces {options.faces}: must be at least 1")
    import torch
    from omegaconf import OmegaConf

    from facedistill.config import compose
    from facedistill.reporting.generator_sheet import draw_sheet
    from facedistill.runs.frozen_networks import load_generator
    from facedistill.system.devices import default_device

    config = compose("train", options.overrides)
    spread = OmegaConf.select(config, "data.source.spread") or "covariance"
    rho = OmegaConf.select(config, "data.source.rho")
    rho = 1.0 if rho is None else rho
    generator = load_generator(config).to(default_device())
    with torch.no_grad():
        rows = render_rows(generator, options.faces, options.seed, spread, rho)
    steps = [f"{spread}, c·rho = {step * rho:g}" for step in _STEPS]
    crop = OmegaConf.select(config, "generator.network.crop") or ""
    captions = [f"native, {generator.native_size} px", f"crop {crop}, 112 px", *steps]
    path = Path(options.out).expanduser()
    write_atomically(path, lambda partial: draw_sheet(captions, rows).save(partial, format="PNG"))
    print(
        f"{options.faces} faces of {OmegaConf.select(config, 'generator.asset') or config.generator.name}: {path}"
    )
    return 0


def _directions(options: argparse.Namespace) -> int:
    import torch

    from facedistill.assets import obtain
    from facedistill.assets.own_file import card_of
    from facedistill.config import compose
    from facedistill.config.validate import validate_groups
    from facedistill.models.detectors.scrfd import Scrfd
    from facedistill.models.generators.directions import estimate_directions, measured_yaw, write_directions
    from facedistill.reporting.face_sheet import draw_face_sheet, picture_kind, write_picture
    from facedistill.runs.frozen_networks import load_generator
    from facedistill.runs.sources import directions_path
    from facedistill.system.devices import default_device

    picture = Path(options.out).expanduser() if options.out else None
    if picture is not None:
        picture_kind(picture)
    config = compose("train", options.overrides)
    validate_groups(config, ("generator",))
    path = directions_path(card_of(config.generator, "generator"))
    device = default_device()
    generator = load_generator(config).to(device)
    detector = Scrfd(obtain("scrfd_500m"))
    found = estimate_directions(generator, detector, renders=options.renders)
    write_directions(path, found, generator)
    print(
        f"{found.renders} faces, {100 * found.detected:.1f} % found; five-fold R2 of yaw {found.r2[0]:.2f}, of pitch "
        f"{found.r2[1]:.2f}: {path}"
    )
    measured = measured_yaw(generator, detector, found.yaw, _TURNS, faces=min(_TURNED_FACES, options.renders))
    for degrees, (change, seen) in zip(_TURNS, measured, strict=True):
        print(f"  {degrees:+} degrees: measured {change:+.0f}, {100 * seen:.0f} % found")
    if picture is not None:
        with torch.no_grad():
            rows = turned_rows(generator, found, _TURNS)
        write_picture(picture, draw_face_sheet("turned by the yaw direction, degrees", rows))
        print(f"picture: {picture}")
    print("use it: facedistill train data.source.yaw=45 …")
    return 0


def turned_rows(generator: FrozenGenerator, directions: Directions, turns: Sequence[float]) -> list[Line]:
    """Eight faces in a line for each angle of yaw, in degrees."""
    import torch

    from facedistill.models.latents import draw_latents
    from facedistill.reporting.face_sheet import Line

    z = draw_latents(0, "preview/z", torch.arange(8), generator.latent_dim).to(generator.mean_w)
    w, step = generator.map(z), directions.yaw.to(generator.mean_w)
    return [Line(f"{angle:+}", generator.render(w + angle * step)) for angle in turns]


def render_rows(generator: FrozenGenerator, count: int, seed: int, spread: str, rho: float) -> list[Row]:
    """A few faces, native and cropped, and their variations of increasing size, one noise direction each."""
    import torch

    from facedistill.models.generators import resample
    from facedistill.models.latents import draw_latents
    from facedistill.reporting.generator_sheet import Row

    shown = torch.arange(count)
    z, noise = (
        draw_latents(seed, f"preview/{name}", shown, generator.latent_dim).to(generator.mean_w)
        for name in ("z", "noise")
    )
    w = generator.map(z)
    styles = [
        resample(generator, w, z, torch.full((count,), step).to(w), noise, spread=spread, rho=rho)  # type: ignore[arg-type]
        for step in _STEPS
    ]
    native, crops, *varied = (t.cpu() for t in (generator.native(w), *map(generator.render, [w, *styles])))
    return [Row(native[n], crops[n], [variation[n] for variation in varied]) for n in range(count)]
