"""The model card of a student: README.md next to its weights, with metadata that Hugging Face reads.

Every figure in it is one of results.json or run.json; what was not measured is named as such.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from facedistill.reporting.figures import Estimate, estimates, part
from facedistill.reporting.numbers import duration, is_number, percent, short, whole
from facedistill.reporting.pages import templates
from facedistill.reporting.record import NETWORKS, Results
from facedistill.reporting.run.absent import not_evaluated
from facedistill.reporting.run.facts import (
    NOT_RECORDED,
    Fact,
    network_name,
    provenance,
    teacher_assets,
    teacher_names,
)
from facedistill.reporting.run.files import RunFiles, read_run
from facedistill.reporting.run.robustness import robustness_table
from facedistill.reporting.run.summary import data_label
from facedistill.reporting.run.thresholds import threshold_rows, transfers, warnings
from facedistill.reporting.run.yaw import yaw_table
from facedistill.reporting.table.results import Block, measured_protocols, results_table
from facedistill.system.files import write_atomically

_TASK = "image-feature-extraction"  # the hub's task for a network from image to embedding
_TYPES = {"tar@": "tar@far=", "tpir@": "tpir@fpir="}  # as the hub names metrics; others keep their name
_NO_TYPE = ("tar_nearest@", "accuracy/", "groups/")
_RESTRICTED = ("non-commercial", "noncommercial", "research", "by-nc")
_FREE = re.compile(r"(?:package )?(apache|mit\b|bsd|cc0|cc-by-4|public domain)", re.I)


def write_model_card(run_dir: Path) -> Path | None:
    """Writes README.md of a run folder from its files alone; the same files give the same bytes.

    Args:
        run_dir: The run folder; config.yaml and run.json must be there.

    Returns:
        The card, or None where the folder holds no student.safetensors to describe.

    Raises:
        UserError: If the folder is not a run or cannot be written.
        DataError: If one of its files is broken.
    """
    if not (run_dir / "student.safetensors").is_file():
        return None
    return write_atomically(run_dir / "README.md", model_card(read_run(run_dir)))


def model_card(files: RunFiles, repo: str | None = None) -> str:
    """The card as text: YAML front matter, then Markdown; its code loads the student from `repo`, org/name, or its file."""
    front = yaml.safe_dump(
        _on_one_line(card_metadata(files)), sort_keys=False, allow_unicode=True, width=10_000
    )
    return f"---\n{front}---\n\n{_body(files, repo or 'student.safetensors')}"


def card_metadata(files: RunFiles) -> dict[str, Any]:
    """The front matter: licence, library, tags, and the measured figures as a model-index, rates as fractions."""
    licences = files.record.licences
    tags = ["face-recognition", "face-verification", "knowledge-distillation", "safetensors"]
    if (files.folder / "student.onnx").is_file():
        tags.append("onnx")
    own = [network_name(files.config, group) for group in ("method", "backbone")]
    metadata: dict[str, Any] = {
        **_licence(licences),
        "library_name": "facedistill",
        "pipeline_tag": _TASK,
        "tags": [*tags, *(re.sub(r"[^a-z0-9]+", "-", name.lower()) for name in own)],
    }
    results = [
        entry for name in measured_protocols(files.results) if (entry := _evaluation(files.results, name))
    ]
    if results:
        metadata["model-index"] = [{"name": _run_id(files), "results": results}]
    return metadata


def _licence(licences: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """A student inherits the terms of what it learned from: none of the hub's licences by itself."""
    if not licences:
        return {"license": "unknown"}
    terms = " ".join(str(licence.get("licence", "")) for licence in licences).lower()
    restricted = any(word in terms for word in _RESTRICTED)
    return {
        "license": "other",
        "license_name": "non-commercial-research" if restricted else "terms-of-its-sources",
    }


def needs_consent(licences: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of those weights whose licence is not plainly one that lets a student be passed on freely."""
    return [
        str(licence.get("asset"))
        for licence in licences
        if not _FREE.match(terms := str(licence.get("licence", "")))
        or any(word in terms.lower() for word in _RESTRICTED)
    ]


def _evaluation(results: Results, protocol: str) -> dict[str, Any] | None:
    figures = results.figures("student", protocol)
    metrics = [
        _metric(name, one)
        for name, one in estimates(figures).items()
        if one.value is not None and not name.startswith(_NO_TYPE)
    ]
    if not metrics:
        return None
    kind = "identification" if part(figures, "identification") else "verification"
    return {
        "task": {"type": _TASK, "name": f"Face {kind}"},
        "dataset": {"type": protocol, "name": results.title(protocol)},
        "metrics": metrics,
    }


def _metric(name: str, one: Estimate) -> dict[str, Any]:
    for prefix, kind in _TYPES.items():
        name = name.replace(prefix, kind)
    metric: dict[str, Any] = {"type": name, "value": one.value, "name": one.label}
    return {**metric, "args": {"interval_95": list(one.interval)}} if one.interval else metric


def _body(files: RunFiles, source: str) -> str:
    environment = templates(__file__, escape=False)
    environment.filters["plain"] = _plain
    blocks = results_table(files.results)
    return environment.get_template("model_card.md").render(
        student=network_name(files.config, "backbone"),
        teacher=teacher_names(files.config),
        teacher_asset=teacher_assets(files.config) or NOT_RECORDED,
        method=network_name(files.config, "method"),
        run_id=_run_id(files),
        embedding_dim=_plain(part(files.config, "backbone", "embedding_dim") or "D"),
        source=source,
        has_onnx=(files.folder / "student.onnx").is_file(),
        blocks=blocks,
        robustness=robustness_table(files.results),
        yaw=yaw_table(files.results),
        thresholds=threshold_rows(files.results),
        warnings=warnings(transfers(files)),
        absent=not_evaluated(files),
        training=_training(files),
        licences=files.record.licences,
        limits=_limits(files, blocks),
        command=_code(files.record.command),
        provenance=provenance(files),
    )


def _run_id(files: RunFiles) -> str:
    return " ".join(str(files.record.id or files.folder.name).split())


def _training(files: RunFiles) -> list[Fact]:
    record, student = files.record, files.results.student
    facts = [
        Fact("Data", data_label(files.config.get("data"))),
        Fact("Images seen", whole(record.images_seen)),
        Fact("Batch size", whole(part(files.config, "data", "batch_size"))),
        Fact("Wall time", duration(record.wall_s)),
        Fact("Parameters", short(student.params)),
        Fact("Multiply-accumulates per face", short(student.macs)),
    ]
    started_from = part(files.config, "backbone", "asset")
    scheme = part(files.config, "quantization", "scheme")
    parity = record.export.get("onnx_min_cosine")
    if started_from:
        facts.insert(1, Fact("Started from", str(started_from)))
    if scheme:
        facts.insert(
            1, Fact("Quantization", f"{scheme}, trained; every figure is that of the student in 8 bits")
        )
    if record.teacher_centers:
        facts.insert(1, Fact("Teacher's class centers", record.teacher_centers))
    if is_number(parity):
        facts.append(Fact("Least cosine of ONNX and PyTorch embeddings", f"{parity:.7f}"))
    return facts


def _limits(files: RunFiles, blocks: list[Block]) -> list[str]:
    """What the files themselves say the student cannot be trusted for."""
    source = str(part(files.config, "data", "source", "_target_") or "")
    synthetic = part(files.config, "data", "synthetic") is not None and not part(files.config, "data", "path")
    limits = []
    if synthetic or source.endswith(("RenderedFaces", "SyntheticIdentityStream")):
        limits.append("It was distilled on rendered faces alone; photographs differ from them.")
    name = part(files.record.stored_faces, "set")
    if name and not synthetic:
        limits.append(
            f"It learned from images of {name}; a benchmark may show people that they show (data audit)."
        )
    if not blocks:
        limits.append("Its accuracy was not measured on any protocol.")
    elif {block.protocol for block in blocks} == {"generated"}:
        limits.append("Its accuracy was measured on rendered faces alone, on no photographs.")
    grouped = [
        b.title for b in blocks if part(files.results.figures("student", b.protocol), "groups", "by_group")
    ]
    limits.append(
        f"Accuracy by group was measured on {', '.join(grouped)} alone."
        if grouped
        else "Accuracy was not measured by group: nothing here says that it is alike for all people."
    )
    lost = _lost_to_teacher(files.results)
    if lost:
        limits.append(lost)
    limits.append("Its figures hold for faces that were detected and aligned as described here.")
    if files.record.status not in ("finished", "trained"):
        limits.append(f"The run is {files.record.status or 'of unknown status'}, not finished.")
    return limits


def _lost_to_teacher(results: Results) -> str:
    parts = []
    for protocol in measured_protocols(results):
        own, teacher = (results.figures(role, protocol).get("accuracy") for role in NETWORKS)
        if is_number(own) and is_number(teacher) and own < teacher:  # type: ignore[operator]
            parts.append(
                f"{results.title(protocol)} {percent(own)} where the teacher reaches {percent(teacher)}"
            )
    return f"It is less accurate than its teacher: {'; '.join(parts)}." if parts else ""


def _plain(value: Any) -> str:
    """Text that stays text in Markdown, inside a table cell too."""
    text = html.escape(" ".join(str(value).split()), quote=False)
    text = re.sub(r"([\\`*_\[\]|#~$])", r"\\\1", text)
    text = re.sub(r"(?i)(:)(?=//)|(?<=\bwww)(\.)", r"\\\g<0>", text)  # bare addresses become links
    return re.sub(
        r"^(\d*)([-+=.)])(?=[-=\s]|$)", r"\1\\\2", text
    )  # lists, headings and rules at the start of a line


def _on_one_line(value: Any) -> Any:
    """Texts without line breaks, which yaml would write as they are: a line `---` ends the front matter."""
    if isinstance(value, dict):
        return {_on_one_line(key): _on_one_line(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_on_one_line(child) for child in value]
    return " ".join(value.split()) if isinstance(value, str) else value


def _code(command: Any) -> str:
    """A command inside a fence that it cannot close."""
    return " ".join(str(command or NOT_RECORDED).replace("```", "'''").split())
