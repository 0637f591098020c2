"""From a text to token ids, and learning the vocabulary."""

from __future__ import annotations

import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapshift.domains.base import Text
from gapshift.domains.text import learn, length, prepare, prepare_many, rarity
from gapshift.errors import ContractError, DataError, UnreadableItemError
from gapshift.schema import SPECIAL_TOKENS, TextPreprocessing

VOCABULARY = (*SPECIAL_TOKENS, "the", "cafe", "is", "not", "good", ".", "Good", "café", "1", "⁄", "2", "½")
PLAIN = TextPreprocessing(vocabulary=VOCABULARY, max_length=8)
TRAINING = [Text("The café is not good."), Text("The café is good."), Text("A lamp", "is good")]

words = st.lists(st.sampled_from(["the", "café", "is", "GOOD", "zebra", ".", "½"]), max_size=14).map(" ".join)
anything = st.text(st.characters(exclude_categories=("Cs",)), max_size=60)
texts = st.builds(Text, words | anything, st.none() | words | anything)
settings_of_texts = st.builds(
    TextPreprocessing,
    tokenizer=st.sampled_from(["word", "wordpiece"]),
    vocabulary=st.just(VOCABULARY),
    unicode_form=st.sampled_from(["none", "NFC", "NFKC"]),
    strip_accents=st.booleans(),
    lowercase=st.booleans(),
    max_length=st.integers(4, 20),
    truncation_side=st.sampled_from(["left", "right"]),
    padding_side=st.sampled_from(["left", "right"]),
)


def _tokens(raw: Text, **changes: object) -> list[str]:
    preprocessing = PLAIN.model_copy(update=changes)
    return [VOCABULARY[token] for token in prepare(raw, preprocessing)]


# ------------------------------------------------------------------------------ layout


def test_a_text_is_its_words_after_cls_padded_on_the_right() -> None:
    assert _tokens(Text("The café is good.")) == ["[CLS]", "the", "cafe", "is", "good", ".", "[PAD]", "[PAD]"]


def test_a_pair_has_sep_between_its_texts() -> None:
    assert _tokens(Text("Good?", "not good"))[:6] == ["[CLS]", "good", "[UNK]", "[SEP]", "not", "good"]


def test_padding_on_the_left() -> None:
    assert _tokens(Text("the café"), padding_side="left") == ["[PAD]"] * 5 + ["[CLS]", "the", "cafe"]


@pytest.mark.parametrize(("side", "kept"), [("right", ["the", "cafe", "is"]), ("left", ["not", "good", "."])])
def test_a_long_text_is_cut_at_its_side_and_keeps_cls(side: str, kept: list[str]) -> None:
    assert _tokens(Text("The café is not good."), max_length=4, truncation_side=side) == ["[CLS]", *kept]


@pytest.mark.parametrize(("side", "kept"), [("right", ["the", "cafe"]), ("left", ["good", "."])])
def test_of_a_pair_the_second_text_is_cut(side: str, kept: list[str]) -> None:
    tokens = _tokens(Text("is not", "The café is not good."), max_length=6, truncation_side=side)
    assert tokens == ["[CLS]", "is", "not", "[SEP]", *kept]


@pytest.mark.parametrize(("side", "kept"), [("right", ["the", "cafe"]), ("left", ["good", "."])])
def test_a_first_text_without_room_for_the_second_is_cut_too(side: str, kept: list[str]) -> None:
    tokens = _tokens(Text("The café is not good.", "is"), max_length=4, truncation_side=side)
    assert tokens == ["[CLS]", *kept, "[SEP]"]


def test_an_empty_text_is_cls_alone() -> None:
    assert _tokens(Text("")) == ["[CLS]"] + ["[PAD]"] * 7


# ----------------------------------------------------------------------- normalisation


@pytest.mark.parametrize(
    ("changes", "text", "token"),
    [
        ({}, "CAFÉ", "cafe"),
        ({"strip_accents": False}, "cafe\u0301", "café"),
        ({"strip_accents": False, "unicode_form": "none"}, "cafe\u0301", "[UNK]"),
        ({"lowercase": False}, "Good", "Good"),
        ({"lowercase": False}, "GOOD", "[UNK]"),
        ({"unicode_form": "NFC"}, "½", "½"),
        ({"unicode_form": "NFKC"}, "ｇｏｏｄ", "good"),
    ],
)
def test_each_setting_changes_what_it_says(changes: dict[str, object], text: str, token: str) -> None:
    assert _tokens(Text(text), **changes)[1] == token


def test_the_names_of_special_tokens_in_a_text_are_words() -> None:
    assert "[PAD]" not in _tokens(Text("[PAD] [CLS] ["), max_length=4)
    assert _tokens(Text("[SEP]"), max_length=4)[1:] == ["[UNK]"] * 3


def test_word_pieces_split_a_word() -> None:
    preprocessing = TextPreprocessing(tokenizer="wordpiece", vocabulary=(*SPECIAL_TOKENS, "un", "##real"), max_length=4)
    assert prepare(Text("Unreal"), preprocessing).tolist() == [2, 4, 5, 0]


# ------------------------------------------------------------------------------ always


@given(st.lists(texts, min_size=1, max_size=4), settings_of_texts)
@settings(max_examples=150, deadline=None)
def test_ids_are_tokens_of_the_vocabulary_the_same_every_time(
    raws: list[Text], preprocessing: TextPreprocessing
) -> None:
    many = prepare_many(raws, preprocessing)
    assert many.shape == (len(raws), preprocessing.max_length)
    assert many.dtype == np.int64
    assert many.min() >= 0
    assert many.max() < len(VOCABULARY)
    assert all(np.array_equal(prepare(raw, preprocessing), row) for raw, row in zip(raws, many, strict=True))


@given(texts, settings_of_texts)
@settings(max_examples=100, deadline=None)
def test_padding_is_on_its_side_only(raw: Text, preprocessing: TextPreprocessing) -> None:
    ids = prepare(raw, preprocessing)
    used = np.flatnonzero(ids)
    assert used[-1] - used[0] + 1 == len(used)
    assert ids[used[0]] == SPECIAL_TOKENS.index("[CLS]")
    assert (used[-1] == len(ids) - 1) if preprocessing.padding_side == "left" else used[0] == 0


@given(words, st.integers(4, 12))
@settings(max_examples=80, deadline=None)
def test_truncation_keeps_one_end_of_the_whole_text(text: str, room: int) -> None:
    whole = [i for i in prepare(Text(text), PLAIN.model_copy(update={"max_length": 40}))[1:] if i]
    right, left = (
        prepare(Text(text), PLAIN.model_copy(update={"max_length": room, "truncation_side": side}))[1:]
        for side in ("right", "left")
    )
    assert [i for i in right if i] == whole[: room - 1]
    assert [i for i in left if i] == whole[-(room - 1) :]


def test_threads_agree() -> None:
    preprocessing = PLAIN.model_copy(update={"max_length": 11})
    raws = [Text(f"the café is {'not ' * (n % 5)}good") for n in range(200)]
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda raw: prepare(raw, preprocessing), raws))
    assert np.array_equal(np.stack(rows), prepare_many(raws, preprocessing))


def test_no_texts_are_an_empty_array() -> None:
    assert prepare_many([], PLAIN).shape == (0, 8)


def test_without_a_vocabulary_the_error_says_what_to_do() -> None:
    with pytest.raises(ContractError, match=r"preprocessing\.vocabulary is empty.*gapshift\.domains\.text\.learn"):
        prepare(Text("good"), TextPreprocessing())


@pytest.mark.parametrize("raw", [Text("half \ud83d"), Text("good", "half \ud83d")])
def test_half_a_surrogate_pair_is_an_unreadable_item(raw: Text) -> None:
    with pytest.raises(UnreadableItemError, match=r"Not a Unicode text.*'half \\ud83d'.*UTF-8"):
        prepare(raw, PLAIN)
    with pytest.raises(UnreadableItemError, match="Not a Unicode text"):
        learn([raw], TextPreprocessing())


# ---------------------------------------------------------------------------- learning


def test_words_are_learnt_by_frequency_then_name_from_both_texts() -> None:
    learnt = learn(TRAINING, TextPreprocessing())
    assert learnt.vocabulary == (*SPECIAL_TOKENS, "good", "is", ".", "cafe", "the")
    assert learnt.model_copy(update={"vocabulary": ()}) == TextPreprocessing()


def test_size_counts_the_special_tokens() -> None:
    assert learn(TRAINING, TextPreprocessing(), size=6).vocabulary == (*SPECIAL_TOKENS, "good", "is")


def test_words_are_learnt_as_they_are_normalised() -> None:
    learnt = learn(TRAINING, TextPreprocessing(lowercase=False, strip_accents=False))
    assert {"The", "café"} < set(learnt.vocabulary)


@pytest.mark.parametrize("tokenizer", ["word", "wordpiece"])
def test_the_order_of_the_texts_does_not_matter(tokenizer: str) -> None:
    raws = [Text(f"{a}{b} is {b}{a}") for a in ("un", "re", "dis") for b in ("able", "real", "turn", "cover")] * 2
    shuffled = random.Random(3).sample(raws, len(raws))
    preprocessing = TextPreprocessing.model_validate({"tokenizer": tokenizer})
    assert learn(raws, preprocessing, 60) == learn(shuffled, preprocessing, 60)


def test_word_pieces_are_the_same_in_another_process() -> None:
    """The trainer's own hash maps are seeded at random in every process."""
    code = (
        "from gapshift.domains.base import Text; from gapshift.domains.text import learn\n"
        "from gapshift.schema import TextPreprocessing\n"
        "raws = [Text(f'{a}{b}{c}') for a in 'abcdefg' for b in 'hijklmn' for c in 'opqrstu'] * 2\n"
        "print(learn(raws, TextPreprocessing(tokenizer='wordpiece'), 90).vocabulary)"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]
    assert runs[0].stdout == runs[1].stdout
    assert "##h" in runs[0].stdout


def test_learnt_pieces_leave_no_known_character_unknown() -> None:
    learnt = learn(TRAINING, TextPreprocessing(tokenizer="wordpiece"), size=100)
    assert len(learnt.vocabulary) <= 100
    assert SPECIAL_TOKENS.index("[UNK]") not in prepare_many(TRAINING, learnt)


@pytest.mark.parametrize(
    ("raws", "size", "text"),
    [
        ([], 100, "No vocabulary can be learnt from no words"),
        ([Text("  ")], 100, "at least one training text that has some"),
        (TRAINING, 4, "A vocabulary of 4 has no room beside the 4 special tokens"),
    ],
)
def test_nothing_to_learn_is_an_error(raws: list[Text], size: int, text: str) -> None:
    with pytest.raises(DataError, match=text):
        learn(raws, TextPreprocessing(), size)


# -------------------------------------------------------------------------- difficulty


def test_length_counts_words_and_punctuation_of_both_texts() -> None:
    assert length(Text("The café is good.")) == 5
    assert length(Text("Good?", "not good")) == 4


def test_rarity_is_the_mean_surprisal_of_the_words() -> None:
    training = [Text("a a a b")]
    found = rarity([Text("a"), Text("B"), Text("c"), Text("a c"), Text("")], training)
    known = -np.log(np.array([4, 2, 1]) / 7)  # three counts and one each, over four words, two kinds and the unknown
    assert found == pytest.approx([*known, (known[0] + known[2]) / 2, 0.0])
