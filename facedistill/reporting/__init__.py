"""The report of a run: from the run folder's files to figures/*.png and one self-contained report.html."""

from facedistill.reporting.run.page import write_report

__all__ = ["write_report"]
