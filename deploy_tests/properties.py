"""What has to hold of any model, whatever it was trained for: tried by hypothesis, shrunk, said in plain words.

Each property raises AssertionError with the smallest counterexample that was found, and NotApplicableError where it
says nothing about a model. No counterexample is no proof.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from hypothesis import Phase, find, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky, NoSuchExample
from numpy.typing import NDArray

from gapshift.deploy_tests.flushed import flushed_scores, flushes
from gapshift.deploy_tests.probe import Probe
from gapshift.deploy_tests.settings import Limits
from gapshift.domains.tokens import CLS, PAD, SEP, UNK
from gapshift.errors import EvaluationError, NotApplicableError, SkippedError
from gapshift.schema import SPECIAL_TOKENS, TIE_GAP, TextPreprocessing

LARGEST = 1e30
"""How far beyond the data inputs are scaled where the result is only told."""
_TOGETHER = 8
"""Most items that share a batch here."""

_NOTHING = 1e-6
"""A share of the data's size that no answer may hang on."""

Case = TypeVar("Case")
DEFAULTS = Limits()


def batch_invariance(probe: Probe, limits: Limits = DEFAULTS) -> None:
    """An item is answered as it is alone, whoever shares its batch and wherever it stands in it."""
    size = probe.fixed_batch
    if size == 1:
        raise NotApplicableError("the model takes one item at a time, so none shares a batch")
    least, most = (size, size) if size else (2, _TOGETHER)

    def broken(rows: list[int]) -> str | None:
        found = _first_other(probe, rows, probe.alone[rows], probe.scores(probe.inputs[rows]))
        if found is None:
            return None
        place, how = found
        others = ", ".join(repr(probe.ids[row]) for other, row in enumerate(rows) if other != place)
        return f"{_item(probe, rows[place])} in a batch with {others} is answered otherwise than alone: {how}."

    _hold(st.lists(_below(len(probe)), min_size=least, max_size=most), broken, limits)


def order_invariance(probe: Probe, limits: Limits = DEFAULTS) -> None:
    """The same items in another order get the same answers in that order; in the same order, again the same.

    One batch holds them all; for a model with a fixed batch size as many as it takes, and where it takes single items
    they are asked one after the other.
    """
    size = probe.fixed_batch
    usual = np.resize(np.arange(len(probe)), size if size and size > 1 else len(probe)).tolist()
    first = probe.scores(probe.inputs[usual])

    def broken(order: list[int]) -> str | None:
        rows = [usual[place] for place in order]
        found = _first_other(probe, rows, first[order], probe.scores(probe.inputs[rows]))
        if found is None:
            return None
        place, how = found
        moved = f"moved from place {order[place] + 1} to {place + 1} of {len(order)}"
        told = moved if order[place] != place else "asked again" if order == sorted(order) else "with others moved"
        return f"{_item(probe, rows[place])}, {told}, is answered otherwise than before: {how}."

    _hold(_orders(len(usual)), broken, limits)


def finite_outputs(probe: Probe, limits: Limits = DEFAULTS) -> None:
    """Finite inputs give finite outputs: the data's own, times anything from 0 to ``limits.scale``.

    Of texts: whatever the contract's tokeniser can make, from no word to a full input, of any token. The ends are
    always tried, what lies between is drawn.
    """
    how = probe.contract.preprocessing
    if isinstance(how, TextPreprocessing):
        full = [_Edit(0, words, token) for words in (1, how.max_length) for token in (UNK, len(how.vocabulary) - 1)]
        _hold(_edits(probe, how), lambda edit: _broken_text(probe, edit, how), limits, [_Edit(0, 0, None), *full])
        return
    scales, rows = _scales(limits.scale), range(len(probe))
    ends_of_scale = [(scale, row) for scale in (1.0, limits.scale, 0.0) for row in rows]

    def broken(case: tuple[float, int]) -> str | None:
        scale, row = case
        inputs = _scaled(probe.inputs[row : row + 1], scale)
        bad = _badly(probe, inputs)
        far = float(np.abs(inputs.astype(np.float64)).max())
        told = "as it stands" if scale == 1 else f"multiplied by {scale:g}"
        return bad and f"{_item(probe, row)}, {told} (largest magnitude {far:.3g}), {bad}."

    cases = st.tuples(_one_of(scales), _below(len(probe)))
    _hold(cases, broken, limits, ends_of_scale, lambda case: [(scale, case[1]) for scale in scales])


def finite_up_to(probe: Probe) -> float | None:
    """The largest power of ten, at most LARGEST, by which every item's input can be multiplied before an output is
    not finite; None where it means nothing (token ids) or where the items as they stand are broken."""
    if not np.issubdtype(probe.inputs.dtype, np.floating):
        return None
    rows = probe.inputs[np.argsort(-np.abs(probe.inputs.reshape(len(probe), -1)).max(axis=1))[:2]]
    held = None
    for power in range(int(np.log10(LARGEST)) + 1):
        if _badly(probe, _scaled(rows, 10.0**power)):
            break
        held = 10.0**power
    return held


def denormal_inputs(probe: Probe, limits: Limits = DEFAULTS) -> None:
    """Inputs too small for a normal number of their type are answered as zeros are.

    Of float16, whose denormal numbers reach 6e-5, up to a millionth of the data's size.
    """
    kind = probe.inputs.dtype
    if not np.issubdtype(kind, np.floating):
        raise NotApplicableError(f"the model takes {kind}, which has no denormal numbers")
    if flushes():
        raise SkippedError("this process flushes denormal numbers to zero, so there are none to try")
    info = np.finfo(kind)
    least = float(info.smallest_subnormal)
    nothing = np.zeros_like(probe.inputs[:1])
    if bad := _badly(probe, nothing):
        raise AssertionError(f"An input of zeros {bad}.")
    zeros = probe.scores(nothing)

    def broken(case: tuple[int, int]) -> str | None:
        times, row = case[0] + 1, case[1]
        inputs = _of_size(probe.inputs[row : row + 1], times * least)
        shrunk = f"{_item(probe, row)}, shrunk to a largest magnitude of {times * least:.3g} (denormal {kind}),"
        if bad := _badly(probe, inputs):
            return f"{shrunk} {bad}."
        away = float(np.abs(probe.scores(inputs) - zeros).max())
        return f"{shrunk} is answered {away:.3g} away from zeros ({_rounding(probe)})." if away > probe.slack else None

    most = min(float(info.tiny), _NOTHING * float(np.abs(probe.inputs).max())) / least
    _hold(st.tuples(_below(max(1, int(most) - 1)), _below(len(probe))), broken, limits)


def flush_to_zero(probe: Probe, limits: Limits = DEFAULTS) -> None:
    """With ``session.set_denormal_as_zero``, as many servers have it, every item is answered as without.

    Raises SkippedError where ONNX Runtime cannot flush denormal numbers here.
    """
    del limits  # nothing is drawn: every item is asked once
    found = _first_other(probe, list(range(len(probe))), probe.alone, flushed_scores(probe))
    if found is not None:
        row, how = found
        raise AssertionError(
            f"{_item(probe, row)} is answered otherwise where denormal numbers are flushed to zero: {how}."
        )


PROPERTIES: tuple[Callable[[Probe, Limits], None], ...] = (
    batch_invariance,
    order_invariance,
    finite_outputs,
    denormal_inputs,
    flush_to_zero,
)
"""All that is asked of a model itself."""


# ----------------------------------------------------------------------------- the search


def _hold(
    cases: st.SearchStrategy[Case],
    broken: Callable[[Case], str | None],
    limits: Limits,
    first: Iterable[Case] = (),
    simpler: Callable[[Case], Iterable[Case]] = lambda case: (case,),
) -> None:
    """Raise AssertionError with what ``broken`` says of the smallest case that it says something of.

    ``first`` are tried whatever is drawn; of one that is broken the first broken one among ``simpler`` is told.
    """
    for case in first:
        if broken(case) is not None:
            raise AssertionError(next(filter(None, map(broken, simpler(case))), broken(case)))
    searched = settings(
        max_examples=limits.examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
    )
    try:
        smallest = find(cases, lambda case: broken(case) is not None, settings=searched)
    except NoSuchExample:
        return
    except Flaky as error:
        raise AssertionError("The model answered the very same inputs otherwise when it was asked again.") from error
    raise AssertionError(broken(smallest) or "The model answered the very same inputs otherwise the last time.")


def _below(count: int) -> st.SearchStrategy[int]:
    """0 to ``count`` - 1, shrinking towards 0.

    Of booleans: among integers hypothesis mixes constants of whatever modules are loaded, so that every worker of a
    session would try other cases, and a folder of them would be left in the user's.
    """
    bits = max(1, (count - 1).bit_length())
    return st.tuples(*[st.booleans()] * bits).map(
        lambda drawn: sum(2**i * b for i, b in enumerate(drawn[::-1])) % count
    )


def _one_of(values: Sequence[Case]) -> st.SearchStrategy[Case]:
    return _below(len(values)).map(values.__getitem__)


def _orders(count: int) -> st.SearchStrategy[list[int]]:
    """Permutations of ``count`` places, shrinking towards the one that they have."""
    return st.tuples(*[_below(4 * count)] * count).map(lambda keys: sorted(range(count), key=keys.__getitem__))


# ------------------------------------------------------------------------------- answers


def _first_other(
    probe: Probe, rows: list[int], expected: NDArray[np.float64], scores: NDArray[np.float64]
) -> tuple[int, str] | None:
    """The place of the first of these items that is answered otherwise than expected, and how; None where none is.

    Another prediction is let pass where the expected one was a tie.
    """
    before, gaps = probe.decided(rows, expected)
    after, _ = probe.decided(rows, scores)
    both = np.isfinite(scores) & np.isfinite(expected)
    away = np.where(both, np.abs(np.where(both, scores - expected, 0.0)), 0.0).max(axis=1)
    away[(np.isfinite(scores) != np.isfinite(expected)).any(axis=1)] = np.inf
    other = (before != after) & ~(gaps <= TIE_GAP)
    places = np.flatnonzero(other | (away > probe.slack))
    if not len(places):
        return None
    place = int(places[0])
    change = f"{probe.named(int(before[place]))} became {probe.named(int(after[place]))}, " if other[place] else ""
    return place, f"{change}scores up to {away[place]:.3g} away ({_rounding(probe)})"


def _item(probe: Probe, row: int) -> str:
    return f"Item {probe.ids[row]!r}"


def _rounding(probe: Probe) -> str:
    return f"{probe.slack:.3g} counts as rounding"


def _badly(probe: Probe, inputs: NDArray[Any]) -> str | None:
    """How the model fails on inputs, in words; None where every output is a finite number."""
    try:
        scores = probe.scores(inputs)
    except EvaluationError as error:
        return f"is not answered: {str(error).removesuffix('.')}"
    bad = scores[~np.isfinite(scores)]
    return f"is answered with {bad[0]} in {len(bad)} of {scores.size} outputs" if len(bad) else None


# -------------------------------------------------------------------------------- inputs


def _scales(factor: float) -> list[float]:
    """From what is nearest to the data to what is furthest: hypothesis shrinks towards the first."""
    powers = [10.0**power for power in range(-30, 31) if 10.0**power <= factor]
    return [*sorted({*powers, factor}, key=lambda scale: abs(np.log10(scale))), 0.0]


def _scaled(inputs: NDArray[Any], scale: float) -> NDArray[Any]:
    """Inputs times a factor, within what their type can hold."""
    kind = inputs.dtype
    info = np.finfo(kind) if np.issubdtype(kind, np.floating) else np.iinfo(kind)
    made: NDArray[Any] = np.clip(inputs.astype(np.float64) * scale, float(info.min), float(info.max)).astype(kind)
    return made


def _of_size(inputs: NDArray[Any], size: float) -> NDArray[Any]:
    """Inputs whose largest magnitude is ``size``; zeros stay zeros."""
    largest = float(np.abs(inputs).max())
    made: NDArray[Any] = (inputs.astype(np.float64) * (size / largest if largest else 0.0)).astype(inputs.dtype)
    return made


@dataclass(frozen=True)
class _Edit:
    """An item's text of ``words`` tokens: its own from the first on, over and over where they do not last, or all of
    them ``token``."""

    row: int
    words: int
    token: int | None


def _edits(probe: Probe, how: TextPreprocessing) -> st.SearchStrategy[_Edit]:
    last = len(how.vocabulary) - 1
    word = _one_of([UNK, *range(len(SPECIAL_TOKENS), last + 1)])
    token = st.tuples(_below(4), word).map(lambda drawn: (None, UNK, last, drawn[1])[drawn[0]])
    return st.builds(_Edit, _below(len(probe)), _below(how.max_length + 1), token)


def _edited(ids: NDArray[Any], edit: _Edit, how: TextPreprocessing) -> NDArray[Any]:
    """Token ids (L,) as the tokeniser lays them out: special tokens stay, the rest is filled with [PAD]."""
    real = ids[ids != PAD]
    end = real[-1:] if len(real) and real[-1] == SEP else real[:0]
    body = real[: len(real) - len(end)]
    word = ~np.isin(body, (CLS, SEP))
    own = body[word] if word.any() else np.array([UNK], dtype=ids.dtype)
    room = max(0, min(edit.words, len(ids) - len(end) - int((~word).sum())) - int(word.sum()))
    body = np.concatenate([body[~word | (np.cumsum(word) <= edit.words)], np.resize(own, room)])
    if edit.token is not None:
        body = np.where(np.isin(body, (CLS, SEP)), body, edit.token)
    made = np.full_like(ids, PAD)
    text = np.concatenate([body, end])
    place = slice(0, len(text)) if how.padding_side == "right" else slice(len(ids) - len(text), None)
    made[place] = text
    return made


def _broken_text(probe: Probe, edit: _Edit, how: TextPreprocessing) -> str | None:
    ids = _edited(probe.inputs[edit.row], edit, how)
    bad = _badly(probe, ids[None])
    token = "" if edit.token is None else f", all {how.vocabulary[edit.token]!r}"
    told = f"as a text of {edit.words} words{token} (ids {' '.join(map(str, ids[:12].tolist()))} …)"
    return bad and f"{_item(probe, edit.row)}, {told}, {bad}."
