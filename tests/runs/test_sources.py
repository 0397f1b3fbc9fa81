"""From `config.data` to a source, its identities and the teacher's centers."""

from __future__ import annotations

import shutil

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from benchmarks.faults_trainer import SmallGenerator, SmallTeacher
from facedistill.cli.train import main
from facedistill.config import compose
from facedistill.data.formats.open import open_faces
from facedistill.data.sources.stored import StoredFaces
from facedistill.errors import ConfigError, DataError, UserError
from facedistill.runs.folder import RunFolder
from facedistill.runs.inputs import open_inputs, record_rendered_set
from facedistill.runs.sources import open_set, source_class, teacher_centers
from facedistill.runs.train import train
from tests.data.formats.drawn_set import DrawnSet
from tests.data.sources.test_stored import Teacher

pytestmark = pytest.mark.usefixtures("empty_cache")


@pytest.fixture
def folder(tmp_path):
    """A folder of images, one subfolder per identity."""
    faces = DrawnSet(identities=3, images=4)
    for index, label in enumerate(faces.labels):
        path = tmp_path / "faces" / f"person{label}"
        path.mkdir(parents=True, exist_ok=True)
        (path / f"{index}.png").write_bytes(faces.encoded(index))
    return tmp_path / "faces"


@pytest.mark.parametrize("kind", ["mean", "trained"])
def test_centers_of_a_teacher_without_a_classifier(kind):
    config = compose(
        "train", ["data=synthetic_identities", f"data.centers={kind}", "data.teacher_cache=false"]
    )
    faces, teacher = DrawnSet(identities=4, images=6), Teacher()
    source = StoredFaces(faces, seed=0)
    assert source.num_identities == 4
    centers = teacher_centers(config, source, teacher)
    assert centers.shape == (4, 6)
    assert torch.allclose(centers.norm(dim=1), torch.ones(4), atol=1e-5)
    batch = source.finish(source.raw(0, batch_size=24))
    unit = nn.functional.normalize(teacher(batch.images))
    assert ((unit @ centers.T).argmax(1) == batch.labels).float().mean() > 0.9
    assert source.teacher_cache is None
    if kind == "mean":
        own = [unit[batch.labels == k] for k in range(4)]
        slow = torch.stack([nn.functional.normalize(sum(rows) / len(rows), dim=0) for rows in own])
        assert torch.allclose(centers, slow, atol=1e-3)


def test_a_set_is_known_by_its_faces_and_not_by_its_place(folder, tmp_path):
    def identity(path, *more):
        config = compose("train", ["data=folder", f"data.path={path}", "method=supervised", *more])
        return open_inputs(config).folder.path.name

    moved = tmp_path / "elsewhere"
    shutil.copytree(folder, moved)
    assert identity(folder) == identity(moved) == identity(moved, "data.num_workers=2")
    (moved / "person0" / "0.png").write_bytes((moved / "person1" / "1.png").read_bytes())
    assert identity(folder) != identity(moved)


def test_another_format_than_the_one_that_was_named_is_refused(folder):
    assert len(open_set(compose("train", ["data=faces", f"data.path={folder}"]))) == 12
    with pytest.raises(ConfigError) as error:
        open_set(compose("train", ["data=recordio", f"data.path={folder}"]))
    assert str(error.value) == (
        f"data.path={folder}: holds faces as folder and not as recordio; use data=folder"
    )


@pytest.mark.parametrize("from_file", [False, True])
def test_a_run_opens_its_faces_once(folder, tmp_path, monkeypatch, from_file):
    opened = []

    def count(path):
        opened.append(path)
        return open_faces(path)

    monkeypatch.setattr("facedistill.runs.sources.open_faces", count)
    for name, part in {"load_teachers": SmallTeacher(), "load_generator": SmallGenerator()}.items():
        monkeypatch.setattr(f"facedistill.runs.assembly.{name}", lambda *parts, part=part: part)
    monkeypatch.setattr("facedistill.runs.train.open_configured_protocols", lambda config: ([], []))
    monkeypatch.setattr("facedistill.runs.export.export_student", lambda *parts: {})
    monkeypatch.setattr("facedistill.runs.train.evaluate_run", lambda folder: None)
    monkeypatch.setattr("facedistill.runs.train._publish", lambda *parts: None)
    overrides = [
        "method=cosine", "data=folder", f"data.path={folder}", "debug=smoke", "logger=csv", "strategy=cpu", "images=8",
        "data.batch_size=4", f"runs_dir={tmp_path / 'runs'}", "evaluation.validation_pairs.identities=20",
        "evaluation.validation_pairs.min_teacher_cosine=-0.9", "teacher.embedding_dim=8", "backbone=tinyfar_a",
    ]  # fmt: skip
    job = tmp_path / "job.yaml"
    job.write_text(OmegaConf.to_yaml(compose("train", overrides)))
    assert main(["--config", str(job)] if from_file else overrides) == 0
    assert opened == [str(folder)]


def test_photographs_that_validation_would_take_are_refused_before_a_run_folder_is_made(folder, tmp_path):
    runs = tmp_path / "runs"
    with pytest.raises(
        ConfigError, match=r"^data.source.held_out=500: the set has 12 photographs, and some must be left"
    ):
        train(compose("train", ["data=mixed", f"data.path={folder}", f"runs_dir={runs}", "evaluation=none"]))
    assert not runs.exists()


def test_a_run_continues_with_the_rendered_set_that_it_began_with(tmp_path):
    config, folder = compose("train", ["data=synthetic_identities"]), RunFolder(tmp_path / "pocket-00000000")
    folder.create()
    first, again = DrawnSet(), DrawnSet(images=9)
    record_rendered_set(config, folder, first, resume=True)  # an older version recorded none
    expected = {"set": "synthetic identities", "images": 32, "fingerprint": first.fingerprint}
    assert folder.record().stored_faces == expected
    record_rendered_set(config, folder, first, resume=True)
    with pytest.raises(
        UserError, match=f"began with a rendered set of fingerprint {first.fingerprint}, and the cache"
    ):
        record_rendered_set(config, folder, again, resume=True)
    assert folder.record().stored_faces == expected
    record_rendered_set(config, folder, again, resume=False)
    assert folder.record().stored_faces["fingerprint"] == again.fingerprint


def test_a_class_that_is_no_source_is_refused():
    config = compose("train", ["debug=smoke"])
    config.data.source._target_ = "builtins.dict"
    with pytest.raises(ConfigError) as error:
        source_class(config)
    assert str(error.value) == (
        "builtins.dict is no class that a configuration may name; if you trust that code, add trust=builtins to the command "
        "line"
    )


def test_an_unlabeled_set_is_refused_before_a_run_folder_is_made(folder, tmp_path):
    bare = folder / "person0"
    assert open_set(compose("train", ["data=folder", f"data.path={bare}", "method=cosine"])).labels is None
    runs = tmp_path / "runs"
    with pytest.raises(ConfigError) as error:
        train(compose("train", ["data=folder", f"data.path={bare}", "method=supervised", f"runs_dir={runs}"]))
    assert str(error.value) == (
        f"data.path={bare}: these faces bear no labels, or one only, and the method needs identities; give a set with "
        "labels (a folder of one folder per identity), or choose a method without them"
    )
    assert not runs.exists()


def test_faces_of_other_sizes_are_refused_before_a_run_folder_is_made(folder, tmp_path):
    (folder / "person0" / "0.png").write_bytes(DrawnSet(size_px=96).encoded(0))
    runs = tmp_path / "runs"
    with pytest.raises(DataError, match=r"^.*: 1 of 12 images looked at are no faces of 112x112 pixels"):
        train(compose("train", ["data=folder", f"data.path={folder}", "method=cosine", f"runs_dir={runs}"]))
    assert not runs.exists()
