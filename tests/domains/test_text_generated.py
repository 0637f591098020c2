"""The embedded reviews and passages: what they are made of, and how hard they are."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict

from gapshift.domains.base import Dataset, Text
from gapshift.domains.readers import passages, sentiment
from gapshift.domains.readers.grammar import Draws, fill, sentence_case
from gapshift.domains.spans import span_records, span_targets
from gapshift.domains.text import learn, length, prepare_many
from gapshift.errors import DataError
from gapshift.schema import OUTCOMES, SPECIAL_TOKENS, TextPreprocessing

DIGESTS = {
    "sentiment": "5cc74013ce873bcb9d39bfb690e6bd8756c7f8aa1c9f67c318c7e7a2425da29b",
    "passages": "1ccf48bb2f0d9082314d17a24d84186ea28f21457007b5292add86a05e0add44",
}


@pytest.fixture(scope="module")
def reviews() -> Dataset:
    return sentiment.read_sentiment()


@pytest.fixture(scope="module")
def questions() -> Dataset:
    return passages.read_passages()


def _texts(dataset: Dataset) -> list[Text]:
    raws = [dataset.raw(index) for index in range(len(dataset))]
    return [raw for raw in raws if isinstance(raw, Text)]


# ---------------------------------------------------------------------------- in common


@pytest.mark.parametrize("reader", [sentiment.READER, passages.READER], ids=lambda reader: reader.name)
def test_the_same_items_on_every_machine(reader: sentiment.Reader) -> None:
    assert reader.accepts(reader.name)
    assert not reader.accepts("digits")
    dataset = reader.read(reader.name, None)
    assert dataset.domain == "text"
    assert dataset.digest() == DIGESTS[reader.name]
    assert {item.split for item in dataset.items} == {"all"}
    assert {item.level for item in dataset.items} == {None}
    assert re.fullmatch(rf"{reader.name}/00001", dataset.items[1].id)
    assert len(set(_texts(dataset))) == len(dataset)


def test_hashing_at_random_changes_nothing() -> None:
    code = "from gapshift.domains.readers.passages import read_passages; print(read_passages().digest())"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "77"}
    )
    assert run.stdout.strip() == DIGESTS["passages"]


# ------------------------------------------------------------------------------ reviews


def test_reviews_are_balanced_short_and_clustered(reviews: Dataset) -> None:
    assert reviews.classes == ("negative", "positive")
    assert np.bincount([item.label for item in reviews.items]).tolist() == [3000, 3000]
    assert max(length(raw) for raw in _texts(reviews)) <= 31  # beside [CLS] within the usual 32
    clusters = Counter(item.group for item in reviews.items)
    assert len(clusters) > 3000
    assert max(clusters.values()) <= 60


def test_reviews_of_a_cluster_share_label_and_opinion(reviews: Dataset) -> None:
    labels: dict[str | None, set[int]] = {}
    for item in reviews.items:
        labels.setdefault(item.group, set()).add(item.label)
    assert all(len(found) == 1 for found in labels.values())


def test_reviews_that_differ_in_scenery_only_share_a_cluster(reviews: Dataset) -> None:
    things = "|".join(sentiment._THINGS.split())
    clusters: dict[str, set[str | None]] = {}
    for item, raw in zip(reviews.items, _texts(reviews), strict=True):
        core = max(
            re.split(r"(?<=[.…]) ", raw.first), key=lambda part: item.group is not None and _shared(part, item.group)
        )
        clusters.setdefault(re.sub(rf"\b({things})\b", "_", core.lower()), set()).add(item.group)
    assert max(map(len, clusters.values())) == 1


def _shared(sentence: str, group: str) -> int:
    return len(set(re.findall(r"\w+", sentence.lower())) & set(re.findall(r"\w+", group.lower())))


def test_counting_words_answers_plain_reviews_and_fails_on_negated_ones(reviews: Dataset) -> None:
    texts = [raw.first for raw in _texts(reviews)]
    label = np.array([item.label for item in reviews.items])
    groups = [item.group for item in reviews.items]
    counts = CountVectorizer().fit_transform(texts)
    answers = cross_val_predict(LogisticRegression(max_iter=300), counts, label, groups=groups, cv=GroupKFold(4))
    right = answers == label
    negated = np.array(
        [bool(re.search(r"\b(was not|hardly|never|anything but|did not|nobody could)\b", t)) for t in texts]
    )
    assert 0.70 < right.mean() < 0.85
    assert right[negated].mean() < 0.6
    assert negated.mean() > 0.1


def test_model_labels_in_another_order_keep_their_meaning(reviews: Dataset) -> None:
    swapped = sentiment.READER.read("sentiment", ["positive", "negative"])
    assert swapped.classes == ("positive", "negative")
    assert [item.label for item in swapped.items] == [1 - item.label for item in reviews.items]
    with pytest.raises(DataError, match="Item 'sentiment/00000': label 'negative' is none of the classes"):
        sentiment.READER.read("sentiment", ["good", "bad"])


@pytest.mark.parametrize(
    "changes", [{"lowercase": False}, {"strip_accents": False}, {"unicode_form": "NFKC"}, {"max_length": 16}]
)
def test_every_text_environment_reaches_some_reviews(reviews: Dataset, changes: dict[str, object]) -> None:
    raws = _texts(reviews)[:500]
    preprocessing = learn(raws, TextPreprocessing())
    before = prepare_many(raws, preprocessing)
    after = prepare_many(raws, preprocessing.model_copy(update=changes))
    width = after.shape[1]
    changed = (before[:, :width] != after).any(axis=1) | (before[:, width:] != 0).any(axis=1)
    assert changed.mean() > 0.1


# ----------------------------------------------------------------------------- passages


def test_questions_are_answered_in_their_passage(questions: Dataset) -> None:
    assert (len(questions), questions.kind, questions.classes) == (4000, "spans", OUTCOMES)
    assert {item.label for item in questions.items} == {1}
    for raw in _texts(questions):
        assert raw.second is not None
        assert raw.start is not None
        assert raw.second[raw.start : raw.start + len(raw.answers[0])] == raw.answers[0]
        assert len(raw.second.split()) <= passages.MOST_WORDS


def test_a_passage_is_a_group(questions: Dataset) -> None:
    of_group: dict[str | None, set[str | None]] = {}
    for item, raw in zip(questions.items, _texts(questions), strict=True):
        of_group.setdefault(item.group, set()).add(raw.second)
    assert all(len(found) == 1 for found in of_group.values())
    assert len({next(iter(found)) for found in of_group.values()}) == len(of_group) > 1000


def test_no_answer_occurs_twice_so_that_its_place_is_known(questions: Dataset) -> None:
    values = [(raw.second or "", raw.answers[0]) for raw in _texts(questions) if len(raw.answers) == 1]
    once = [len(re.findall(rf"\b{re.escape(answer)}\b", passage)) == 1 for passage, answer in values]
    assert np.mean(once) > 0.9  # places and things may be named again after the first time


def test_the_true_spans_score_full_marks(questions: Dataset) -> None:
    raws = _texts(questions)[:1000]
    preprocessing = learn(raws, TextPreprocessing(max_length=64))
    assert SPECIAL_TOKENS.index("[PAD]") in prepare_many(raws, preprocessing)[:, -1]
    targets = span_targets(raws, preprocessing)
    scores = np.zeros((len(raws), 2, 64), np.float32)
    scores[np.arange(len(raws))[:, None], [0, 1], targets] = 9.0
    records = span_records(questions.items[:1000], raws, scores, preprocessing)
    assert records.correct.mean() == 1.0
    assert records.score.mean() == 1.0


def test_questions_vary_in_what_makes_them_hard(questions: Dataset) -> None:
    raws = _texts(questions)
    facts = Counter((raw.second or "").count(".") for raw in raws)
    assert set(facts) == {2, 3, 4, 5}
    assert min(facts.values()) > 200
    assert 0.1 < np.mean([bool(re.search(r"\b(It|He|She) ", raw.second or "")) for raw in raws]) < 0.9
    assert 0.05 < np.mean([raw.first.startswith(("Who ", "Whose ")) for raw in raws]) < 0.5


# ------------------------------------------------------------------------------ grammar


def test_draws_follow_their_weights_and_their_seed() -> None:
    draws = Draws(5)
    counts = Counter(draws.zipf("abc") for _ in range(6000))
    assert [counts[letter] / 6000 for letter in "abc"] == pytest.approx([6 / 11, 3 / 11, 2 / 11], abs=0.03)
    assert sorted(Draws(1).some(range(9), 9)) == list(range(9))
    assert [Draws(2).one(range(1000)) for _ in range(2)] == [Draws(2).one(range(1000))] * 2
    assert 0.2 < np.mean([draws.chance(0.3) for _ in range(2000)]) < 0.4


def test_slots_are_filled_within_slots_and_unknown_ones_stay() -> None:
    assert fill("{a} {b} {c}", {"a": lambda: "x{b}", "b": lambda: "y"}) == "xy y {c}"
    assert sentence_case("one. two… élan. 3 x") == "One. Two… Élan. 3 x"
