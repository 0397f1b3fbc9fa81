"""The report of a run: reads the run folder's files, writes figures/*.png and one self-contained report.html."""

from facedistill.reporting.page import write_report

__all__ = ["write_report"]
