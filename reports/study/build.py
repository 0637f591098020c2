"""The study part of a run's summary, from its files alone."""

from __future__ import annotations

from gapshift.reports.planned import MeasuredRun
from gapshift.reports.study.absolute import absolute_rows
from gapshift.reports.study.agreement import agreement_rows
from gapshift.reports.study.claims import RULE, claim_rows
from gapshift.reports.study.critical import critical_rows
from gapshift.reports.study.deployed import read_deployed, resamplers
from gapshift.reports.study.learnable import task_rows
from gapshift.reports.study.matrix import matrix_rows
from gapshift.reports.study.measures import measure_rows
from gapshift.reports.study.reading import read_study
from gapshift.reports.study.recovery import recovery_rows
from gapshift.reports.study.regimes import regime_rows
from gapshift.reports.study.scale import scale_row
from gapshift.reports.study.shuffled import shuffled_rows
from gapshift.reports.study.transfer import lost_trunks, transfer_means, transfer_rows
from gapshift.reports.study.values import Json
from gapshift.reports.study.widths import width_rows
from gapshift.workspace import Workspace

NOTES = (
    "All numbers here are from the training framework's own answers on held-out items, but for critical levels and "
    "rank agreement, which compare deployed models with them.",
    "Intervals are at 95%, over seeds and items; each is looked at by itself, without a correction for their number.",
    "ECE per level is descriptive: levels select on outcomes, so that even a calibrated model has one there.",
    "A task is learnable where the lower end of the iid models' mean accuracy lies 5 pp above chance; other tasks "
    "enter no claim, nor do tasks whose levels are too unreliable (split-half below 0.5).",
    f"How claims are judged. {RULE}",
)


def study_json(workspace: Workspace, run: MeasuredRun) -> Json | None:
    """Everything that a study compares (strict JSON types), or None where nothing was trained.

    Every row's keys are in the docstring of the function that makes it. E stands for
    {"estimate", "low", "high"} or null. Raises WorkspaceError where ``items.parquet`` or
    ``measures.parquet`` cannot be read; a model whose answers cannot be used makes null what
    needs it.
    """
    if not run.plan.runs:
        return None
    study = read_study(workspace, run)
    deployed, draws = read_deployed(study, run), resamplers(study)
    return {
        "notes": [*NOTES, *lost_trunks(study)],
        "tasks": task_rows(study),
        "scale": scale_row(study.cards),
        "absolute": absolute_rows(study),
        "measures": measure_rows(workspace, study),
        "matrix": matrix_rows(study),
        "regimes": regime_rows(study),
        "shuffled": shuffled_rows(study),
        "transfer": transfer_rows(study),
        "transfer_mean": transfer_means(study),
        "widths": width_rows(study),
        "recovery": recovery_rows(study),
        "critical": critical_rows(deployed, draws, study.rule.level),
        "agreement": agreement_rows(deployed, draws, study.rule.level),
        "claims": claim_rows(study),
    }
