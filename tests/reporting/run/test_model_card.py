"""The model card: front matter that Hugging Face reads and that says what results.json says."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from facedistill.cli.report import main
from facedistill.reporting.run.model_card import write_model_card
from facedistill.reporting.run.page import write_report
from tests.reporting.fake_run import make_run
from tests.reporting.small_runs import write_small_run


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "demo-1a2b3c4d", protocols=("lfw",), num_faces=1)


@pytest.fixture
def run(whole_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole_run, tmp_path / whole_run.name))


def _card(run: Path) -> tuple[dict, str]:
    written = write_model_card(run)
    assert written == run / "README.md"
    opening, front, body = written.read_text(encoding="utf-8").split("---\n", 2)
    assert opening == ""
    return yaml.safe_load(front), body


def _edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_front_matter_has_the_figures_of_results_json(run: Path) -> None:
    front, _ = _card(run)
    measured = json.loads((run / "results.json").read_text())["student"]["protocols"]["lfw"]
    (index,) = front["model-index"]
    assert index["name"] == "demo-1a2b3c4d"
    (entry,) = index["results"]
    assert entry["dataset"] == {"type": "lfw", "name": "LFW"}
    metrics = {metric["type"]: metric for metric in entry["metrics"]}
    for key in ("accuracy", "auc", "eer"):
        assert metrics[key]["value"] == measured[key]
        assert metrics[key]["args"]["interval_95"] == measured[f"{key}_ci"]
    for far, tar in measured["tar"].items():
        if isinstance(tar, str):
            assert f"tar@far={far}" not in metrics
        else:
            assert metrics[f"tar@far={far}"]["value"] == tar["tar"]
            assert metrics[f"tar@far={far}"]["args"]["interval_95"] == tar["ci"]
    assert {"not measurable"} == {tar for tar in measured["tar"].values() if isinstance(tar, str)}


def test_hugging_face_reads_the_same_from_it(run: Path) -> None:
    front, body = _card(run)
    card = ModelCard.load(run / "README.md")
    assert card.text.strip() == body.strip()
    read = card.data.to_dict()
    assert {key: read[key] for key in front} == front
    assert card.data.eval_results is not None
    values = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert values == {m["type"]: m["value"] for m in front["model-index"][0]["results"][0]["metrics"]}
    assert (front["license"], front["license_name"]) == ("other", "non-commercial-research")
    assert {"synthdistill", "tinyfar-c", "face-recognition"} <= set(front["tags"])


def test_the_text_says_where_the_student_comes_from_and_how_to_use_it(run: Path) -> None:
    _, body = _card(run)
    accuracy = json.loads((run / "results.json").read_text())["student"]["protocols"]["lfw"]["accuracy"]
    for part in (
        "# TinyFaR-C distilled from ArcFaceMobileFaceNet\n",
        "(weights w600k\\_mbf) by the method SynthDistill",
        f"| accuracy | {100 * accuracy:.2f} % | \\[",
        "**LFW**, 6,000 pairs: 3,000 genuine, 3,000 impostor\n",
        "CFP-FP was not evaluated: put cfp112.tar with its pairs\\_FP.tsv into data\\_dir.\n",
        "112 px, aligned by five landmarks to the ArcFace template",
        "127.5) / 127.5 of 8-bit pixels, in [",
        "- Data: rendered, dynamic\n",
        "- Images seen: 1,000,064\n",
        "| w600k\\_mbf | insightface models: non-commercial research only |",
        "```\nfacedistill train backbone=tinyfar_c images=1_000_000\n```\n",
        "- Run: demo-1a2b3c4d\n- Configuration hash: 1a2b3c4d\n",
        "- It was distilled on rendered faces alone; photographs differ from them.\n",
        "- Accuracy was not measured by group:",
        "- It is less accurate than its teacher: LFW ",
    ):
        assert part in body, part


def test_photographs_next_to_rendered_faces_are_named(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "stored_faces": {"set": "utk.tar", "images": 5}}))
    config = run / "config.yaml"
    text = config.read_text().replace("rendered.RenderedFaces", "mixed.MixedFaces\n    share: 0.35")
    config.write_text(text.replace("  batch_size: 128", "  batch_size: 128\n  path: /faces/utk.tar"))
    _, body = _card(run)
    assert "- Data: rendered, dynamic; a share of 0.35 from utk.tar\n" in body
    assert "- It learned from images of utk.tar; a benchmark may show people" in body
    assert "rendered faces alone; photographs differ" not in body


def test_what_was_not_measured_is_no_figure(run: Path) -> None:
    (run / "results.json").unlink()
    (run / "run.json").write_text('{"id": "demo-1a2b3c4d", "status": "interrupted"}')
    front, body = _card(run)
    assert "model-index" not in front
    assert front["license"] == "unknown"
    assert "## Accuracy\n\nNot measured.\n" in body
    assert "- Its accuracy was not measured on any protocol.\n" in body
    assert "- The run is interrupted, not finished.\n" in body
    assert "- Images seen: not measured\n" in body
    assert "The run's record names no weights.\n" in body


def test_accuracy_by_group_is_in_it_where_measured(run: Path) -> None:
    results = json.loads((run / "results.json").read_text())
    groups = {"by_group": {"a": {"accuracy": 0.91, "accuracy_ci": [0.9, 0.92]}}, "accuracy_gap": 0.0}
    results["student"]["protocols"]["lfw"]["groups"] = groups
    _edit(run / "results.json", **results)
    _, body = _card(run)
    assert "| accuracy, a | 91.00 % | \\[90.00, 92.00\\] | not measured |  |\n" in body
    assert "- Accuracy by group was measured on LFW alone.\n" in body


def test_open_weights_are_not_called_restricted(run: Path) -> None:
    _edit(run / "run.json", licences=[{"asset": "own", "licence": "MIT", "note": "", "origin": "us"}])
    assert _card(run)[0]["license_name"] == "terms-of-its-sources"


def test_hostile_text_stays_in_its_place(run: Path) -> None:
    attack = "a | b\n---\n# <script>alert(1)</script> ```` [x](y) *z*"
    licence = dict.fromkeys(("asset", "licence", "note", "origin"), attack)
    _edit(run / "run.json", id=attack, command=f"{attack}\n```\nevil", git=attack, licences=[licence])
    front, body = _card(run)
    assert front["model-index"][0]["name"] == " ".join(attack.split())
    assert "<script>" not in body.replace(
        "```\na | b --- # <script>alert(1)</script> '''` [x](y) *z* ''' evil\n```", ""
    )
    assert "\n# " not in body[1:].replace("\n# TinyFaR", "", 1)
    (row,) = [line for line in body.splitlines() if line.startswith("| a \\| b")]
    assert row.replace("\\|", "").count("|") == 5


def test_no_student_no_card(run: Path) -> None:
    (run / "student.safetensors").unlink()
    assert write_model_card(run) is None
    assert not (run / "README.md").exists()


def test_the_report_command_writes_the_card_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_small_run(tmp_path / "a-00000001")
    (run / "student.safetensors").touch()
    assert main([str(run)]) == 0
    assert capsys.readouterr().out.endswith(f"card     {run / 'README.md'}\nreport   {run / 'report.html'}\n")
    assert (run / "README.md").is_file()


MARK = "\n\n# evil\n---\n<b>&[a](b://c) | `x` *y* ~z~ $q$ www.evil.com\n\n"


def planted(value: object) -> object:
    """`value` with markup at the end of every text and of every key that is not one of a file's own."""
    if isinstance(value, dict):
        return {key: planted(child) for key, child in value.items()}
    if isinstance(value, list):
        return [planted(child) for child in value]
    return f"{value}{MARK}" if isinstance(value, str) else value


def test_markup_in_any_field_of_a_run_stays_text(run: Path) -> None:
    config = planted(yaml.safe_load((run / "config.yaml").read_text()))
    config["backbone"].update(embedding_dim=f"512{MARK}", asset=MARK)
    config["data"]["path"] = MARK
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    record, results = (json.loads((run / name).read_text()) for name in ("run.json", "results.json"))
    record = {
        **planted(record),
        "status": MARK,
        "seed": MARK,
        "images_seen": MARK,
        "stored_faces": {"set": MARK},
    }
    (run / "run.json").write_text(json.dumps(record))
    conditions = {"plain": {"accuracy": 0.9}, MARK: {"accuracy": 0.8}}
    for network in ("student", "teacher"):
        results[network]["robustness"] = {"protocol": MARK, "pairs": MARK, "conditions": conditions}
        figures = results[network]["protocols"]["lfw"]
        figures["tar"] = {f"1e-3{MARK}": {"tar": 0.5, "threshold": 0.2}}
    results["titles"], results["absent"] = {"lfw": MARK, MARK: MARK}, {MARK: MARK}
    (run / "results.json").write_text(json.dumps(results))
    shutil.rmtree(run / "scores")  # drawings cost seconds
    for name in ("metrics.csv", "faces.npz"):
        (run / name).unlink()
    front, body = _card(run)
    assert front["library_name"] == "facedistill"
    text = re.sub(r"```.*?```", "", body, flags=re.S)
    assert body.count("```") % 2 == 0
    assert text.count("evil") > 10
    for markup in ("<b>", "[a](", "b://c", " | `x`", "*y*", "~z~", "$q$", "www.evil", "\n# evil", "\n---\n<"):
        assert re.search(rf"(?<!\\){re.escape(markup)}", text) is None, markup
    page = write_report(run).read_text()
    assert "<b>&amp;[a]" not in page
    assert "<b>&[" not in page
