"""SynthDistill's own recipe, with miniatures in the layouts of its two files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from facedistill.cli.main import main
from facedistill.config import compose, make_run_id
from tests.models.generators.stylegan_layout import stylegan2, write_pickle
from tests.models.teachers.arcface_layout import arcface_state


def test_it_says_which_two_files_to_bring(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "experiment=synthdistill_paper"]) == 2
    assert capsys.readouterr().err.strip().splitlines() == [
        "error  2 problem(s) in the configuration",
        "  teacher.file: iresnet100_mxnet needs the path of your own weights; give teacher.file=/path/to/file",
        "  generator.file: stylegan2-ffhq-256x256 needs the path of your own weights; give generator.file=/path/to/file",
    ]


def test_it_is_the_released_recipe() -> None:
    config = compose("train", ["experiment=synthdistill_paper", "generator.file=a", "teacher.file=b"])
    source, network = config.data.source, config.generator.network
    assert (source.spread, source.rho, source.resampling, source.augment) == (
        "isotropic",
        1.0,
        "dynamic",
        None,
    )
    assert (network.crop, network.noise, network.truncation_psi) == ("legacy", "random", 1.0)
    assert (config.teacher.network.epsilon, config.teacher.input_spec.std) == (2e-5, 128.0)
    assert config.method.objective == "mse"
    assert (config.data.batch_size, config.images, config.seed) == (128, 42_000_000, 2021)


def test_the_identity_knows_the_files_by_their_hashes_and_not_by_their_places() -> None:
    def of(folder: str, *others: str, sha256: str = "0" * 64) -> str:
        files = [
            f"generator.file={folder}/g.pkl",
            f"teacher.file={folder}/t.pth",
            f"generator.sha256={sha256}",
        ]
        config = compose("train", ["experiment=synthdistill_paper", *files, *others])
        return make_run_id(config, {"g": sha256})

    assert of("/a") == of("/b")
    assert of("/a") != of("/a", sha256="1" * 64)
    assert of("/a") != of("/a", "generator.network.noise=const")
    assert of("/a") != of("/a", "generator.network.truncation_psi=0.7")


@pytest.mark.slow
def test_from_start_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("FACEDISTILL_CACHE", str(tmp_path / "cache"))
    pickled = write_pickle(tmp_path / "stylegan2-ffhq-256x256.pkl", stylegan2((8, 8, 8, 6, 6, 4, 4)))
    torch.save(arcface_state(18), tmp_path / "iresnet100-73e07ba7.pth")
    arguments = [
        "train", "experiment=synthdistill_paper", "debug=smoke", "images=16", "data.batch_size=8", "data.validation.faces=8",
        f"generator.file={pickled}", f"teacher.file={tmp_path / 'iresnet100-73e07ba7.pth'}", f"runs_dir={tmp_path / 'runs'}",
        "teacher.network.layers=18", "teacher.embedding_dim=8", "+teacher.network.embedding_dim=8",
        "strategy=cpu",
        "evaluation.protocols=[generated]", "evaluation.generated_pairs.identities=20", "evaluation.generated_pairs.min_teacher_cosine=-0.99",
        "evaluation.validation_pairs.identities=20", "evaluation.validation_pairs.min_teacher_cosine=-0.99",
    ]  # fmt: skip
    assert main(arguments) == 0
    (run,) = (tmp_path / "runs").iterdir()
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["images_seen"] == 16
    assert {entry["asset"] for entry in record["licences"]} == {"stylegan2-ffhq-256x256", "iresnet100_mxnet"}
    # The files may lie elsewhere; a run is known by what they hold.
    moved = tmp_path / "elsewhere" / pickled.name
    moved.parent.mkdir()
    pickled.rename(moved)
    capsys.readouterr()
    assert (
        main([f"generator.file={moved}" if part.startswith("generator.file") else part for part in arguments])
        == 0
    )
    assert f"{run} is finished already" in capsys.readouterr().err
