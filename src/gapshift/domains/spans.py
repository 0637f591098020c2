"""Answers that are spans of a passage: targets for training, records from scores.

A network gives two scores for every token, of being the answer's first and its last. The answer
is the span with the highest sum of both among those that lie in the passage, do not end before
they start and have at most ``LONGEST`` tokens; its text is cut from the raw passage.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gapshift.domains.base import Text
from gapshift.domains.squad_metric import exact_match, f1, normalize
from gapshift.domains.tokens import Encoded, encode
from gapshift.errors import DataError, EvaluationError
from gapshift.records import Records
from gapshift.schema import Item, TextPreprocessing

LONGEST = 30
"""Tokens of the longest answer, as in the usual SQuAD decoding."""
CUT = -100
"""Target of a span that truncation cut away; a cross-entropy ignores it."""
_CHUNK = 4_000_000
"""Candidate spans scored at a time: some 32 MB."""


def span_target(raw: Text, preprocessing: TextPreprocessing) -> tuple[int, int] | None:
    """Positions of the first and last token of ``answers[0]`` in the model's input.

    None where truncation cut a part of it away. Raises DataError for a text without an answer
    at its ``start``.
    """
    if raw.second is None or raw.start is None or not raw.answers:
        raise DataError(f"No span to learn: {raw.first!r:.80} needs a second text, answers and a start.")
    stop = raw.start + len(raw.answers[0])
    if raw.second[max(raw.start, 0) : stop] != raw.answers[0]:
        raise DataError(f"Answer {raw.answers[0]!r} does not stand at character {raw.start} of {raw.second!r:.80}.")
    layout = encode(raw, preprocessing)
    inside = [place for place, (begin, end) in enumerate(layout.offsets) if end > raw.start and begin < stop]
    if not inside or inside[0] < layout.kept.start or inside[-1] >= layout.kept.stop:
        return None
    shift = layout.passage - layout.kept.start
    return inside[0] + shift, inside[-1] + shift


def span_targets(raws: Sequence[Text], preprocessing: TextPreprocessing) -> NDArray[np.int64]:
    """``span_target`` of every text, shape (n, 2); CUT where truncation cut the answer away."""
    found = [span_target(raw, preprocessing) or (CUT, CUT) for raw in raws]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def span_probability(scores: NDArray[np.floating], targets: NDArray[np.integer]) -> NDArray[np.float64]:
    """Probability of the true span, softmax over starts times softmax over ends, shape (n,).

    ``scores`` (n, 2, L), ``targets`` (n, 2) token positions. 0 where the target is negative (cut
    away), NaN where a score of the row is not finite.
    """
    logits = _checked(scores, len(targets))
    if targets.size and targets.max() >= logits.shape[2]:
        raise EvaluationError(f"A span ends at token {targets.max()}; the scores cover 0 to {logits.shape[2] - 1}.")
    finite, logits = _finite(logits)
    log = _log_softmax(logits)
    chosen = np.take_along_axis(log, np.maximum(targets, 0)[:, :, None], axis=2)[:, :, 0]
    probability = np.where((targets < 0).any(axis=1), 0.0, np.exp(chosen.sum(axis=1)))
    return np.where(finite, probability, np.nan)


def span_records(
    items: Sequence[Item], raws: Sequence[Text], scores: NDArray[np.floating], preprocessing: TextPreprocessing
) -> Records:
    """Records of one cell from its raw scores, shape (n, 2, max_length).

    ``correct`` is SQuAD's exact match with any accepted answer, ``score`` its F1, ``confidence``
    the span's probability, ``prediction`` a hash of the normalised answer (so that two
    predictions differ where the answers do), ``gap`` the distance of the two best spans over the
    range of all candidates. A row with a non-finite score is wrong, status ``nan_output``,
    confidence NaN; where truncation left no passage there is no span: wrong, prediction -1,
    confidence 0. Raises EvaluationError where scores are not of that shape.
    """
    if len(items) != len(raws):
        raise EvaluationError(f"{len(items)} items and {len(raws)} texts. Give one text per item.")
    finite, logits = _finite(_checked(scores, len(items), preprocessing.max_length))
    layouts = [encode(raw, preprocessing) for raw in raws]
    best = _best(logits, layouts)
    there = finite & (best.start >= 0)
    texts = [_text(*row) for row in zip(raws, layouts, best.start, best.end, there, strict=True)]
    grades = [_grade(text, raw.answers) for text, raw in zip(texts, raws, strict=True)]
    return Records(
        item_id=np.array([item.id for item in items], dtype=np.str_),
        label=np.array([item.label for item in items], dtype=np.int32),
        prediction=np.array([-1 if text is None else _hash(text) for text in texts], dtype=np.int32),
        confidence=np.where(finite, np.where(there, best.probability, 0.0), np.nan),
        correct=np.array([grade[0] for grade in grades], dtype=np.float64),
        gap=np.where(finite, best.gap, np.nan),
        status=np.where(finite, "ok", "nan_output").astype(np.str_),
        score=np.array([grade[1] for grade in grades], dtype=np.float64),
    )


def _grade(text: str | None, answers: Sequence[str]) -> tuple[float, float]:
    """Exact match and F1; no answer is a wrong one."""
    return (0.0, 0.0) if text is None else (float(exact_match(text, answers)), f1(text, answers))


@dataclass(frozen=True, slots=True)
class _Spans:
    """The best span of every row, token positions; start -1 where there is no candidate."""

    start: NDArray[np.intp]
    end: NDArray[np.intp]
    probability: NDArray[np.float64]
    gap: NDArray[np.float64]


def _checked(scores: NDArray[np.floating], n: int, length: int | None = None) -> NDArray[np.float64]:
    logits: NDArray[np.float64] = np.asarray(scores, dtype=np.float64)
    if logits.ndim != 3 or logits.shape[:2] != (n, 2) or logits.shape[2] != (length or logits.shape[2]):
        raise EvaluationError(
            f"Scores of shape {logits.shape} for {n} items; expected ({n}, 2, {length or 'tokens'}): one per token for "
            "beginning the answer, one for ending it. Check model.output and model.output_kind in the contract."
        )
    return logits


def _finite(scores: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which rows are finite, shape (n,), and the scores with zeros in the other rows."""
    finite: NDArray[np.bool_] = np.all(np.isfinite(scores), axis=(1, 2))
    return finite, np.where(finite[:, None, None], scores, 0.0)


def _best(scores: NDArray[np.float64], layouts: Sequence[Encoded]) -> _Spans:
    """The best candidate of every row of finite scores (n, 2, L)."""
    rows = max(1, _CHUNK // (LONGEST * scores.shape[2]))
    parts = [_best_of(scores[at : at + rows], layouts[at : at + rows]) for at in range(0, max(len(scores), 1), rows)]
    return _Spans(*(np.concatenate([getattr(part, name) for part in parts]) for name in _Spans.__dataclass_fields__))


def _best_of(scores: NDArray[np.float64], layouts: Sequence[Encoded]) -> _Spans:
    sums = _candidates(scores, layouts)
    n, width, length = sums.shape
    flat = sums.reshape(n, width * length)
    top = flat.argmax(axis=1)
    more, start = np.divmod(top, length)
    log = _log_softmax(scores)
    row = np.arange(n)
    none = np.isneginf(flat[row, top])
    probability = np.exp(log[row, 0, start] + log[row, 1, start + np.where(none, 0, more)])
    return _Spans(np.where(none, -1, start), np.where(none, -1, start + more), probability, _gaps(flat))


def _candidates(scores: NDArray[np.float64], layouts: Sequence[Encoded]) -> NDArray[np.float64]:
    """Half the score of the span of ``more + 1`` tokens from ``start``, shape (n, more, start); -inf where
    that is no candidate. Half, so that no sum overflows."""
    n, _, length = scores.shape
    first = np.array([layout.passage for layout in layouts], dtype=np.intp)[:, None]
    after = first + np.array([layout.kept.stop - layout.kept.start for layout in layouts], dtype=np.intp)[:, None]
    position = np.arange(length)
    inside = (first <= position) & (position < after)
    starts = np.where(inside, scores[:, 0] / 2, -np.inf)
    ends = np.where(inside, scores[:, 1] / 2, -np.inf)
    sums = np.full((n, min(LONGEST, length), length), -np.inf)
    for more in range(sums.shape[1]):
        sums[:, more, : length - more] = starts[:, : length - more] + ends[:, more:]
    return sums


def _gaps(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of the two best candidates over the range of all; 1 where no other one could win."""
    some = np.isfinite(sums)
    highest = np.partition(sums, -2, axis=1)[:, -2:]
    lowest = np.where(some, sums, np.inf).min(axis=1)
    alone = some.sum(axis=1) < 2
    best, second = (np.where(alone, 0.0, column / 2) for column in (highest[:, 1], highest[:, 0]))
    spread = best - np.where(alone, 0.0, lowest / 2)
    gaps = np.divide(best - second, spread, out=np.zeros(len(sums)), where=spread > 0)
    return np.where(alone, 1.0, gaps)


def _log_softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):  # a difference beyond the largest float is -inf, whose exp is 0 as it should be
        below = scores - scores.max(axis=-1, keepdims=True)
    log: NDArray[np.float64] = below - np.log(np.exp(below).sum(axis=-1, keepdims=True))
    return log


def _text(raw: Text, layout: Encoded, start: int, end: int, there: bool) -> str | None:
    """The answer, cut from the raw passage; None where there is none."""
    if not there or raw.second is None:
        return None
    shift = layout.kept.start - layout.passage
    return raw.second[layout.offsets[start + shift][0] : layout.offsets[end + shift][1]]


def _hash(answer: str) -> int:
    """A non-negative 31-bit number, the same on every machine; distinct answers rarely share one."""
    return int.from_bytes(hashlib.sha256(normalize(answer).encode()).digest()[:4]) & 0x7FFFFFFF
