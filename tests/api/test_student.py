"""`load`, `embed` and `verify`."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import facedistill as fd
from facedistill.errors import AssetError, DataError, NoFaceError, UserError
from facedistill.evaluation.embedder import embed
from facedistill.evaluation.protocols.base import PairsProtocol
from facedistill.evaluation.protocols.images import ArrayImages
from facedistill.export import load_student, save_student
from facedistill.models.backbones.own import OwnBackbone, register
from tests.helpers.errors import error_message
from tests.helpers.photographs import photograph
from tests.helpers.tiny_networks import PlainStudent


def test_import_is_light():
    code = (
        "import time; start = time.process_time(); import facedistill, sys; assert 'torch' not in sys.modules"
    )
    code += "; assert 'load' in dir(facedistill); print(time.process_time() - start)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.2
    with pytest.raises(AttributeError, match="has no attribute 'lode'"):
        fd.lode  # noqa: B018


def test_every_kind_of_image_gives_the_numbers_of_the_evaluation(student, student_file, tmp_path):
    pixels = np.stack([np.asarray(photograph(seed).resize((112, 112))) for seed in (1, 2, 3)])
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, face in zip(paths, pixels, strict=True):
        Image.fromarray(face).save(path)
    faces = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    first, second = torch.tensor([0, 0]), torch.tensor([1, 2])
    protocol = PairsProtocol("x", ArrayImages(faces), first, second, first > 0, first)
    measured = embed(load_student(student_file).to(memory_format=torch.channels_last), protocol, quiet=True)
    rows = student.embed(paths)
    assert rows.dtype == torch.float32
    torch.testing.assert_close((rows[0] * rows[1:]).sum(1), protocol.score(measured), rtol=0, atol=1e-6)
    torch.testing.assert_close(rows, nn.functional.normalize(measured), rtol=0, atol=1e-6)
    for same in (
        [str(path) for path in paths], list(pixels), pixels, [Image.fromarray(face) for face in pixels],
        faces, (faces.float() - 127.5) / 127.5,
    ):  # fmt: skip
        torch.testing.assert_close(student.embed(same, batch_size=2), rows, rtol=0, atol=1e-6)
    assert student.embed(paths[0]).shape == (1, 32)
    assert student.embed([]).shape == (0, 32)


@pytest.mark.parametrize(("images", "sentence"), [
    (torch.zeros(2, 3, 64, 64), r"a tensor of shape \(2, 3, 64, 64\): expected \(N, 3, 112, 112\)"),
    (torch.full((1, 3, 112, 112), 255.0), r"values outside \[-1, 1\]"),
    (torch.full((1, 3, 112, 112), float("nan")), r"values outside \[-1, 1\]"),
    (torch.zeros(1, 3, 112, 112, dtype=torch.int64), r"expected floats in \[-1, 1\], or uint8"),
    (np.zeros((112, 112, 3)), r"an array of float64 and shape \(112, 112, 3\): expected \(H, W, 3\) uint8"),
    (np.zeros((90, 112, 3), np.uint8), "is 112x90 px and not a square aligned face"),
    ([7], "int: is no photograph"),
    (None, "NoneType: is no image and no list of images"),
    (b"abc", "bytes: is no image and no list of images"),
])  # fmt: skip
def test_what_is_no_face_is_refused(student, images, sentence):
    with pytest.raises(DataError, match=sentence):
        student.embed(images)


def test_exif_turns_no_aligned_face(student, tmp_path):
    face, turned, exif = photograph(1).resize((112, 112)), tmp_path / "face.png", Image.Exif()
    exif[0x0112] = 6
    face.save(turned, exif=exif)
    expected = student.embed(face)
    for same in (turned, Image.open(turned)):
        torch.testing.assert_close(student.embed(same), expected, rtol=0, atol=1e-6)
        assert student.verify(same, face, aligned=True).score == pytest.approx(1, abs=1e-5)


def test_an_opened_image_that_is_cut_short_is_refused(student, tmp_path):
    photograph(1).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    for read in (student.embed, fd.align):
        with Image.open(tmp_path / "a.png") as opened, pytest.raises(DataError, match=r"a\.png is cut short"):
            read(opened)


def test_verify_decides_at_a_far(student, photos):
    match = student.verify(photos / "ann.png", photograph(1))
    assert match.score == pytest.approx(1, abs=1e-5)
    assert match.same is True
    assert match.boxes == ((0, 0, 224, 224), (0, 0, 224, 224))
    assert (match.threshold, match.fitted.protocol) == (0.95, "cfp_fp")  # the most impostor pairs
    for threshold in (0.9999, np.float32(0.9999)):
        assert student.verify(photos / "ann.png", photos / "bo.png", threshold=threshold).same is False
    assert student.verify(photograph(1), photograph(2), far=1e-2).threshold == 0.5
    assert student.verify(photograph(1), photograph(2), protocol="lfw").threshold == 0.9
    sentence = error_message(UserError, student.verify, photograph(1), photograph(2), far=1e-6)
    assert sentence == (
        "far=1e-06: the model has no such threshold; it has, by FAR, lfw: 0.001, 0.01; cfp_fp: 0.001; or give a threshold"
    )


def test_of_several_faces_the_largest_or_the_most_similar(student, photos):
    largest = student.verify(photos / "ann.png", photos / "both.png")
    assert (largest.found, largest.boxes[1][0]) == ((1, 2), 0)
    best = student.verify(photos / "ann.png", photos / "both.png", face="all")
    assert (best.score, best.boxes[1][0]) == (pytest.approx(1, abs=1e-3), 224)
    with pytest.raises(NoFaceError, match=r"none\.png shows no face"):
        student.verify(photos / "ann.png", photos / "none.png")
    assert [face.box[0] for face in fd.find_faces(photos / "both.png")] == [0, 224]
    assert fd.align(photos / "ann.png").size == (112, 112)
    torch.testing.assert_close(
        student.embed(photos / "ann.png", align=True), student.embed(fd.align(photos / "ann.png"))
    )


def test_values_of_another_kind_are_refused(student, photos):
    ann = photos / "ann.png"
    assert error_message(UserError, student.verify, ann, ann, face="biggest") == (
        "face='biggest': expected largest or all"
    )
    gallery = fd.Gallery(["a"], torch.eye(32)[:1])
    assert "top=0: expected a whole number" in error_message(UserError, student.search, gallery, ann, top=0)
    assert "is no gallery; give Gallery.load" in error_message(UserError, student.search, "gallery.npz", ann)
    for images in (None, [3]):
        assert "is no path; a gallery" in error_message(DataError, fd.Gallery.build, student, images)
    for far in ("1e-3", 7):
        assert "expected a number in [0, 1]" in error_message(UserError, student.verify, ann, ann, far=far)
    assert "threshold='0.4'" in error_message(UserError, student.search, gallery, ann, threshold="0.4")
    assert "batch_size=0" in error_message(UserError, student.embed, [], batch_size=0)
    assert "detector='mtcnn': expected an object" in error_message(DataError, fd.align, ann, detector="mtcnn")
    assert "is on this disk" in error_message(UserError, fd.load, photos, revision="v1")
    for source in (3, PlainStudent):
        assert "is no model; give the path" in error_message(AssetError, fd.load, source)


def test_without_thresholds_there_is_a_score_and_no_decision(photos, tmp_path):
    student = fd.load(PlainStudent())
    match = student.verify(photos / "ann.png", photos / "ann.png")
    assert (match.threshold, match.same, student.embedding_dim) == (None, None, 6)
    assert str(match) == "score 1.0000, no threshold"
    picture = Image.open(match.save_picture(tmp_path / "pair.png"))
    assert picture.size == (484, 270)


def test_load_names_what_it_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir("runs")
    for source in ("runs/demo-00000000", "nothing"):
        assert error_message(AssetError, fd.load, source).startswith(f"{source}: there is no such run folder")
    assert error_message(UserError, fd.load, "runs") == (
        "runs holds no student.safetensors or student.onnx; give the folder of a finished run"
    )


def test_load_from_the_hub(student_file, monkeypatch):
    asked = {}

    def snapshot(repo, **options):
        asked.update(options, repo=repo)
        return str(student_file.parent)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert fd.load("you/tiny-face", revision="v1").embedding_dim == 32
    assert asked == {"repo": "you/tiny-face", "revision": "v1", "allow_patterns": ["student.safetensors"]}

    def offline(repo, **options):
        raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    assert error_message(AssetError, fd.load, "you/tiny-face") == (
        "you/tiny-face: cannot be downloaded from the Hugging Face hub (no route to host)"
    )


def test_a_module_of_ones_own_is_loaded_with_the_module(tmp_path, monkeypatch):
    torch.manual_seed(0)
    trained, path = PlainStudent(), tmp_path / "student.safetensors"
    save_student(OwnBackbone(register(trained), "PlainStudent", 6).eval(), path, {})
    monkeypatch.setattr("facedistill.models.backbones.own._REGISTERED", {})
    assert "does not fit OwnBackbone" in error_message(AssetError, fd.load, path, network=nn.Linear(3, 3))
    assert "facedistill.load(…, network=PlainStudent())" in error_message(AssetError, fd.load, path)
    faces = torch.rand(2, 3, 112, 112)
    expected = nn.functional.normalize(trained(faces)).detach()
    torch.testing.assert_close(fd.load(path, network=PlainStudent()).embed(faces), expected)
