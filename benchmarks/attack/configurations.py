"""Configurations that name code, or stand for a billion values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attempts import Attempts, run, with_text
from omegaconf import OmegaConf

from facedistill.config import compose

GADGETS: tuple[dict[str, Any], ...] = (
    {"_target_": "os.system", "command": "touch executed"},
    {"_target_": "evil.Thin"},
    {"_target_": "shutil.copyfile", "src": "evil.py", "dst": "executed"},
    {"_target_": "builtins.exec", "_args_": ["open('executed', 'w')"]},
    {"_target_": "hydra.utils.get_method", "path": "evil.Thin"},
    {"_target_": "functools.partial", "_args_": ["os.system"], "_partial_": True},
    {"_target_": "facedistill.sweeps.launchers.guard.main", "command": ["touch", "executed"]},
    {"_target_": "facedistill.system.files.write_atomically", "path": "executed", "content": "x"},
    {"_target_": "facedistill.losses.embedding.torch.hub.load", "repo_or_dir": ".", "source": "local"},
    {"_target_": "facedistill.methods.kd.KD.load_from_checkpoint", "checkpoint_path": "evil.pt"},
)
KEYS = (
    "backbone",
    "teacher.network",
    "method",
    "data.source",
    "optimizer",
    "logger.csv",
    "launcher",
    "optimizer.betas.0",
)


CHAIN = tuple(zip("abcdefghijk", "bcdefghijkl", strict=True))
ALIASES = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join(9 * ['*' + a])}]\n" for a, b in CHAIN
)


def configurations(folder: Path, run_folder: Path) -> Attempts:
    """Configurations of jobs and runs, and overrides."""
    job = folder / "job.yaml"
    for gadget in GADGETS:
        for key in KEYS:
            config = compose("train", ["logger=csv", "images=8", "data.batch_size=8"])
            OmegaConf.set_struct(config, False)
            OmegaConf.update(config, key, gadget, merge=False)
            text = OmegaConf.to_yaml(config)
            name = f"{gadget['_target_']} at {key}"
            if KEYS.index(key) % 2:
                yield (
                    f"train --config: {name}",
                    lambda text=text: with_text(job, text, "train", "--config", str(job)),
                )
            else:
                yield (
                    f"evaluate RUN: {name}",
                    lambda text=text: with_text(
                        run_folder / "config.yaml", text, "evaluate", str(run_folder)
                    ),
                )
    for text in (
        ALIASES,
        "a: xxxxxxxxx\n"
        + "".join(f"{b}: '{9 * ('${' + a + '}')}'\n" for a, b in CHAIN)
        + "name: '${l}'\nmethod: {}\n",
        "hydra: {run: {dir: .}, searchpath: ['file://.']}\ndefaults: [evil]\nmethod: {_target_: evil.Thin}\n",
        "method: {_target_: facedistill.methods.kd.KD, loss: {_target_: os.system, _partial_: true, command: touch executed}}",
    ):
        name = text[:24].replace("\n", " ")
        yield f"train --config: {name}", lambda text=text: with_text(job, text, "train", "--config", str(job))
        yield (
            f"evaluate RUN: {name}",
            lambda text=text: with_text(run_folder / "config.yaml", text, "evaluate", str(run_folder)),
        )
    for override in (
        "teacher.convert=evil.convert", "teacher.convert=os.system", "name='${oc.env:HOME}'",
        "hydra.searchpath=[file://searched]", "+hydra.run.dir=executed",
    ):  # fmt: skip
        yield f"train {override}", lambda override=override: run("train", override)
    searched = folder / "aliased/backbone"
    searched.mkdir(parents=True)
    (searched / "many.yaml").write_text(ALIASES)
    yield (
        "train: aliases in a searched folder",
        lambda: run("train", f"hydra.searchpath=[file://{searched.parent}]", "backbone=many"),
    )
