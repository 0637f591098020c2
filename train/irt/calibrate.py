"""From responses to rated items and the card that says how far to trust the ratings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from scipy.stats import spearmanr

from gapshift.errors import CalibrationError, GapshiftError
from gapshift.records import ITEM_SCHEMA
from gapshift.schema import CalibrationCard, Item
from gapshift.train.irt import engine as engine_named
from gapshift.train.irt import pyirt
from gapshift.train.irt.base import Engine, Floats, ItemParameters, first_few, fixed_guessing, right_or_wrong
from gapshift.train.irt.levels import absolute_levels, levels
from gapshift.train.irt.link import LINKING_ASSUMPTION, link_parameters
from gapshift.train.irt.reliability import Bands, gated_bands, split_half

CROSS_CHECK_RESPONSES = 1_500_000
"""Up to this many responses py-irt's 1PL is run too: about 8 s on one core (5 s per million)."""
_ADVISED_RUNS = 12
_FEWEST_TOLD_APART = 10
_SOFTER_THAN_RIGHT = 0.03
_NO_GUESSING = "Guessing is taken as 0, which is right for spans and episodes; K-way classification needs 1/K."


@dataclass(frozen=True, eq=False)
class Calibration:
    """Rated items of one task, in the order of ``item_ids``.

    ``parameters`` are linked: the responders' abilities have mean 0 and sd 1. ``level``
    is the quintile, ``level_abs`` the level by fixed cut-offs, ``proportion_correct`` the
    mean response; each of shape (items,).
    """

    item_ids: tuple[str, ...]
    parameters: ItemParameters
    level: NDArray[np.int8]
    level_abs: NDArray[np.int8]
    proportion_correct: Floats
    card: CalibrationCard

    def table(self, items: Sequence[Item]) -> pa.Table:
        """``items`` with their ratings, in their order, in the columns of ITEM_SCHEMA.

        Raises CalibrationError unless the items are exactly the calibrated ones.
        """
        rows = self._rows(items)
        rated: dict[str, NDArray[Any]] = {
            "b": self.parameters.b,
            "a": self.parameters.a,
            "c": self.parameters.c,
            "se_b": self.parameters.se_b,
            "level": self.level,
            "level_abs": self.level_abs,
            "proportion_correct": self.proportion_correct,
        }
        columns = {
            "id": [item.id for item in items],
            "task": [self.card.task] * len(items),
            "split": [item.split for item in items],
            "label": [item.label for item in items],
            "group": [item.group for item in items],
            **{name: values[rows] for name, values in rated.items()},
            "chance": [None] * len(items),
        }
        return pa.table(columns, schema=ITEM_SCHEMA)

    def _rows(self, items: Sequence[Item]) -> NDArray[np.intp]:
        position = {name: row for row, name in enumerate(self.item_ids)}
        ids = [item.id for item in items]
        unknown = [name for name in ids if name not in position]
        unrated = sorted(set(self.item_ids) - set(ids))
        if unknown or unrated or len(ids) != len(position):
            raise CalibrationError(
                f"The items are not the calibrated ones: "
                f"{len(unknown)} without a rating ({first_few(unknown) or 'none'}), "
                f"{len(unrated)} rated but not given ({first_few(unrated) or 'none'}), "
                f"{len(ids) - len(set(ids))} given more than once. Calibrate the same data set that the table is for."
            )
        return np.array([position[name] for name in ids], dtype=np.intp)


def calibrate(
    responses: ArrayLike,
    item_ids: Sequence[str],
    *,
    task: str,
    guessing: ArrayLike,
    engine: str = "em",
    runs: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    cross_check: bool | None = None,
    seed: int = 0,
) -> Calibration:
    """Rate items by responses (responders, items) in [0, 1], NaN missing.

    ``guessing``: 1/K for classification into K classes, 0 where nothing can be guessed.
    ``runs`` names each responder's run (checkpoints of one run share it); without it every
    responder counts as a run. ``names`` (recipe and checkpoint) mean the same responders on
    other tasks: their linked abilities then stand on the card. ``cross_check`` also runs the
    other engine (py-irt's 1PL, or em where the engine is py-irt) and states the rank
    correlation of b: True always, False never, None where it takes at most about ten seconds
    and py-irt is there. Both then rate the same right and wrong answers, since py-irt takes no
    soft ones, and are compared on the items that have both: it orders the others at random.

    Raises CalibrationError for responses, ids, runs or names that cannot be used and for a forced
    cross-check that cannot run; UnknownNameError for an unknown engine.
    """
    chosen = engine_named(engine)
    matrix = np.asarray(responses, dtype=np.float64)
    _check_names(names, matrix)
    parameters = link_parameters(chosen.fit(matrix, guessing, seed))
    level, tie_share = levels(parameters.b, item_ids)
    guessed = bool(fixed_guessing(guessing, matrix.shape[1]).any())
    found = _Found(
        reliability=split_half(matrix, chosen, guessing=guessing, runs=runs, seed=seed),
        independent=len(set(runs)) if runs is not None else len(matrix),
        converged=parameters.converged,
        guessed=guessed,
        tie_share=tie_share,
        softness=_softness_note(matrix, guessed),
        agreement=_agreement(matrix, guessing, chosen, parameters.b, cross_check, seed),
    )
    return Calibration(
        item_ids=tuple(item_ids),
        parameters=parameters,
        level=level,
        level_abs=absolute_levels(parameters.b),
        proportion_correct=np.nanmean(matrix, axis=0),
        card=_card(task, chosen, matrix, parameters, found, names),
    )


Agreement = tuple[float | None, str]
"""Rank correlation of b with the second engine, None where there is none; and what to say of it."""


@dataclass(frozen=True)
class _Found:
    """What a calibration found out about itself."""

    reliability: float | None
    independent: int
    converged: bool
    guessed: bool
    tie_share: float
    softness: str
    agreement: Agreement


def _check_names(names: Sequence[str] | None, matrix: Floats) -> None:
    if names is None:
        return
    again = [name for name, count in Counter(names).items() if count > 1]
    if len(names) != len(matrix) or again:
        raise CalibrationError(
            f"{len(names)} responder names for {len(matrix)} responders, {len(again)} of them more than once "
            f"({first_few(again) or 'none'}). Give every responder one name of its own, or leave `names` out."
        )


def _card(
    task: str,
    chosen: Engine,
    matrix: Floats,
    parameters: ItemParameters,
    found: _Found,
    names: Sequence[str] | None,
) -> CalibrationCard:
    responders, items = matrix.shape
    return CalibrationCard(
        task=task,
        engine=chosen.name,
        items=items,
        responders=responders,
        guessing=_common(parameters.c),
        split_half=found.reliability,
        rank_correlation_py_irt=found.agreement[0],
        gated_bands=gated_bands(found.reliability),
        tie_share=found.tie_share,
        abilities=dict(zip(names, parameters.theta.tolist(), strict=True)) if names is not None else {},
        notes=tuple(note for note in (*_notes(found), LINKING_ASSUMPTION if names is not None else "") if note),
    )


def _notes(found: _Found) -> tuple[str, ...]:
    return (
        _reliability_note(found.reliability, gated_bands(found.reliability)),
        _runs_note(found.independent),
        _convergence_note(found.converged),
        _tie_note(found.tie_share),
        found.softness,
        "" if found.guessed else _NO_GUESSING,
        found.agreement[1],
    )


def _common(c: Floats) -> float | None:
    return float(c[0]) if (c == c[0]).all() else None


# ------------------------------------------------------------------------ the cross-check


def _agreement(
    matrix: Floats, guessing: ArrayLike, chosen: Engine, b: Floats, cross_check: bool | None, seed: int
) -> Agreement:
    reason = _why_not(matrix, chosen, cross_check)
    if reason:
        return None, f"Not cross-checked with a second engine: {reason}."
    other = engine_named("py-irt" if chosen.name == "em" else "em")
    answers = right_or_wrong(matrix)
    try:
        first = b if chosen.name != "em" or _hard(matrix) else chosen.fit(answers, guessing, seed).b
        second = other.fit(answers, guessing, seed).b
    except Exception as error:
        if cross_check and isinstance(error, GapshiftError):
            raise
        problem = f"The cross-check with {other.name} failed: {_named(error)}."
        if cross_check:
            raise CalibrationError(
                f"{problem} Calibrate without --cross-check; the engine's own ratings stand."
            ) from error
        return None, problem  # nobody asked for it, so its failure does not cost the calibration
    told_apart = np.nanmin(answers, axis=0) < np.nanmax(answers, axis=0)
    correlation = _rank_correlation(first[told_apart], second[told_apart])
    if correlation is None:
        return None, (
            f"The cross-check with {other.name} gave no rank correlation: one engine rates all items alike, or fewer "
            f"than {_FEWEST_TOLD_APART} items are right for some responders and wrong for others."
        )
    return correlation, _cross_check_note(chosen, other, guessing, correlation, matrix, float(told_apart.mean()))


def _rank_correlation(first: Floats, second: Floats) -> float | None:
    if len(first) < _FEWEST_TOLD_APART or not (np.ptp(first) > 0 and np.ptp(second) > 0):
        return None
    return float(spearmanr(first, second).statistic)


def _hard(matrix: Floats) -> bool:
    return bool(np.isin(matrix[~np.isnan(matrix)], (0.0, 1.0)).all())


def _named(error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    return text if isinstance(error, GapshiftError) else f"{type(error).__name__}: {text}".removesuffix(": ")


def _why_not(matrix: Floats, chosen: Engine, cross_check: bool | None) -> str | None:
    if cross_check is False:
        return "it was switched off"
    if cross_check or chosen.name != "em":
        return None
    answered = int((~np.isnan(matrix)).sum())
    if answered > CROSS_CHECK_RESPONSES:
        return f"{answered:,} responses are more than {CROSS_CHECK_RESPONSES:,}; ask for it with --cross-check"
    return pyirt.unavailable()


def _cross_check_note(
    chosen: Engine, other: Engine, guessing: ArrayLike, correlation: float, matrix: Floats, told_apart: float
) -> str:
    ranks = f"Rank correlation of b between {chosen.name} and {other.name}: {correlation:.3f}"
    if told_apart < 1:
        ranks += f", over the {told_apart:.0%} of the items that some responders got right and others wrong"
    soft = "" if _hard(matrix) else " Both rated right and wrong answers there; em's ratings use the soft responses."
    guessed = fixed_guessing(guessing, matrix.shape[1]).any()
    return f"{ranks}.{soft}" + (" py-irt knows no guessing, which lowers it." if guessed else "")


# ------------------------------------------------------------------------------- the notes


def _reliability_note(reliability: float | None, bands: Bands) -> str:
    if len(bands) == 5:
        return ""
    gated = (
        "three bands are gated instead: levels 1-2, 3 and 4-5"
        if len(bands) == 3
        else "all items are gated together, and a pass needs --allow-unlevelled"
    )
    if reliability is None:
        return f"The reliability of the levels could not be measured (it needs at least two independent runs): {gated}."
    bound = "0.80" if len(bands) == 3 else "0.50"
    return (
        f"Split-half reliability {reliability:.2f} is below {bound}, too low for five levels: {gated}. "
        "More independent runs raise it."
    )


def _runs_note(independent: int) -> str:
    if independent >= _ADVISED_RUNS:
        return ""
    return f"Only {independent} independent run(s) of responders; {_ADVISED_RUNS} or more are advised."


def _convergence_note(converged: bool) -> str:
    if converged:
        return ""
    return (
        "The scale of b is rough, and level_abs with it: the responders differ so little in ability that the engine "
        "stopped at its limit of rounds. The order of the items, and so their levels 1-5, is not touched by that."
    )


def _tie_note(tie_share: float) -> str:
    return (
        f"{tie_share:.1%} of the items share their difficulty with another level; a hash of the id decided."
        if tie_share
        else ""
    )


def _softness_note(matrix: Floats, guessed: bool) -> str:
    """Probabilities set the absolute scale, and may be low where answers are right.

    Only of classes is a soft response a probability, and right where it is at least 0.5.
    """
    known = matrix[~np.isnan(matrix)]
    mean, right = float(known.mean()), float(right_or_wrong(known).mean())
    if not guessed or _hard(matrix) or right - mean < _SOFTER_THAN_RIGHT:
        return ""
    return (
        f"The mean probability of the truth is {mean:.2f}, while {right:.0%} of the answers give it 0.5 or more: the "
        "responders are less sure than right. level_abs follows the probabilities and calls the task harder than its "
        "right answers do."
    )
