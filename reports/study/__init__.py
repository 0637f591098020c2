"""The study's comparisons, from the answers of everything that was trained."""

from gapshift.reports.study.build import study_json

__all__ = ["study_json"]
