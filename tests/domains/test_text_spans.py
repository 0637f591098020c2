"""Span answers: the official metric, targets, and records from scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gapshift.domains.base import Text
from gapshift.domains.spans import CUT, LONGEST, span_probability, span_records, span_target, span_targets
from gapshift.domains.squad_metric import exact_match, f1, normalize
from gapshift.domains.text import prepare
from gapshift.errors import DataError, EvaluationError
from gapshift.records import Records
from gapshift.schema import SPECIAL_TOKENS, Item, TextPreprocessing

PASSAGE = "The café  in Paris was opened by Anna-Lena Norström in 1887."
WORDS = ("the", "cafe", "in", "paris", "was", "opened", "by", "1887", ".", "who", "?")
PLAIN = TextPreprocessing(vocabulary=(*SPECIAL_TOKENS, *WORDS), max_length=24)
ANNA = Text("Who?", PASSAGE, ("Anna-Lena Norström", "Norström"), PASSAGE.index("Anna"))
LENGTH = PLAIN.max_length


def _item(index: int = 0) -> Item:
    return Item(f"q/{index}", 1)


def _scores(*peaks: tuple[int, int, float]) -> NDArray[np.float64]:
    """One row of scores, zero but for the peaks: first token, last token, height."""
    scores = np.zeros((1, 2, LENGTH))
    for start, end, height in peaks:
        scores[0, 0, start] += height
        scores[0, 1, end] += height
    return scores


def _records(scores: NDArray[np.floating], raw: Text = ANNA, preprocessing: TextPreprocessing = PLAIN) -> Records:
    return span_records([_item(k) for k in range(len(scores))], [raw] * len(scores), scores, preprocessing)


# -------------------------------------------------------------------------- the metric


@pytest.mark.parametrize(
    ("prediction", "answers", "exact", "grade"),
    [
        ("Denver Broncos", ("Denver Broncos",), True, 1.0),
        ("the Denver Broncos!", ("Denver  broncos",), True, 1.0),
        ("Broncos", ("Denver Broncos",), False, 2 / 3),
        ("Santa Clara, California", ("Levi's Stadium", "Santa Clara California"), True, 1.0),
        ("gold gold", ("gold",), False, 2 / 3),
        ("a theatre", ("theatre",), True, 1.0),
        ("theatre the art", ("theatre art",), True, 1.0),
        ("in 1887", ("1887", "the year 1887"), False, 2 / 3),
        ("silver", ("gold",), False, 0.0),
        ("", ("gold",), False, 0.0),
    ],
)
def test_exact_match_and_f1(prediction: str, answers: tuple[str, ...], exact: bool, grade: float) -> None:
    assert exact_match(prediction, answers) is exact
    assert f1(prediction, answers) == pytest.approx(grade)


def test_normalisation_is_that_of_the_official_script() -> None:
    assert normalize("  An Apple-pie; THE\tbest (a.k.a. 'x') ") == "applepie best aka x"
    assert normalize("theory of another") == "theory of another"
    assert normalize("Norström – 5 €") == "norström – 5 €"


# ------------------------------------------------------------------------------ targets


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_target_is_where_the_answer_s_tokens_stand(side: str) -> None:
    preprocessing = PLAIN.model_copy(update={"padding_side": side})
    paris = Text("Who?", PASSAGE, ("Paris",), PASSAGE.index("Paris"))
    target = span_target(paris, preprocessing)
    assert target is not None
    assert target[0] == target[1]
    assert preprocessing.vocabulary[prepare(paris, preprocessing)[target[0]]] == "paris"


def test_an_answer_of_several_tokens_spans_them() -> None:
    start, end = span_target(ANNA, PLAIN) or (0, 0)
    assert end - start == 3  # Anna, -, Lena, Norström


@pytest.mark.parametrize(
    ("side", "length", "found"), [("right", 14, False), ("right", 15, True), ("left", 11, True), ("left", 10, False)]
)
def test_an_answer_that_truncation_touches_has_no_target(side: str, length: int, found: bool) -> None:
    preprocessing = PLAIN.model_copy(update={"max_length": length, "truncation_side": side})
    assert (span_target(ANNA, preprocessing) is not None) is found
    assert (span_targets([ANNA], preprocessing)[0, 0].item() != CUT) is found


@pytest.mark.parametrize(
    "raw", [Text("Who?"), Text("Who?", PASSAGE), Text("Who?", PASSAGE, ("Paris",)), Text("Who?", PASSAGE, (), 3)]
)
def test_a_text_without_an_answer_has_no_target(raw: Text) -> None:
    with pytest.raises(DataError, match=r"No span to learn: 'Who\?' needs a second text, answers and a start"):
        span_target(raw, PLAIN)


def test_an_answer_that_stands_elsewhere_is_an_error() -> None:
    with pytest.raises(DataError, match=r"Answer 'Paris' does not stand at character 0 of 'The café"):
        span_target(Text("Who?", PASSAGE, ("Paris",), 0), PLAIN)


@given(
    st.lists(st.sampled_from(["the", "café", "zebra", "1887", "(x)", "un-real"]), min_size=1, max_size=12),
    st.data(),
    st.sampled_from(["word", "wordpiece"]),
    st.sampled_from(["left", "right"]),
    st.sampled_from(["left", "right"]),
    st.integers(6, LENGTH),
)
@settings(max_examples=120, deadline=None)
def test_scores_peaked_at_the_target_give_the_answer_back(
    passage: list[str], data: st.DataObject, tokenizer: str, cut: str, padding: str, length: int
) -> None:
    first = data.draw(st.integers(0, len(passage) - 1))
    last = data.draw(st.integers(first, len(passage) - 1))
    answer = " ".join(passage[first : last + 1])
    raw = Text("Who?", " ".join(passage), (answer,), sum(len(word) + 1 for word in passage[:first]))
    preprocessing = TextPreprocessing.model_validate(
        PLAIN.model_dump()
        | {"tokenizer": tokenizer, "truncation_side": cut, "padding_side": padding, "max_length": length}
    )
    target = span_target(raw, preprocessing)
    if target is None or target[1] - target[0] >= LONGEST:
        return
    scores = np.zeros((1, 2, length))
    scores[0, [0, 1], target] = 20.0
    records = _records(scores, raw, preprocessing)
    assert records.score[0] == 1.0 or normalize(answer) == ""
    assert records.correct[0] == 1.0
    assert records.confidence == pytest.approx(span_probability(scores, np.array([target])))


# ------------------------------------------------------------------------------ records


def test_a_right_answer() -> None:
    start, end = span_target(ANNA, PLAIN) or (0, 0)
    records = _records(_scores((start, end, 10.0)))
    assert (records.correct[0], records.score[0], records.status[0], records.label[0]) == (1.0, 1.0, "ok", 1)
    assert records.confidence[0] == pytest.approx((np.exp(10) / (np.exp(10) + LENGTH - 1)) ** 2)
    assert records.gap[0] == pytest.approx(0.5)  # the second best has one of the two peaks
    assert records.item_id[0] == "q/0"


def test_any_accepted_answer_is_right_and_a_part_has_its_f1() -> None:
    start, end = span_target(ANNA, PLAIN) or (0, 0)
    surname, part = _records(_scores((end, end, 9.0))), _records(_scores((start + 2, end, 9.0)))
    assert (surname.correct[0], surname.score[0]) == (1.0, 1.0)
    assert (part.correct[0], part.score[0]) == (0.0, pytest.approx(2 / 3))


def test_predictions_differ_where_answers_do() -> None:
    rows = [span_target(Text("Who?", PASSAGE, (word,), PASSAGE.index(word)), PLAIN) for word in ("Paris", "1887")]
    scores = np.concatenate([_scores((*row, 9.0)) for row in rows if row])
    hashes = _records(np.concatenate([scores, scores])).prediction
    assert hashes[0] == hashes[2] != hashes[1] == hashes[3]
    assert (hashes >= 0).all()
    assert hashes.dtype == np.int32


def test_the_same_answer_in_other_capitals_is_the_same_prediction() -> None:
    raw = Text("Who?", "The cafe. the cafe", ("cafe",), 4)
    at = [place for place, token in enumerate(prepare(raw, PLAIN)) if PLAIN.vocabulary[token] == "the"]
    scores = np.concatenate([_scores((place, place + 1, 9.0)) for place in at])
    assert len(set(_records(scores, raw).prediction.tolist())) == 1


def test_the_question_and_the_padding_never_answer() -> None:
    records = _records(_scores((1, 2, 50.0), (LENGTH - 1, LENGTH - 1, 50.0), (8, 8, 1.0)))
    expected = _records(_scores((8, 8, 1.0)))
    assert records.prediction[0] == expected.prediction[0]


def test_an_answer_does_not_end_before_it_starts_nor_last_longer_than_allowed() -> None:
    raw = Text("Who?", " ".join(f"w{n}" for n in range(60)), ("w0",), 0)
    preprocessing = PLAIN.model_copy(update={"max_length": 64})
    scores = np.zeros((2, 2, 64))
    scores[0, 0, 20] = scores[0, 1, 10] = 9.0
    scores[0, 0, 8] = 8.0
    scores[1, 0, 10], scores[1, 1, 10 + LONGEST], scores[1, 1, 9 + LONGEST] = 9.0, 9.0, 8.0
    records = _records(scores, raw, preprocessing)
    lengths = span_records([_item()], [raw], np.zeros((1, 2, 64)), preprocessing)
    for row, (start, end) in enumerate([(8, 10), (10, 9 + LONGEST)]):
        alone = np.zeros((1, 2, 64))
        alone[0, 0, start] = alone[0, 1, end] = 9.0
        assert records.prediction[row] == _records(alone, raw, preprocessing).prediction[0]
    assert lengths.gap[0] == 0.0


def test_a_tie_has_no_gap_and_a_passage_of_one_token_no_rival() -> None:
    assert _records(np.zeros((1, 2, LENGTH))).gap[0] == 0.0
    assert _records(np.zeros((1, 2, LENGTH)), Text("Who?", "Paris", ("Paris",), 0)).gap[0] == 1.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_a_wrong_answer(bad: float) -> None:
    start, end = span_target(ANNA, PLAIN) or (0, 0)
    scores = np.concatenate([_scores((start, end, 9.0))] * 2)
    scores[1, 1, 0] = bad
    records = _records(scores)
    assert records.status.tolist() == ["ok", "nan_output"]
    assert records.correct.tolist() == [1.0, 0.0]
    assert records.prediction[1] == -1
    assert np.isnan([records.confidence[1], records.gap[1]]).all()
    assert records.score.tolist() == [1.0, 0.0]


def test_a_passage_cut_away_altogether_is_a_wrong_answer_without_confidence() -> None:
    preprocessing = PLAIN.model_copy(update={"max_length": 4})
    raw = Text("Who?", "the", ("the",), 0)  # its normalised answer is empty, as no answer is
    records = _records(np.zeros((1, 2, 4)), raw, preprocessing)
    assert (records.correct[0], records.score[0], records.confidence[0], records.prediction[0]) == (0.0, 0.0, 0.0, -1)
    assert records.status[0] == "ok"


def test_many_rows_are_scored_like_each_alone() -> None:
    preprocessing = PLAIN.model_copy(update={"max_length": 700})
    scores = np.random.default_rng(0).normal(size=(203, 2, 700))  # more than one chunk
    whole, alone = _records(scores, ANNA, preprocessing), _records(scores[-1:], ANNA, preprocessing)
    for name in ("prediction", "confidence", "gap", "score"):
        assert getattr(whole, name)[-1] == getattr(alone, name)[0]


def test_huge_scores_do_not_overflow() -> None:
    scores = np.zeros((1, 2, LENGTH))
    scores[0, :, 8], scores[0, :, 9] = 1.7e308, -1.7e308
    records = _records(scores)
    assert records.status[0] == "ok"
    assert records.confidence[0] == 1.0
    assert 0.0 <= records.gap[0] <= 1.0


def test_no_items_are_no_records() -> None:
    assert len(span_records([], [], np.empty((0, 2, LENGTH)), PLAIN)) == 0


@pytest.mark.parametrize("shape", [(1, 2, LENGTH + 1), (1, LENGTH), (2, 2, LENGTH), (1, 3, LENGTH)])
def test_scores_of_another_shape_are_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(EvaluationError, match=r"Scores of shape .* for 1 items; expected \(1, 2, 24\).*model\.output"):
        span_records([_item()], [ANNA], np.zeros(shape), PLAIN)


def test_items_and_texts_go_together() -> None:
    with pytest.raises(EvaluationError, match="1 items and 0 texts"):
        span_records([_item()], [], np.zeros((1, 2, LENGTH)), PLAIN)


# -------------------------------------------------------------------------- probability


def test_probability_of_the_true_span() -> None:
    scores = np.log(np.array([[[1.0, 3.0], [2.0, 2.0]]] * 4))
    scores[3, 0, 0] = np.nan
    targets = np.array([[1, 1], [0, 1], [CUT, CUT], [1, 1]])
    assert span_probability(scores, targets) == pytest.approx([0.375, 0.125, 0.0, np.nan], nan_ok=True)


def test_a_target_outside_the_scores_is_an_error() -> None:
    with pytest.raises(EvaluationError, match="A span ends at token 5; the scores cover 0 to 3"):
        span_probability(np.zeros((1, 2, 4)), np.array([[1, 5]]))
