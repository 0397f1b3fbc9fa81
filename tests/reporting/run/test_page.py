"""The page of a run: whole, self-contained, honest about what is missing, safe with hostile text."""

import base64
import html
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facedistill.cli.report import main
from facedistill.errors import DataError, UserError
from facedistill.reporting.run.absent import absent_parts
from facedistill.reporting.run.facts import export_facts
from facedistill.reporting.run.files import read_run
from facedistill.reporting.run.model_card import card_metadata
from facedistill.reporting.run.page import write_report

FIGURES = {
    "faces",
    "learning-cosine",
    "learning-loss",
    "learning-rate",
    "lfw-det",
    "lfw-roc",
    "robustness",
    "lfw-scores-student",
    "lfw-scores-teacher",
}
EVERY_ABSENCE = [
    "Learning curves are not shown: metrics.csv is not in the run folder; train with logger=csv or "
    "logger=default.",
    "No accuracy was measured: results.json is not in the run folder; `facedistill evaluate` on this run "
    "writes it.",
    "Score histograms, ROC and DET are not shown: no protocol was evaluated.",
    "No faces are shown: faces.npz is not in the run folder; training writes it if it renders its faces.",
    "Where the time went is not shown: run.json has no time_share; training writes it at its end.",
    "The ONNX export was not compared with the student: run.json has no export; training writes it at its "
    "end.",
    "student.safetensors is not in the run folder: training writes it at its end.",
    "student.onnx is not in the run folder: training writes it at its end.",
    "No licences are listed: run.json names no assets.",
]


class Page(HTMLParser):
    """Collects what a browser would load, every tag, and the text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.images_without_alt = 0
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        self.loads += [
            given[name] or "" for name in ("src", "srcset", "href", "data", "action") if name in given
        ]
        self.images_without_alt += tag == "img" and not given.get("alt")

    def handle_data(self, data: str) -> None:
        self.text += data


def _edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _without_curves(run: Path) -> None:
    """Removes what most figures are drawn from, which takes seconds."""
    (run / "metrics.csv").unlink()
    shutil.rmtree(run / "scores")


def test_figures_are_there_and_not_empty(reported_run: Path) -> None:
    files = {path.stem: path for path in (reported_run / "figures").iterdir()}
    assert set(files) == FIGURES
    for path in files.values():
        assert np.asarray(Image.open(path).convert("L")).std() > 5, path.name


def test_light_figures_have_a_light_ground_and_dark_ones_a_dark(reported_run: Path) -> None:
    text = (reported_run / "report.html").read_text()
    light, dark = (
        [
            Image.open(io.BytesIO(base64.b64decode(uri))).convert("L").getpixel((1, 1))
            for uri in re.findall(pattern, text)
        ]
        for pattern in (
            r'<img src="data:image/png;base64,([^"]+)"',
            r'srcset="data:image/png;base64,([^"]+)"',
        )
    )
    assert len(light) == len(dark) == len(FIGURES) - 1
    assert min(light) > 250
    assert max(dark) < 40


def test_loads_nothing_from_elsewhere(reported_run: Path) -> None:
    page = Page(reported_run / "report.html")
    assert page.loads
    assert [load[:40] for load in page.loads if not load.startswith(("data:image/", "#"))] == []
    assert "script" not in page.tags
    assert page.images_without_alt == 0
    text = (reported_run / "report.html").read_text()
    assert not re.search(r"url\(|@import|https?://", text)


def test_every_link_has_its_target(reported_run: Path) -> None:
    text = (reported_run / "report.html").read_text()
    targets = re.findall(r'href="#([^"]+)"', text)
    assert len(targets) == text.count('<section id="')
    assert all(f'<section id="{target}">' in text for target in targets)


def test_says_the_numbers_of_the_run(reported_run: Path) -> None:
    text = Page(reported_run / "report.html").text
    accuracy = json.loads((reported_run / "results.json").read_text())["student"]["protocols"]["lfw"][
        "accuracy"
    ]
    assert f"LFW accuracy{accuracy * 100:.2f} %" in text
    for part in (
        "TinyFaR-C distilled from ArcFaceMobileFaceNet",
        "11.5 times fewer than the teacher",
        "Wall time2 h 35 min",
        "Images seen1,000,064of 1,000,000",
        "generator 58.10 %",
        "0.9999994",
        "facedistill train backbone=tinyfar_c images=1_000_000",
        "Configuration hash1a2b3c4d",
        "insightface models: non-commercial research only",
        " = 1.0 and n has the covariance of w",
        "CFP-FP was not evaluated: put cfp112.tar with its pairs_FP.tsv into data_dir.",
    ):
        assert part in text, part


def test_what_was_not_measured_is_reported(reported_run: Path) -> None:
    assert "Generated pairsnot measured" in Page(reported_run / "report.html").text


def test_names_every_missing_part(run: Path) -> None:
    for name in ("metrics.csv", "results.json", "faces.npz", "student.safetensors", "student.onnx"):
        (run / name).unlink()
    (run / "run.json").write_text('{"id": "demo-1a2b3c4d", "status": "running"}')
    text = Page(write_report(run)).text
    assert [sentence for sentence in EVERY_ABSENCE if sentence not in text] == []
    assert "This run is running: the figures below show its progress." in text
    assert "Outside Python" not in text
    assert not (run / "figures").exists()
    assert "data:image/" not in write_report(run).read_text()


def test_a_student_that_torch_cannot_trace_has_no_onnx_and_says_so_once(run: Path) -> None:
    (run / "student.onnx").unlink()
    record = json.loads((run / "run.json").read_text())
    record["export"] = {"no_onnx": "backbone: torch cannot trace mine.Net"}
    (run / "run.json").write_text(json.dumps(record))
    files = read_run(run)
    assert "student.onnx" not in str(absent_parts(files))
    assert [fact.value for fact in export_facts(files.record)] == ["backbone: torch cannot trace mine.Net"]
    assert "onnx" not in card_metadata(files)["tags"]


def test_a_complete_run_misses_nothing_but_what_it_says(reported_run: Path) -> None:
    text = (reported_run / "report.html").read_text()
    assert text.count('class="absent"') == 1
    assert "Outside Python" in text
    assert "No licences" not in text


def test_names_missing_scores_and_columns(run: Path) -> None:
    (run / "scores" / "lfw.teacher.npz").unlink()
    rows = (run / "metrics.csv").read_text().replace("val/cosine", "val/other")
    (run / "metrics.csv").write_text(rows)
    text = Page(write_report(run)).text
    assert (
        "The teacher's scores on LFW are not shown: scores/lfw.teacher.npz is not in the run folder; "
        "evaluate the run again." in text
    )
    assert "metrics.csv holds no value of val/cosine." in text
    assert not (run / "figures" / "lfw-scores-teacher.png").exists()
    assert (run / "figures" / "lfw-roc.png").exists()


def test_lfw_that_nobody_asked_for_is_named(run: Path) -> None:
    _edit(run / "results.json", student={"protocols": {}}, teacher={"protocols": {}}, absent={})
    text = Page(write_report(run)).text
    assert "LFW was not evaluated: results.json does not name it; set evaluation.protocols=[lfw]." in text


def test_escapes_hostile_text(run: Path) -> None:
    _without_curves(run)
    attack = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7 * 7 }}"
    licence = dict.fromkeys(("asset", "licence", "note", "origin"), attack)
    _edit(
        run / "run.json", id=attack, status=attack, command=attack, git=attack, versions={attack: attack},
        licences=[licence], export={attack: attack}, time_share={attack: 0.5, "student": 0.5},
    )  # fmt: skip
    results = json.loads((run / "results.json").read_text())
    tar = {"tar": 0.5, "ci": [0.4, 0.6]}
    results["student"]["protocols"]["a$b <b>"] = {"accuracy": 0.5, "tar": {"<b>": "<script>", "1e-2": tar}}
    _edit(run / "results.json", student=results["student"], absent={"<i>": attack})
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("asset: w600k_mbf", f"asset: {json.dumps(attack)}"))
    written = write_report(run)
    page, text = Page(written), written.read_text()
    assert "script" not in page.tags
    assert "<script>" not in text
    assert "<img src=x" not in text
    assert html.escape("<script>alert(1)</script>") in text
    assert "{{ 7 * 7 }}" in text


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("run.json", {"licences": ["MIT"]}, "licences.0 is a str instead of an object"),
        ("results.json", {"absent": {"lfw": 1}}, "absent.lfw is a int instead of a text"),
        ("results.json", {"titles": {"lfw": []}}, "titles.lfw is a list instead of a text"),
    ],
)
def test_refuses_values_of_another_kind(run: Path, name: str, changes: dict, reason: str) -> None:
    _edit(run / name, **changes)
    with pytest.raises(DataError, match=re.escape(f"{run / name}: {reason}; ")):
        write_report(run)


def test_parts_of_another_shape_are_not_shown(run: Path) -> None:
    _without_curves(run)
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("teacher:\n", "teacher:\n  others: [1]\n", 1))
    assert "others" in (run / "config.yaml").read_text()
    figures = {"lfw": {"accuracy": 0.9, "tar": [1]}}
    yaw = {"protocol": "lfw", "buckets": [3, {"low": "a", "high": 3}]}
    _edit(run / "results.json", student={"protocols": figures, "yaw": yaw})
    faces = np.load(run / "faces.npz")
    np.savez(run / "faces.npz", **{key: faces[key][:0] for key in faces.files})
    assert "No faces are shown" in write_report(run).read_text()


@pytest.mark.parametrize("name", ["config.yaml", "run.json"])
def test_refuses_what_is_not_a_run(run: Path, name: str) -> None:
    (run / name).unlink()
    with pytest.raises(UserError) as caught:
        main([str(run)])
    assert (
        str(caught.value) == f"{run} is not a run: it has no {name}; give a folder such as runs/<name>-<id>"
    )
    assert not (run / "report.html").exists()


def test_refuses_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        main([str(tmp_path / "nowhere")])
    assert str(caught.value) == (
        f"there is no run folder {tmp_path / 'nowhere'}; give a folder such as runs/<name>-<id>"
    )


def test_one_bad_folder_leaves_the_good_one_alone(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        main([str(run), str(tmp_path)])
    assert not (run / "report.html").exists()


def test_the_command_prints_the_table_and_where_the_report_is(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _without_curves(run)
    assert main([str(run)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("LFW (6,000 pairs: 3,000 genuine, 3,000 impostor)\n")
    assert printed.endswith(f"report   {run / 'report.html'}\n")


def test_a_broken_scores_file_stops_the_report(run: Path) -> None:
    (run / "scores" / "lfw.student.npz").write_bytes(b"not a zip")
    with pytest.raises(DataError, match=r"lfw\.student\.npz cannot be read"):
        write_report(run)
