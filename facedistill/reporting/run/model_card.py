"""The model card of a student: README.md beside its weights, with metadata that Hugging Face reads.

Every figure in it is one of results.json or run.json; what was not measured is named as such.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from facedistill.reporting.numbers import duration, is_number, percent, short, whole
from facedistill.reporting.run.facts import NOT_RECORDED, Fact, network_name, provenance
from facedistill.reporting.run.files import RunFiles, read_run
from facedistill.reporting.run.summary import at, data_label
from facedistill.reporting.table.results import Block, measured_protocols, results_table, title_of
from facedistill.reporting.written import write_whole

_TEMPLATES = Path(__file__).resolve().parent / "templates"
_TASK = "image-feature-extraction"  # the hub's task for a network from image to embedding
_RATES = ("accuracy", "auc", "eer")
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
    return write_whole(run_dir / "README.md", model_card(read_run(run_dir)))


def model_card(files: RunFiles) -> str:
    """The card as text: YAML front matter, then Markdown."""
    front = yaml.safe_dump(card_metadata(files), sort_keys=False, allow_unicode=True, width=10_000)
    return f"---\n{front}---\n\n{_body(files)}"


def card_metadata(files: RunFiles) -> dict[str, Any]:
    """The front matter: licence, library, tags, and the measured figures as a model-index, rates as fractions."""
    licences = files.record.get("licences") or []
    tags = ["face-recognition", "face-verification", "knowledge-distillation", "safetensors", "onnx"]
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


def _licence(licences: list[Mapping[str, Any]]) -> dict[str, str]:
    """A student inherits the terms of what it learned from: none of the hub's licences by itself."""
    if not licences:
        return {"license": "unknown"}
    told = " ".join(str(licence.get("licence", "")) for licence in licences).lower()
    restricted = any(word in told for word in _RESTRICTED)
    return {
        "license": "other",
        "license_name": "non-commercial-research" if restricted else "terms-of-its-sources",
    }


def needs_consent(licences: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of those weights whose licence is not plainly one that lets a student be passed on freely."""
    return [
        str(licence.get("asset"))
        for licence in licences
        if not _FREE.match(told := str(licence.get("licence", "")))
        or any(word in told.lower() for word in _RESTRICTED)
    ]


def _evaluation(results: Mapping[str, Any], protocol: str) -> dict[str, Any] | None:
    figures = at(results, "student", "protocols", protocol) or {}
    metrics = [
        _metric(key, title, figures.get(key), figures.get(f"{key}_ci"))
        for key, title in zip(_RATES, ("accuracy", "AUC", "EER"), strict=True)
    ]
    for far, entry in (figures.get("tar") or {}).items():
        metrics.append(_metric(f"tar@far={far}", f"TAR at FAR {far}", at(entry, "tar"), at(entry, "ci")))
    identification = figures.get("identification") or {}
    for rank, entry in (identification.get("rank") or {}).items():
        metrics.append(_metric(f"rank-{rank}", f"rank-{rank}", at(entry, "rate"), at(entry, "ci")))
    for fpir, entry in (identification.get("tpir") or {}).items():
        metrics.append(
            _metric(f"tpir@fpir={fpir}", f"TPIR at FPIR {fpir}", at(entry, "tpir"), at(entry, "ci"))
        )
    measured = [metric for metric in metrics if metric]
    if not measured:
        return None
    return {
        "task": {"type": _TASK, "name": "Face identification" if identification else "Face verification"},
        "dataset": {"type": protocol, "name": title_of(protocol)},
        "metrics": measured,
    }


def _metric(kind: str, name: str, value: Any, interval: Any) -> dict[str, Any] | None:
    if not is_number(value):
        return None
    metric: dict[str, Any] = {"type": kind, "value": value, "name": name}
    if isinstance(interval, list) and len(interval) == 2:
        metric["args"] = {"interval_95": interval}
    return metric


def _body(files: RunFiles) -> str:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=False, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["plain"] = _plain
    blocks = results_table(files.results)
    return environment.get_template("model_card.md").render(
        student=network_name(files.config, "backbone"),
        teacher=network_name(files.config, "teacher"),
        teacher_asset=at(files.config, "teacher", "asset") or NOT_RECORDED,
        method=network_name(files.config, "method"),
        run_id=_run_id(files),
        embedding_dim=at(files.config, "backbone", "embedding_dim") or "D",
        has_onnx=(files.folder / "student.onnx").is_file(),
        blocks=blocks,
        absent=_absent(files.results),
        training=_training(files),
        licences=files.record.get("licences") or [],
        limits=_limits(files, blocks),
        command=_code(files.record.get("command")),
        provenance=provenance(files),
    )


def _absent(results: Mapping[str, Any]) -> list[str]:
    return [
        f"{title_of(name)} was not evaluated: {str(reason).removeprefix(f'{name} is not here: ').rstrip('.')}."
        for name, reason in (results.get("absent") or {}).items()
    ]


def _run_id(files: RunFiles) -> str:
    return " ".join(str(files.record.get("id") or files.folder.name).split())


def _training(files: RunFiles) -> list[Fact]:
    record, student = files.record, files.results.get("student") or {}
    facts = [
        Fact("Data", data_label(files.config.get("data"))),
        Fact("Images seen", whole(record.get("images_seen"))),
        Fact("Batch size", whole(at(files.config, "data", "batch_size"))),
        Fact("Wall time", duration(record.get("wall_s"))),
        Fact("Parameters", short(student.get("params"))),
        Fact("Multiply-accumulates per face", short(student.get("macs"))),
    ]
    started_from = at(files.config, "backbone", "asset")
    parity = at(record, "export", "onnx_min_cosine")
    if started_from:
        facts.insert(1, Fact("Started from", str(started_from)))
    if record.get("teacher_centers"):
        facts.insert(1, Fact("Teacher's class centers", str(record["teacher_centers"])))
    if is_number(parity):
        facts.append(Fact("Least cosine of ONNX and PyTorch embeddings", f"{parity:.7f}"))
    return facts


def _limits(files: RunFiles, blocks: list[Block]) -> list[str]:
    """What the files themselves say the student cannot be trusted for."""
    source = str(at(files.config, "data", "source", "_target_") or "")
    synthetic = at(files.config, "data", "synthetic") is not None and not at(files.config, "data", "path")
    limits = []
    if synthetic or source.endswith(("RenderedFaces", "SyntheticIdentityStream")):
        limits.append("It was distilled on rendered faces alone; photographs differ from them.")
    if not blocks:
        limits.append("Its accuracy was not measured on any protocol.")
    elif {block.protocol for block in blocks} == {"generated"}:
        limits.append("Its accuracy was measured on rendered faces alone, on no photographs.")
    grouped = [
        b.title for b in blocks if at(files.results, "student", "protocols", b.protocol, "groups", "by_group")
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
    if files.record.get("status") not in ("finished", "trained"):
        limits.append(f"The run is {files.record.get('status') or 'of unknown status'}, not finished.")
    return limits


def _lost_to_teacher(results: Mapping[str, Any]) -> str:
    parts = []
    for protocol in measured_protocols(results):
        own, teacher = (at(results, n, "protocols", protocol, "accuracy") for n in ("student", "teacher"))
        if is_number(own) and is_number(teacher) and own < teacher:
            parts.append(f"{title_of(protocol)} {percent(own)} where the teacher reaches {percent(teacher)}")
    return f"It is less accurate than its teacher: {'; '.join(parts)}." if parts else ""


def _plain(value: Any) -> str:
    """Text that stays text in Markdown, inside a table cell too."""
    text = html.escape(" ".join(str(value).split()), quote=False)
    return re.sub(r"([\\`*_\[\]|#])", r"\\\1", text)


def _code(command: Any) -> str:
    """A command inside a fence that it cannot close."""
    return " ".join(str(command or NOT_RECORDED).replace("```", "'''").split())
