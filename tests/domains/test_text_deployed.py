"""What a deployed tokeniser does otherwise: white space, special tokens, an older vocabulary, unknown tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gapshift.domains.base import Text
from gapshift.domains.spans import span_records, span_target
from gapshift.domains.text import prepare
from gapshift.domains.tokens import ids_of
from gapshift.schema import SPECIAL_TOKENS, Item, TextPreprocessing, digest

CLS, SEP, UNK, PAD = "[CLS]", "[SEP]", "[UNK]", "[PAD]"
WORDS = tuple(f"word{number}" for number in range(40))
VOCABULARY = (*SPECIAL_TOKENS, "the", "cafe", "is", "good", ".", "...", "good.", "cafe\u0301", "café", "well", *WORDS)
PLAIN = TextPreprocessing(vocabulary=VOCABULARY, max_length=8)


def _how(**changes: Any) -> TextPreprocessing:
    return TextPreprocessing.model_validate(PLAIN.model_dump() | changes)


def _tokens(raw: Text, **changes: Any) -> list[str]:
    found = [VOCABULARY[token] for token in prepare(raw, _how(**changes))]
    return [token for token in found if token != PAD]


# ------------------------------------------------------------------------ white space


@pytest.mark.parametrize(
    ("text", "changes", "tokens"),
    [
        ("good.", {}, ["good", "."]),
        ("good.", {"pre_tokenizer": "whitespace"}, ["good", "."]),
        ("good.", {"pre_tokenizer": "whitespace-split"}, ["good."]),
        ("good...", {}, ["good", ".", ".", "."]),
        ("good...", {"pre_tokenizer": "whitespace"}, ["good", "..."]),
        ("the\u00a0cafe\nis", {}, ["the", "cafe", "is"]),
        ("the\u00a0cafe\nis", {"pre_tokenizer": "whitespace-split"}, ["the", "cafe", "is"]),
        ("the\u00a0cafe\nis good", {"pre_tokenizer": "space"}, [UNK, "good"]),
        ("go\u00adod\u200b", {}, [UNK]),
        ("go\u00adod\u200b", {"clean_text": True}, ["good"]),
        ("the\tcafe", {"clean_text": True}, ["the", "cafe"]),
        ("café", {"strip_accents": False, "unicode_form": "NFD"}, ["cafe\u0301"]),
        ("cafe\u0301", {"strip_accents": False, "unicode_form": "NFC"}, ["café"]),
        ("cafe\u0301", {"strip_accents": False, "unicode_form": "none"}, ["cafe\u0301"]),
        ("ｃafé", {"strip_accents": False, "unicode_form": "NFKD"}, ["cafe\u0301"]),
    ],
)
def test_what_becomes_of_a_text(text: str, changes: dict[str, Any], tokens: list[str]) -> None:
    assert _tokens(Text(text), **changes)[1:] == tokens


# --------------------------------------------------------------------- special tokens


@pytest.mark.parametrize(
    ("template", "single", "pair"),
    [
        ("open", [CLS, "the", "cafe"], [CLS, "the", "cafe", SEP, "is"]),
        ("closed", [CLS, "the", "cafe", SEP], [CLS, "the", "cafe", SEP, "is", SEP]),
        ("bare", ["the", "cafe"], ["the", "cafe", "is"]),
    ],
)
def test_a_template_sets_the_special_tokens(template: str, single: list[str], pair: list[str]) -> None:
    assert _tokens(Text("the cafe"), template=template) == single
    assert _tokens(Text("the cafe", "is"), template=template) == pair


@given(st.sampled_from(["open", "closed", "bare"]), st.integers(0, 12), st.integers(-1, 12), st.integers(4, 9))
@settings(max_examples=60, deadline=None)
def test_no_template_exceeds_the_length_or_loses_its_special_tokens(
    template: str, first: int, second: int, length: int
) -> None:
    raw = Text("good " * first, None if second < 0 else "is " * second)
    found = _tokens(raw, template=template, max_length=length)
    special = {"open": [CLS], "closed": [CLS, SEP], "bare": []}[template]
    special += [SEP] if second >= 0 and template != "bare" else []
    assert [token for token in found if token in (CLS, SEP)] == special
    words = first + max(second, 0)
    assert len(found) == min(words + len(special), length)


# ------------------------------------------------------------------- older vocabulary


@given(st.floats(0, 0.5), st.floats(0, 0.5))
@settings(max_examples=40, deadline=None)
def test_an_older_vocabulary_lacks_its_share_of_the_rarer_half(one: float, other: float) -> None:
    small, large = (ids_of(_how(vocabulary_lacks=share)) for share in sorted([one, other]))
    own = len(VOCABULARY) - len(SPECIAL_TOKENS)
    assert len(small) == len(VOCABULARY) - int(np.ceil(min(one, other) * own))
    assert set(large) <= set(small)
    assert set(VOCABULARY[: len(VOCABULARY) - own // 2]) <= set(large)
    assert all(VOCABULARY[index] == token for token, index in small.items())


def test_missing_words_are_unknown_and_the_others_keep_their_ids_or_move_up() -> None:
    kept = ids_of(_how(vocabulary_lacks=0.2))
    moved = ids_of(_how(vocabulary_lacks=0.2, vocabulary_ids="renumbered"))
    missing = next(word for word in WORDS if word not in kept)
    text, last = Text(f"the {missing} {max(kept, key=kept.__getitem__)}"), len(VOCABULARY) - 1
    assert _tokens(text, vocabulary_lacks=0.2)[2] == UNK
    assert set(kept) == set(moved)
    assert list(moved.values()) == list(range(len(moved)))
    assert kept["the"] == moved["the"]
    assert max(moved.values()) < max(kept.values()) <= last


def test_a_missing_word_becomes_smaller_pieces() -> None:
    pieces = (*SPECIAL_TOKENS, "a", "b", "c", "##a", "##b", "##c", "ab", "##bc", "abc", "bca")
    whole = TextPreprocessing(tokenizer="wordpiece", vocabulary=pieces, max_length=8)
    older = whole.model_copy(update={"vocabulary_lacks": 0.5})
    text = Text("abc bca ab")
    assert [pieces[i] for i in prepare(text, whole)[1:4]] == ["abc", "bca", "ab"]
    found = [pieces[i] for i in prepare(text, older)]
    assert "abc" not in found
    assert "a" in found


def test_the_missing_words_are_the_same_on_every_machine() -> None:
    assert sorted(set(WORDS) - set(ids_of(_how(vocabulary_lacks=0.05)))) == MISSING


MISSING = ["word21", "word36", "word37"]


def test_renumbering_without_missing_tokens_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"vocabulary_ids are renumbered where tokens are missing; set vocab"):
        _how(vocabulary_ids="renumbered")
    with pytest.raises(ValidationError, match=r"less than or equal to 0\.5"):
        _how(vocabulary_lacks=0.6)


# ---------------------------------------------------------------------- unknown tokens


@given(st.text("abc ", max_size=60), st.floats(0, 0.99), st.floats(0, 0.99))
@settings(max_examples=60, deadline=None)
def test_a_higher_rate_hides_the_same_tokens_and_more(text: str, one: float, other: float) -> None:
    raw = Text(text.replace("a", "good ").replace("b", "is ").replace("c", "the "))
    low, high = (np.array(_tokens(raw, unknown_rate=rate, max_length=80)) for rate in sorted([one, other]))
    hidden = low == UNK
    assert (high[hidden] == UNK).all()
    assert (low[~hidden] == np.array(_tokens(raw, max_length=80))[~hidden]).all()
    assert low[0] == CLS


def test_the_rate_is_met_and_texts_have_draws_of_their_own() -> None:
    texts = [" ".join(WORDS[(start + n) % 40] for n in range(60)) for start in range(40)]
    found = [np.array(_tokens(Text(text), unknown_rate=0.2, max_length=61))[1:] == UNK for text in texts]
    assert 0.18 < np.mean(found) < 0.22
    assert len({tuple(row) for row in found}) == 40


def test_what_is_unknown_follows_from_the_text_alone() -> None:
    text = "the cafe is good . well good is the cafe ."
    whole = _tokens(Text(text), unknown_rate=0.3, max_length=12)
    assert whole == [CLS, *EXPECTED]
    assert _tokens(Text(text), unknown_rate=0.3, max_length=6) == whole[:6]
    assert _tokens(Text("good", text), unknown_rate=0.3, max_length=14)[3:] == whole[1:]


EXPECTED = ["the", "cafe", "is", "good", ".", "well", "good", UNK, UNK, "cafe", "."]


# --------------------------------------------------------------------------- the rest


PASSAGE = "The caf\u00e9\u00a0is go\u00adod... well, word3 word7 is the cafe."


@pytest.mark.parametrize(
    "changes",
    [
        {"clean_text": True},
        {"unicode_form": "NFD", "strip_accents": False},
        {"unicode_form": "NFKD"},
        {"pre_tokenizer": "whitespace"},
        {"pre_tokenizer": "whitespace-split"},
        {"pre_tokenizer": "space"},
        {"template": "closed"},
        {"template": "bare"},
        {"template": "closed", "padding_side": "left", "truncation_side": "left"},
        {"vocabulary_lacks": 0.5},
        {"vocabulary_lacks": 0.5, "vocabulary_ids": "renumbered"},
        {"unknown_rate": 0.9},
    ],
    ids=str,
)
def test_a_span_is_cut_from_the_raw_passage_whatever_the_tokens(changes: dict[str, Any]) -> None:
    answer = "word3 word7"
    raw, how = Text("is?", PASSAGE, (answer,), PASSAGE.index(answer)), _how(max_length=40, **changes)
    target = span_target(raw, how)
    assert target is not None
    if not changes.keys() & {"vocabulary_lacks", "unknown_rate"}:
        assert [VOCABULARY[prepare(raw, how)[place]] for place in target] == ["word3", "word7"]
    scores = np.zeros((1, 2, 40))
    scores[0, 0, target[0]] = scores[0, 1, target[1]] = 9
    records = span_records([Item("i", 1)], [raw], scores, how)
    assert records.correct.tolist() == [1.0]
    assert records.score.tolist() == [1.0]


def test_contracts_from_before_keep_their_json_and_digest() -> None:
    assert digest(TextPreprocessing().model_dump(mode="json")) == digest(
        {
            "tokenizer": "word",
            "vocabulary": [],
            "unicode_form": "NFC",
            "strip_accents": True,
            "lowercase": True,
            "max_length": 32,
            "truncation_side": "right",
            "padding_side": "right",
        }
    )
