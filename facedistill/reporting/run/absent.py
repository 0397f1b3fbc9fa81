"""Says of every part of the report that has nothing to show why that is and what mends it."""

from __future__ import annotations

from facedistill.reporting.numbers import is_number
from facedistill.reporting.run.files import RunFiles
from facedistill.reporting.table.results import NETWORKS, measured_protocols, title_of

CURVES = ("train/loss", "train/cosine", "val/cosine", "lr")


def absent_parts(files: RunFiles) -> dict[str, list[str]]:
    """Finds what is missing, section by section.

    Returns:
        One sentence for each missing thing, under the section it would stand in: "curves", "numbers",
        "scores", "faces", "time", "export", "use", "licences"; sections that miss nothing are not in it.
    """
    parts = {
        "curves": _curves(files),
        "numbers": _numbers(files),
        "scores": _scores(files),
        "faces": []
        if files.faces
        else [
            f"No faces are shown: {_no_file('faces.npz')}; training writes it where faces are rendered for each step."
        ],
        "time": _time(files),
        "export": _export(files),
        "use": _use(files),
        "licences": []
        if files.record.get("licences")
        else ["No licences are listed: run.json names no assets."],
    }
    return {section: sentences for section, sentences in parts.items() if sentences}


def _no_file(name: str) -> str:
    return f"{name} is not in the run folder"


def _curves(files: RunFiles) -> list[str]:
    if not (files.folder / "metrics.csv").is_file():
        return [
            f"Learning curves are not shown: {_no_file('metrics.csv')}; train with logger=csv or "
            "logger=default."
        ]
    if not files.curves:
        return ["Learning curves are not shown: metrics.csv holds no row with images_seen."]
    return [f"metrics.csv holds no value of {name}." for name in CURVES if name not in files.curves]


def _numbers(files: RunFiles) -> list[str]:
    if not (files.folder / "results.json").is_file():
        return [
            f"No accuracy was measured: {_no_file('results.json')}; `facedistill evaluate` on this run "
            "writes it."
        ]
    absent = files.results.get("absent") or {}
    sentences = [
        f"{title_of(name)} was not evaluated: {_clause(str(reason).removeprefix(f'{name} is not here: '))}"
        for name, reason in absent.items()
    ]
    measured = measured_protocols(files.results)
    if not measured:
        sentences.append("No accuracy was measured: results.json holds no protocol.")
    for network in NETWORKS:
        protocols = (files.results.get(network) or {}).get("protocols") or {}
        lacking = [title_of(name) for name in measured if name not in protocols]
        if lacking:
            sentences.append(
                f"The {network} was not measured on {', '.join(lacking)}: results.json has no such entry."
            )
    if "lfw" not in measured and "lfw" not in absent:
        sentences.append(
            "LFW was not evaluated: results.json does not name it; set evaluation.protocols=[lfw]."
        )
    return sentences


def _scores(files: RunFiles) -> list[str]:
    measured = measured_protocols(files.results)
    if not measured:
        return ["Score histograms, ROC and DET are not shown: no protocol was evaluated."]
    return [
        f"The {network}'s scores on {title_of(protocol)} are not shown: "
        f"{_no_file(f'scores/{protocol}.{network}.npz')}; evaluate the run again."
        for protocol in measured
        for network in NETWORKS
        if (protocol, network) not in files.scores and _has_pairs(files, protocol, network)
    ]


def _has_pairs(files: RunFiles, protocol: str, network: str) -> bool:
    """TinyFace's searches have no scores of pairs."""
    protocols = (files.results.get(network) or {}).get("protocols") or {}
    figures = protocols.get(protocol) or {}
    return protocol in protocols and ("pairs" in figures or "identification" not in figures)


def _time(files: RunFiles) -> list[str]:
    share = files.record.get("time_share")
    if isinstance(share, dict) and share and all(map(is_number, share.values())):
        return []
    return ["Where the time went is not shown: run.json has no time_share; training writes it at its end."]


def _export(files: RunFiles) -> list[str]:
    if files.record.get("export"):
        return []
    return [
        "The ONNX export was not compared with the student: run.json has no export; training writes it at "
        "its end."
    ]


def _use(files: RunFiles) -> list[str]:
    names = ("student.safetensors", "student.onnx")
    return [
        f"{_no_file(name)}: training writes it at its end."
        for name in names
        if not (files.folder / name).is_file()
    ]


def _clause(reason: str) -> str:
    text = reason.strip()
    return text if text.endswith((".", "!", "?", "…")) else text + "."
