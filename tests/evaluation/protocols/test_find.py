"""Finding the files of a benchmark, or naming what to put where."""

import sys
from pathlib import Path

import pytest

from facedistill.errors import ConfigError, DataError
from facedistill.evaluation import protocols
from facedistill.evaluation.protocols.base import PairsProtocol
from facedistill.evaluation.protocols.find import (
    Absent,
    Place,
    default_places,
    find_protocol,
    open_protocols,
    read_places,
    search_dirs,
)
from tests.evaluation.protocols.miniature_benchmark import (
    NAMES,
    draw,
    lfw_list,
    write_bin,
    write_lfw,
    write_tar,
)

PLACES = {
    "lfw": Place(("lfw112.tar", "lfw112"), ("lfw_pairs.txt", "pairs.txt"), "lfw", 16),
    "cfp_fp": Place(("cfp112.tar",), ("pairs_FP.tsv",), "tsv"),
    "calfw": Place(),
}


def found(name: str, folders: list[Path]) -> PairsProtocol:
    protocol = find_protocol(name, folders, PLACES)
    assert isinstance(protocol, PairsProtocol)
    return protocol


def test_folder_tar_and_list_inside_are_found(tmp_path: Path) -> None:
    images = write_lfw(tmp_path)
    assert len(found("lfw", [tmp_path / "nowhere", tmp_path]).same) == 16
    (tmp_path / "lfw_pairs.txt").rename(images / "pairs.txt")
    assert len(found("lfw", [tmp_path]).same) == 16
    only = tmp_path / "only_tar"
    only.mkdir()
    write_tar(images, only / "lfw112.tar")
    assert len(found("lfw", [only]).same) == 16


def test_tsv_inside_a_tar_is_found(tmp_path: Path) -> None:
    images = write_lfw(tmp_path).rename(tmp_path / "cfp112")
    first = f"{NAMES[0]}/{NAMES[0]}_0001.png"
    (images / "pairs_FP.tsv").write_text(f"{first}\t{first}\t1\t0\n{first}\t{first}\t0\t1\n")
    write_tar(images, tmp_path / "cfp112.tar")
    assert found("cfp_fp", [tmp_path]).num_images == 1


def test_bin_is_found_and_folders_are_taken_in_order(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for folder, images in ((first, 2), (second, 3)):
        folder.mkdir()
        write_bin(folder / "calfw.bin", [draw(i % images, 0) for i in range(20)], [True, False] * 5)
    assert found("calfw", [first, second]).num_images == 2
    assert found("calfw", [second, first]).num_images == 3
    assert (
        found("mine", [write_bin(first / "mine.bin", [b"a"] * 20, [True, False] * 5).parent]).name == "mine"
    )


def test_paths_are_opened(tmp_path: Path) -> None:
    images = write_lfw(tmp_path)
    (images / "pairs.txt").write_text(lfw_list())
    assert len(found(str(images), []).same) == 16
    assert found(str(images), []).name == "lfw112"
    path = write_bin(tmp_path / "x.bin", [b"a"] * 20, [True, False] * 5)
    assert found(str(path), []).name == "x"
    with pytest.raises(DataError) as caught:
        find_protocol(str(tmp_path / "none"), [], PLACES)
    assert str(caught.value) == (
        f"{tmp_path / 'none'}: is neither a .bin file nor a folder of faces with pairs.txt or pairs.tsv; "
        "correct the path"
    )


def test_absent_protocol_names_its_files(tmp_path: Path) -> None:
    assert find_protocol("lfw", [tmp_path], PLACES) == Absent(
        "lfw",
        f"lfw is not here: put lfw112.tar or a folder lfw112 of aligned 112x112 faces with lfw_pairs.txt or "
        f"pairs.txt, or lfw.bin into {tmp_path}, or name their folder in FACEDISTILL_DATA",
    )
    assert find_protocol("calfw", [tmp_path], PLACES) == Absent(
        "calfw", f"calfw is not here: put calfw.bin into {tmp_path}, or name their folder in FACEDISTILL_DATA"
    )


def test_images_without_their_list_are_absent(tmp_path: Path) -> None:
    write_lfw(tmp_path)
    (tmp_path / "lfw_pairs.txt").unlink()
    assert isinstance(find_protocol("lfw", [tmp_path], PLACES), Absent)


def test_short_list_raises(tmp_path: Path) -> None:
    write_lfw(tmp_path)
    lines = lfw_list().splitlines()
    (tmp_path / "lfw_pairs.txt").write_text("\n".join(["1 4", *lines[1:9]]))
    with pytest.raises(DataError) as caught:
        find_protocol("lfw", [tmp_path], PLACES)
    assert str(caught.value) == (
        f"{tmp_path / 'lfw_pairs.txt'}: holds 8 of the 16 pairs of lfw; download it again"
    )


def test_misspelt_name_raises(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        find_protocol("cfp_pf", [tmp_path], PLACES)
    assert str(caught.value) == (
        "evaluation.protocols: no protocol is named 'cfp_pf' and there is no cfp_pf.bin; did you mean cfp_fp?"
    )


def test_shipped_places_are_complete() -> None:
    places = default_places()
    assert {"lfw", "cfp_fp", "cfp_ff", "agedb_30", "calfw", "cplfw"} <= places.keys()
    assert places["lfw"].num_pairs == 6000
    assert places["cfp_fp"].pairs == ("pairs_FP.tsv",)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"image": ["x"]},
            "evaluation.places.x: unknown key 'image'; known: images, pairs, layout, num_pairs, groups, title, pose",
        ),
        (
            {"layout": "csv"},
            "evaluation.places.x.layout: must be lfw, tsv, ijb, rfw or tinyface, got 'csv'",
        ),
        ({"images": "faces.tar"}, "evaluation.places.x.images: must be a list; write [faces.tar]"),
    ],
)
def test_bad_places_raise(entry: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_places({"x": entry})
    assert str(caught.value) == message


def test_null_in_a_place_is_the_default() -> None:
    assert read_places({"x": {"images": None, "title": None}}) == {"x": Place()}


def test_a_list_of_one_fold_is_refused(tmp_path: Path) -> None:
    images = write_lfw(tmp_path)
    (images / "pairs.txt").write_text("1 1\nAnn 1 2\nAnn 1 Bob 1\n")
    with pytest.raises(
        DataError, match=r"pairs\.txt: needs genuine and impostor pairs in at least two folds"
    ):
        find_protocol(str(images), [])


def test_search_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FACEDISTILL_DATA", raising=False)
    monkeypatch.delenv("FACEDISTILL_SHARED", raising=False)
    assert search_dirs() == search_dirs("data") == [Path("data"), Path("../shared/data")]
    monkeypatch.setenv("FACEDISTILL_DATA", str(tmp_path))
    monkeypatch.setenv("FACEDISTILL_SHARED", "/team")
    assert search_dirs() == [tmp_path, Path("/team/data")]
    assert search_dirs("data") == [Path("data"), tmp_path, Path("/team/data")]  # a run configured before
    gone, fix = tmp_path / "gone", "there is no such folder; name the one that holds the benchmarks"
    with pytest.raises(ConfigError, match=f"evaluation.data_dir={gone}: {fix}"):
        search_dirs(gone)
    monkeypatch.setenv("FACEDISTILL_DATA", str(gone))
    with pytest.raises(ConfigError, match=f"FACEDISTILL_DATA={gone}: {fix}"):
        search_dirs(str(gone))


def test_absent_folder_layouts_name_their_files(tmp_path: Path) -> None:
    places = default_places()
    reasons = {
        name: find_protocol(name, [tmp_path], places) for name in ("ijbc", "tinyface", "rfw", "lfw_groups")
    }
    tail = f"into {tmp_path}, or name their folder in FACEDISTILL_DATA"
    assert {name: absent.reason for name, absent in reasons.items()} == {
        "ijbc": f"ijbc is not here: put a folder IJBC with loose_crop and meta, insightface's package, {tail}",
        "tinyface": (
            "tinyface is not here: put a folder tinyface with Testing_Set and the aligned 112x112 faces in aligned, "
            + tail
        ),
        "rfw": f"rfw is not here: put a folder rfw or RFW with txts and the aligned 112x112 faces in data, {tail}",
        "lfw_groups": (
            "lfw_groups is not here: put lfw112.tar or a folder lfw112 of aligned 112x112 faces with lfw_pairs.txt "
            f"or pairs.txt and lfw_groups.tsv {tail}"
        ),
    }


def test_two_protocols_of_one_name_raise(tmp_path: Path) -> None:
    write_lfw(tmp_path)
    path = write_bin(tmp_path / "other" / "lfw.bin", [b"a"] * 20, [True, False] * 5)
    with pytest.raises(ConfigError) as caught:
        open_protocols(["lfw", str(path)], [tmp_path], PLACES)
    assert str(caught.value) == (
        f"evaluation.protocols: two protocols are named lfw: lfw and {path}; rename a file, or ask for one of them"
    )
    with pytest.raises(
        ConfigError, match=r"^evaluation.protocols: two protocols are named lfw: lfw and lfw; "
    ):
        open_protocols(["lfw", "lfw"], [tmp_path], PLACES)
    mine = write_bin(tmp_path / "generated.bin", [b"a"] * 20, [True, False] * 5)
    with pytest.raises(ConfigError, match=r"two protocols are named generated: the generated pairs and "):
        open_protocols([str(mine)], [tmp_path], PLACES)
    found, absent = open_protocols(["lfw", "calfw"], [tmp_path], PLACES)
    assert ([p.name for p in found], [a.name for a in absent]) == (["lfw"], ["calfw"])


def test_a_list_that_is_not_text_raises(tmp_path):
    images = write_lfw(tmp_path)
    for place, shown in (
        (tmp_path / "lfw_pairs.txt", tmp_path / "lfw_pairs.txt"),
        (images / "lfw_pairs.txt", images / "lfw_pairs.txt"),
    ):
        (tmp_path / "lfw_pairs.txt").unlink(missing_ok=True)
        place.write_bytes(b"10\t300\nJos\xe9\t1\t2\n")
        with pytest.raises(DataError) as caught:
            find_protocol("lfw", [tmp_path])
        assert str(caught.value) == (
            f"{shown}: is not UTF-8 text at byte 10; save the list of pairs or groups as UTF-8"
        )


@pytest.mark.parametrize("name", ["ijbb", "ijbc", "tinyface", "rfw"])
def test_a_bin_does_not_replace_a_benchmark_of_templates_or_groups(tmp_path, name):
    write_bin(tmp_path / f"{name}.bin", [draw(0, shot) for shot in range(20)], [True, False] * 5)
    assert isinstance(find_protocol(name, [tmp_path]), Absent)
    assert isinstance(find_protocol(str(tmp_path / f"{name}.bin"), [tmp_path]), PairsProtocol)


def test_a_class_in_the_package_adds_a_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spaces.py").write_text(
        "from facedistill.evaluation.protocols.pairs import PairsLayout, parse_tsv_pairs\n"
        "class SpacesLayout(PairsLayout):\n"
        "    name, file_name = 'spaces', 'pairs.spaces'\n"
        "    @staticmethod\n"
        "    def parse(text, where):\n"
        "        return parse_tsv_pairs(text.replace(' ', '\\t'), where)\n"
    )
    monkeypatch.setattr(protocols, "__path__", [*protocols.__path__, str(tmp_path)])
    assert read_places({"x": {"layout": "spaces"}})["x"].layout == "spaces"
    sys.modules.pop("facedistill.evaluation.protocols.spaces")
