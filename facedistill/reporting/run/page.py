"""Writes the report of a run: figures/*.png and report.html, which needs no other file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from facedistill.reporting.pages import png_uri, templates
from facedistill.reporting.record import NETWORKS
from facedistill.reporting.run.absent import absent_parts
from facedistill.reporting.run.curves import learning_drawings
from facedistill.reporting.run.faces import face_cards, faces_drawing, resampling_settings, shown
from facedistill.reporting.run.facts import (
    NOT_RECORDED,
    export_facts,
    headline,
    network_name,
    provenance,
    shell_path,
    teacher_assets,
    teacher_names,
    time_shares,
)
from facedistill.reporting.run.files import RunFiles, read_run
from facedistill.reporting.run.robustness import corrupted_faces, robustness_drawings, robustness_table
from facedistill.reporting.run.thresholds import threshold_rows, transfers, warnings
from facedistill.reporting.run.verification_figures import verification_drawings
from facedistill.reporting.run.yaw import yaw_table
from facedistill.reporting.style import DARK, LIGHT, Drawing
from facedistill.reporting.table.results import measured_protocols, results_table
from facedistill.system.files import write_atomically


@dataclass(frozen=True)
class InlineFigure:
    """A figure as the page holds it: PNGs for light and dark ground as data URIs."""

    title: str
    alt: str
    light: str
    dark: str


@dataclass(frozen=True)
class ProtocolFigures:
    """All figures of one protocol."""

    title: str
    figures: list[InlineFigure]
    worst: list[tuple[str, str]]


def write_report(run_dir: Path) -> Path:
    """Writes figures/*.png and report.html from the files of a run folder alone.

    Args:
        run_dir: The run folder; config.yaml and run.json must be there. Whatever else is missing is named in
            the report.

    Returns:
        The path of report.html.

    Raises:
        UserError: If the folder is not a run or cannot be written.
        DataError: If one of its files is broken.
    """
    run_dir = Path(run_dir)
    files = read_run(run_dir)
    figures = _Figures(run_dir / "figures")
    page = _page(files, figures)
    return write_atomically(run_dir / "report.html", page)


class _Figures:
    """Draws figures, writes each to a file and returns it for the page."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, drawing: Drawing) -> bytes:
        png = drawing.png(LIGHT)
        write_atomically(self.folder / f"{drawing.name}.png", png)
        return png

    def inline(self, drawings: Sequence[Drawing]) -> list[InlineFigure]:
        return [
            InlineFigure(one.title, one.alt, png_uri(self.keep(one)), png_uri(one.png(DARK)))
            for one in drawings
        ]


def _page(files: RunFiles, figures: _Figures) -> str:
    if files.faces is not None:
        figures.keep(faces_drawing(files.faces))
    folder = files.folder
    return (
        templates(__file__)
        .get_template("report.html")
        .render(
            student=network_name(files.config, "backbone"),
            teacher=teacher_names(files.config),
            teacher_asset=teacher_assets(files.config),
            method=network_name(files.config, "method"),
            run_id=files.record.id or folder.name,
            status=files.record.status or "of unknown status",
            headline=headline(files),
            table=results_table(files.results),
            curves=figures.inline(learning_drawings(files.curves)),
            faces=face_cards(files.faces) if files.faces is not None else [],
            faces_in_all=len(files.faces.base) if files.faces is not None else 0,
            faces_shown=len(shown(files.faces)) if files.faces is not None else 0,
            resampling=resampling_settings(files.config),
            protocols=_protocol_figures(files, figures),
            robustness=robustness_table(files.results),
            robustness_figures=figures.inline(robustness_drawings(files.results)),
            corrupted_faces=corrupted_faces(files.faces) if files.faces is not None else [],
            yaw=yaw_table(files.results),
            thresholds=threshold_rows(files.results),
            transfers=(moved := transfers(files)),
            warnings=warnings(moved),
            time_shares=time_shares(files.record),
            export=export_facts(files.record),
            student_path=shell_path(folder, "student.safetensors"),
            onnx_path=shell_path(folder, "student.onnx") if (folder / "student.onnx").is_file() else "",
            provenance=provenance(files),
            command=files.record.command or NOT_RECORDED,
            config_text=files.config_text,
            licences=files.record.licences,
            absent=absent_parts(files),
        )
    )


def _protocol_figures(files: RunFiles, figures: _Figures) -> list[ProtocolFigures]:
    sections = []
    for protocol in measured_protocols(files.results):
        scores = {n: files.scores[protocol, n] for n in NETWORKS if (protocol, n) in files.scores}
        drawn = figures.inline(verification_drawings(protocol, scores, files.results))
        if drawn:
            sections.append(ProtocolFigures(files.results.title(protocol), drawn, _worst(files, protocol)))
    return sections


def _worst(files: RunFiles, protocol: str) -> list[tuple[str, str]]:
    """Network and relative path of each picture of worst errors. They show a benchmark's faces, so the page links them
    and does not contain them."""
    paths = {network: f"worst/{protocol}.{network}.jpg" for network in NETWORKS}
    return [(network, path) for network, path in paths.items() if (files.folder / path).is_file()]
