"""Three hundred spoiled files; `benchmarks/fuzz.py` runs twenty thousand of the same kinds."""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks import fuzz, fuzz_inputs, fuzz_oracles
from facedistill.errors import DataError
from facedistill.evaluation.protocols.archives import TarArchive
from facedistill.evaluation.protocols.bin_file import load_bin


def test_right_data_or_one_sentence() -> None:
    tallies = fuzz.fuzz(300, seed=7)
    assert [finding for tally in tallies.values() for finding in tally.findings] == []
    assert sum(tally.inputs for tally in tallies.values()) == 300
    assert sum(tally.right + tally.refused for tally in tallies.values()) == 300
    assert all(tally.refused > 3 for kind, tally in tallies.items() if kind != ".idx")
    assert all(tally.right > 3 for tally in tallies.values())


def test_the_fuzzer_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind of finding is planted once."""
    acts = [_raise, _hang, _execute, _leave_out]

    def planted(draw: np.random.Generator, folder: Path, canary: str) -> Iterator[tuple[str, str, object]]:
        for act in acts:
            yield "planted", "by hand", lambda act=act: act(folder, canary)

    monkeypatch.setattr(fuzz, "inputs", planted)
    monkeypatch.setattr(fuzz, "LIMIT_S", 0.05)
    findings = fuzz.fuzz(4)["planted"].findings
    assert [finding.split(": ", 1)[1] for finding in findings] == [
        "KeyError: 'x'",
        "no answer within 0.05 s",
        "executed code",
        "WrongError: other images",
    ]


def _raise(folder: Path, canary: str) -> None:
    raise KeyError("x")


def _hang(folder: Path, canary: str) -> None:
    while True:
        pass


def _execute(folder: Path, canary: str) -> None:
    Path(canary).touch()


def _leave_out(folder: Path, canary: str) -> None:
    records, end = fuzz_oracles.records_of(fuzz_inputs.rec_files(fuzz_inputs.images(4))[1][0])
    images = fuzz_oracles.labeled_images(records, None)
    assert images is not None
    assert end > 0
    fuzz._demand(images[1:] == images, "other images")


def test_a_tar_that_breaks_off_is_refused(tmp_path: Path) -> None:
    """Python's own reader ends at a damaged header as if the tar ended there."""
    whole = fuzz_inputs.tar_files(fuzz_inputs.images(6))[0]
    path = tmp_path / "x.tar"
    for data, message in [
        (
            whole[:2048],
            f"{path}: is truncated: the zeros that end a tar are missing at byte 2048; copy it again",
        ),
        (
            whole[:2048] + b"x" * 512 + whole[2560:],
            f"{path}: is damaged: no member begins at byte 2048; copy it again",
        ),
    ]:
        path.write_bytes(data)
        with pytest.raises(DataError) as caught:
            TarArchive(path)
        assert str(caught.value) == message


def test_a_pickle_that_numbers_parts_far_away(tmp_path: Path) -> None:
    """The standard reader would clear 64 GB for this one byte string."""
    path = tmp_path / "x.bin"
    path.write_bytes(b"\x80\x02U\x01a" + b"r" + struct.pack("<I", 2**32 - 1) + b".")
    with pytest.raises(DataError) as caught:
        load_bin(path)
    assert str(caught.value) == (
        f"{path}: is not a plain insightface .bin of bytes and booleans (numbers part 4294967295 of 3); nothing was "
        "executed"
    )
