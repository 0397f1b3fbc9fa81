"""The leak audit with planted leaks: brute force, exit codes, page, list, and hostile `.bin` files."""

import io
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from facedistill.cli.audit import _parser
from facedistill.cli.audit import main as audit_main
from facedistill.data.audit.search import audit
from facedistill.data.formats.bin import BinFaces
from facedistill.errors import ConfigError, DataError
from facedistill.images import decode_face
from tests.data.formats.drawn_set import DrawnSet
from tests.helpers.tiny_networks import TinyTeacher

Capture = pytest.CaptureFixture[str]
TEACHER = TinyTeacher()


def noise_png(seed: int) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(np.kron(coarse, np.ones((28, 28, 1), dtype=np.uint8))).save(file, "PNG")
    return file.getvalue()


def folder_of(root: Path, people: dict[str, list[int]]) -> Path:
    for name, seeds in people.items():
        (root / name).mkdir(parents=True)
        for seed in seeds:
            (root / name / f"{seed:03d}.png").write_bytes(noise_png(seed))
    return root


@pytest.fixture
def train(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "train", {"ann": [0, 1, 2], "bo": [3, 4], "cy & di": [5, 6, 7]})


def run(train: Path, benchmark: Path, tmp_path: Path, *more: str) -> int:
    words = [str(train), str(benchmark), "--report", str(tmp_path / "page.html"), "--quiet", *more]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("facedistill.cli.audit._pocket_teacher", lambda quiet: TEACHER)
        return audit_main(words)


def test_nearest_by_brute_force() -> None:
    train, benchmark = DrawnSet(5, 30), DrawnSet(3, 3, labeled=False)
    found = audit(train, benchmark, TEACHER, threshold=0.99, quiet=True)

    def embed(faces: DrawnSet, number: int) -> np.ndarray:
        pixels = torch.from_numpy(decode_face(faces.encoded(number), "")).permute(2, 0, 1)[None]
        embedding = TEACHER((pixels.float() - 127.5) / 127.5)[0].double().numpy()
        return embedding / np.linalg.norm(embedding)

    known = [embed(train, number) for number in range(150)]
    for number in range(9):
        cosines = [float(embed(benchmark, number) @ other) for other in known]
        assert found.cosine[number] == pytest.approx(max(cosines), abs=1e-5)
        assert cosines[found.match[number]] == pytest.approx(max(cosines), abs=1e-5)
    assert found.num_train == 150
    rows = found.leaks
    assert sorted(rows.tolist()) == np.flatnonzero(found.cosine >= 0.99).tolist()
    assert (np.diff(found.cosine[rows]) <= 0).all()


def test_a_planted_leak_is_found(train: Path, tmp_path: Path, capsys: Capture) -> None:
    benchmark = folder_of(tmp_path / "benchmark", {"x": [6, 100], "y": [101, 4]})
    assert run(train, benchmark, tmp_path, "--threshold", "0.999") == 1
    said = capsys.readouterr().out
    assert said == (
        "2 of 4 benchmark images have a match from cosine 0.999 on among 8 training images, of 2 training "
        f"identities; 2 of them are nearly the same picture\nreport: {tmp_path}/page.html\n"
    )
    listed = json.loads((tmp_path / "page.json").read_text())
    assert listed["train_identities"] == ["bo", "cy & di"]
    names = {(Path(match["benchmark"]).name, Path(match["train"]).name) for match in listed["matches"]}
    assert names == {("006.png", "006.png"), ("004.png", "004.png")}
    page = (tmp_path / "page.html").read_text()
    assert len(re.findall(r'src="data:image/png;base64,', page)) == 4
    assert "identity cy &amp; di" in page
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_a_clean_set(train: Path, tmp_path: Path, capsys: Capture) -> None:
    benchmark = folder_of(tmp_path / "benchmark", {"x": [100, 101], "y": [102]})
    assert run(train, benchmark, tmp_path, "--threshold", "1") == 0
    said = capsys.readouterr().out
    assert said.startswith(
        "0 of 3 benchmark images have a match from cosine 1.0 on among 8 training images\n"
    )
    assert "None of 3 benchmark images has a match" in (tmp_path / "page.html").read_text()


def test_unreadable_images_are_named(train: Path, tmp_path: Path, capsys: Capture) -> None:
    benchmark = folder_of(tmp_path / "benchmark", {"x": [6], "y": [101]})
    (train / "bo" / "003.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    assert run(train, benchmark, tmp_path, "--threshold", "0.999") == 1
    captured = capsys.readouterr()
    assert "among 7 training images" in captured.out
    assert "003.png" in captured.err
    assert "003.png" in (tmp_path / "page.html").read_text()
    for path in benchmark.rglob("*.png"):
        path.write_bytes(b"\x89PNG\r\n\x1a\nno")
    with pytest.raises(DataError, match=r"^audit: the benchmark has no readable image \("):
        run(train, benchmark, tmp_path)


def test_mistakes_are_sentences(train: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        run(train, train, tmp_path, "--threshold", "1.5")
    assert str(refused.value) == "--threshold: must be within (-1, 1], got 1.5"
    with pytest.raises(DataError) as caught:
        run(train, tmp_path / "gone.bin", tmp_path)
    assert str(caught.value) == f"{tmp_path}/gone.bin: cannot be read (No such file or directory)"


def test_an_address_stays_one() -> None:
    assert _parser().parse_args(["s3://bucket/faces", "lfw.bin"]).train == "s3://bucket/faces"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_bin_file_is_searched(train: Path, tmp_path: Path, protocol: int) -> None:
    images = [noise_png(seed) for seed in (100, 6, 101, 6)]
    path = tmp_path / "lfw.bin"
    path.write_bytes(pickle.dumps((images, [True, False]), protocol=protocol))
    faces = BinFaces(path)
    assert [faces.encoded(number) for number in range(len(faces))] == images[:3]
    assert faces.where(1) == f"{path}, image 1"
    assert run(train, path, tmp_path, "--threshold", "0.999") == 1


def test_a_hostile_bin_runs_nothing(tmp_path: Path) -> None:
    mark, path = tmp_path / "ran", tmp_path / "lfw.bin"

    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, (f"open({str(mark)!r}, 'w')",)

    path.write_bytes(pickle.dumps(([noise_png(0)], Hostile())))
    with pytest.raises(DataError, match=r"\(names builtins.exec\); nothing was executed$"):
        BinFaces(path)
    assert not mark.exists()


def test_a_broken_bin_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lfw.bin"
    whole = pickle.dumps(([noise_png(0)], [True]))
    path.write_bytes(whole[:-9])
    with pytest.raises(DataError, match=r"lfw.bin: is not a plain insightface .bin of bytes and booleans"):
        BinFaces(path)
    path.write_bytes(pickle.dumps(([], [])))
    with pytest.raises(DataError) as caught:
        BinFaces(path)
    assert str(caught.value) == f"{path}: holds no image; give an insightface .bin verification set"
