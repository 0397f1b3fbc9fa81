"""Records: what is no record is refused, unlike runs are never averaged, other machines' are taken and never lost."""

from __future__ import annotations

import json

import pytest

from facedistill.cli.main import main
from facedistill.errors import UserError
from facedistill.sweeps.tables.merge import merge_records
from facedistill.sweeps.tables.record import read_records

ROWS = """
title: Two rows
common: []
images: 64
seeds: 2
metrics: [lfw/accuracy]
rows: {kd: {overrides: []}, rkd: {overrides: []}}
"""


def put(folder, row, seed, accuracy=0.9, **config):
    """Writes the record of a run; its id is that of row, seed and the rest of the configuration."""
    name = "-".join([row, str(seed), *(f"{key}{value}" for key, value in config.items())])
    record = {
        "id": name, "row": row, "seed": seed, "machine": {"cpu": "x", "cores": 1, "threads": 1},
        "config": {"images": 64, "seed": seed, "method": {"seed": seed}, "data": {"seed": 1}, **config},
        "results": {"student": {"protocols": {"lfw": {"accuracy": accuracy}}}},
    }  # fmt: skip
    path = folder / "records" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))
    return path


@pytest.fixture
def folders(tmp_path):
    """The same table on two machines."""
    made = []
    for machine in ("here", "there"):
        folder = tmp_path / machine / "two"
        folder.mkdir(parents=True)
        (folder / "rows.yaml").write_text(ROWS)
        made.append(folder)
    return made


def test_seeds_of_one_configuration_are_read_together(folders):
    here, _ = folders
    for row, seed in (("rkd", 1), ("kd", 2), ("kd", 1)):
        put(here, row, seed)
    put(here, "kd", 1, images=128)  # another budget is another table
    assert [(r["row"], r["seed"], r["config"]["images"]) for r in read_records(here)] == [
        ("kd", 1, 64), ("kd", 1, 128), ("kd", 2, 64), ("rkd", 1, 64),
    ]  # fmt: skip


def test_unlike_runs_are_not_averaged(folders):
    here, _ = folders
    put(here, "kd", 1)
    other = put(here, "kd", 2, data={"seed": 3})
    with pytest.raises(UserError) as error:
        read_records(here)
    assert str(error.value) == (
        f"{here / 'records'}: kd: kd-1 and {other.stem} differ in data.seed; a table averages equal runs only; "
        "delete those that rows.yaml no longer means"
    )
    record = json.loads((here / "records" / "kd-1.json").read_text())
    for name, seed, faces in (
        ("kd-1", 1, "aa"),
        (other.stem, 2, "bb"),
    ):  # the set was rendered again in between
        changed = {**record, "id": name, "seed": seed, "stored_faces": {"fingerprint": faces}}
        changed["config"] = {**record["config"], "seed": seed, "method": {"seed": seed}}
        (here / "records" / f"{name}.json").write_text(json.dumps(changed))
    with pytest.raises(
        UserError, match=r"kd: kd-1 and .* were trained on different faces \(aa and bb; a set rendered again"
    ):
        read_records(here)
    other.unlink()
    (here / "records" / "kd-9.json").write_text(json.dumps({**record, "id": "kd-9"}))
    with pytest.raises(UserError, match="kd: kd-1 and kd-9 are seed 1 with different weights or faces"):
        read_records(here)


def test_what_is_no_record_is_named(folders):
    here, _ = folders
    path = put(here, "kd", 1)
    path.rename(path.with_name("copy.json"))
    with pytest.raises(
        UserError, match=r"copy\.json: holds run kd-1; name the file kd-1\.json, or delete it"
    ):
        read_records(here)
    path.with_name("copy.json").write_text("{torn")
    with pytest.raises(UserError, match=r"copy\.json: cannot be read as a record"):
        read_records(here)
    path.with_name("copy.json").write_text('{"id": "copy", "row": "kd"}')
    with pytest.raises(UserError, match=r"copy\.json: is not a record of a run, it has no seed; delete it"):
        read_records(here)


def test_records_of_another_machine_are_taken_and_conflicts_reported(folders):
    here, there = folders
    put(here, "kd", 1)
    put(there, "kd", 1)
    mine = put(here, "kd", 2, accuracy=0.8)
    theirs = put(there, "kd", 2, accuracy=0.7)
    put(there, "rkd", 1)
    before = mine.read_bytes()
    merged = merge_records(here, there, {"kd", "rkd"})
    assert (merged.taken, merged.known) == (("rkd-1",), 1)
    assert merged.conflicts == (
        f"kd seed 2: {theirs} and {mine} are the same run with different results "
        "(results.student.protocols.lfw.accuracy 0.7 and 0.8); ours is kept, delete it to take the other",
    )
    assert mine.read_bytes() == before
    assert [record["id"] for record in read_records(here)] == ["kd-1", "kd-2", "rkd-1"]
    again = merge_records(here, there / "records", {"kd", "rkd"})
    assert (again.taken, again.known, len(again.conflicts)) == ((), 2, 1)


def test_nothing_is_taken_from_a_folder_with_a_foreign_record(folders, tmp_path):
    here, there = folders
    put(there, "kd", 1)
    put(there, "sp", 1)
    with pytest.raises(UserError, match=r"sp-1\.json: is of the row 'sp', which .*rows\.yaml does not have"):
        merge_records(here, there, {"kd", "rkd"})
    assert not (here / "records").exists()
    with pytest.raises(UserError, match="holds no records; give a table's folder from another machine"):
        merge_records(here, tmp_path, {"kd"})


def test_the_command_merges_renders_and_fails_on_conflicts(folders, capsys):
    here, there = folders
    put(here, "kd", 1)
    put(there, "kd", 2, accuracy=0.8)
    command = ["reproduce", "two", "--experiments", str(here.parent), "--merge", str(there)]
    assert main(command) == 0
    said = capsys.readouterr().err
    assert f"1 record(s) taken from {there}, 0 here already, 0 in conflict" in said
    assert "85.00" in (here / "table.md").read_text()
    put(there, "kd", 2, accuracy=0.7)
    assert main(command) == 1
    assert "0.7 and 0.8" in capsys.readouterr().err
    assert "85.00" in (here / "table.md").read_text()
