"""Explains every part of the report that has nothing to show."""

from __future__ import annotations

from facedistill.evaluation.thresholds import thresholds_from_results
from facedistill.reporting.figures import part
from facedistill.reporting.numbers import is_number
from facedistill.reporting.record import NETWORKS
from facedistill.reporting.run.files import RunFiles
from facedistill.reporting.run.robustness import robustness_table
from facedistill.reporting.table.results import measured_protocols

CURVES = ("train/loss", "train/cosine", "val/cosine", "lr")


def absent_parts(files: RunFiles) -> dict[str, list[str]]:
    """One sentence for each missing thing, by section of the report; complete sections are left out."""
    shares = files.record.time_share
    sentences = {
        "curves": _curves(files),
        "numbers": _numbers(files),
        "scores": _scores(files),
        "robustness": [] if robustness_table(files.results) else [
            "Robustness was not measured: results.json has no accuracy under corruptions; "
            "`facedistill evaluate` on this run with evaluation.robustness.protocol=lfw (or generated) measures it."
        ],
        "thresholds": [] if thresholds_from_results(files.results.student.protocols) else [
            "The student has no threshold to decide by: no protocol of pairs was evaluated."
        ],
        "faces": [] if files.faces else [
            f"No faces are shown: {_no_file('faces.npz')}; training writes it if it renders its faces."
        ],
        "time": [] if shares and all(map(is_number, shares.values())) else [
            "Where the time went is not shown: run.json has no time_share; training writes it at its end."
        ],
        "export": [] if files.record.export else [
            "The ONNX export was not compared with the student: run.json has no export; training writes it at its end."
        ],
        "use": [
            f"{_no_file(name)}: training writes it at its end."
            for name in ("student.safetensors", "student.onnx")
            if not (files.folder / name).is_file() and not (name == "student.onnx" and "no_onnx" in files.record.export)
        ],
        "licences": [] if files.record.licences else ["No licences are listed: run.json names no assets."],
    }  # fmt: skip
    return {section: found for section, found in sentences.items() if found}


def not_evaluated(files: RunFiles) -> list[str]:
    """One sentence for each protocol whose files were missing."""
    return [
        f"{files.results.title(name)} was not evaluated: {_without_name(name, reason)}"
        for name, reason in files.results.absent.items()
    ]


def _no_file(name: str) -> str:
    return f"{name} is not in the run folder"


def _curves(files: RunFiles) -> list[str]:
    if not (files.folder / "metrics.csv").is_file():
        return [
            f"Learning curves are not shown: {_no_file('metrics.csv')}; train with logger=csv or logger=default."
        ]
    if not files.curves:
        return ["Learning curves are not shown: metrics.csv holds no row with images_seen."]
    return [f"metrics.csv holds no value of {name}." for name in CURVES if name not in files.curves]


def _numbers(files: RunFiles) -> list[str]:
    if not (files.folder / "results.json").is_file():
        return [
            f"No accuracy was measured: {_no_file('results.json')}; `facedistill evaluate` on this run writes it."
        ]
    results = files.results
    sentences = not_evaluated(files)
    measured = measured_protocols(results)
    if not measured:
        sentences.append("No accuracy was measured: results.json holds no protocol.")
    for network in NETWORKS:
        lacking = [results.title(name) for name in measured if not results.figures(network, name)]
        if lacking:
            sentences.append(
                f"The {network} was not measured on {', '.join(lacking)}: results.json has no such entry."
            )
    if "lfw" not in measured and "lfw" not in results.absent:
        sentences.append(
            "LFW was not evaluated: results.json does not name it; set evaluation.protocols=[lfw]."
        )
    return sentences


def _scores(files: RunFiles) -> list[str]:
    measured = measured_protocols(files.results)
    if not measured:
        return ["Score histograms, ROC and DET are not shown: no protocol was evaluated."]
    return [
        f"The {network}'s scores on {files.results.title(protocol)} are not shown: "
        f"{_no_file(f'scores/{protocol}.{network}.npz')}; evaluate the run again."
        for protocol in measured
        for network in NETWORKS
        if (protocol, network) not in files.scores and _has_pairs(files, protocol, network)
    ]


def _has_pairs(files: RunFiles, protocol: str, network: str) -> bool:
    """TinyFace's searches have no scores of pairs."""
    figures = files.results.figures(network, protocol)
    return bool(figures) and ("pairs" in figures or part(figures, "identification") is None)


def _without_name(name: str, reason: str) -> str:
    text = reason.strip().removeprefix(f"{name} is not here: ")
    return text if text.endswith((".", "!", "?", "…")) else text + "."
