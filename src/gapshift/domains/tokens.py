"""From a text to tokens, as a contract declares it: Hugging Face `tokenizers` does the splitting.

Texts are encoded one by one on the calling thread. The library's own batches run on a thread
pool of its own, which warns after every fork and is steered by environment variables only; a
short text takes some 10 µs either way.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from gapshift.domains.base import Text
from gapshift.errors import ContractError, UnreadableItemError
from gapshift.schema import SPECIAL_TOKENS, TextPreprocessing

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.pre_tokenizers import PreTokenizer

PAD, UNK, CLS, SEP = range(len(SPECIAL_TOKENS))

Offsets = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Encoded:
    """A text as its tokens, cut to length and padded.

    ``ids`` fill positions ``start`` to ``start + len(ids)`` of the model's input, the rest is
    [PAD]. ``offsets`` are the first character of each token of the second text, cut or not, and
    the one after its last; those in the slice ``kept`` stand from position ``passage`` on.
    """

    ids: list[int]
    start: int
    passage: int
    offsets: Offsets
    kept: slice


def encode(raw: Text, preprocessing: TextPreprocessing) -> Encoded:
    """One text, or pair, laid out as the preprocessing says.

    A first text that leaves the second no room is cut as well. Raises ContractError without a
    vocabulary and UnreadableItemError for text that is not Unicode.
    """
    tokenizer = tokenizer_of(preprocessing)
    before, between, after = _template(raw, preprocessing)
    room = preprocessing.max_length - len(before) - len(between) - len(after)
    left = preprocessing.truncation_side == "left"
    first = _split(tokenizer, raw.first, preprocessing)[0]
    ids = [*before, *first[_kept(len(first), room, left)]]
    offsets: Offsets = []
    kept, passage = slice(0, 0), len(ids)
    if raw.second is not None:
        second, offsets = _split(tokenizer, raw.second, preprocessing)
        kept = _kept(len(second), room - len(ids) + len(before), left)
        passage = len(ids) + len(between)
        ids += [*between, *second[kept]]
    ids += after
    start = preprocessing.max_length - len(ids) if preprocessing.padding_side == "left" else 0
    return Encoded(ids, start, start + passage, offsets, kept)


def _template(raw: Text, preprocessing: TextPreprocessing) -> tuple[list[int], list[int], list[int]]:
    """The special tokens before a text, between those of a pair, and at the end."""
    if preprocessing.template == "bare":
        return [], [], []
    return [CLS], [] if raw.second is None else [SEP], [SEP] if preprocessing.template == "closed" else []


def _kept(length: int, room: int, left: bool) -> slice:
    """The tokens that ``room`` leaves, of ``length``."""
    return slice(max(length - room, 0), length) if left else slice(0, min(length, room))


def _split(tokenizer: Tokenizer, text: str, preprocessing: TextPreprocessing) -> tuple[list[int], Offsets]:
    """The ids of one text as the model knows them, and the characters of each."""
    try:
        split = tokenizer.encode(text, add_special_tokens=False)
    except (TypeError, UnicodeEncodeError) as error:
        raise _not_unicode(text) from error
    ids = list(split.ids)
    if preprocessing.unknown_rate:
        ids = [UNK if hit else id_ for id_, hit in zip(ids, _hits(text, len(ids), preprocessing), strict=True)]
    return ids, split.offsets


def _hits(text: str, tokens: int, preprocessing: TextPreprocessing) -> list[bool]:
    """Which tokens are unknown: by the text alone, and at a higher rate these and others."""
    entropy = hashlib.sha256(text.encode()).digest()
    draws = np.random.default_rng(np.frombuffer(entropy, "<u4")).random(tokens)
    return [bool(hit) for hit in draws < preprocessing.unknown_rate]


def _not_unicode(text: object) -> UnreadableItemError:
    return UnreadableItemError(
        f"Not a Unicode text (it may hold half a surrogate pair): {text!r:.80}. Store texts as valid UTF-8."
    )


@lru_cache(maxsize=32)
def tokenizer_of(preprocessing: TextPreprocessing) -> Tokenizer:
    """The tokeniser that ``preprocessing`` declares, built once. Raises ContractError without a vocabulary."""
    if not preprocessing.vocabulary:
        raise ContractError(
            "preprocessing.vocabulary is empty, so no text can become token ids. Learn it from the training items "
            "(gapshift.domains.text.learn), or put the model's own vocabulary into the contract."
        )
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel, WordPiece

    model = WordLevel if preprocessing.tokenizer == "word" else WordPiece
    return with_rules(Tokenizer(model(ids_of(preprocessing), unk_token=SPECIAL_TOKENS[UNK])), preprocessing)


def ids_of(preprocessing: TextPreprocessing) -> dict[str, int]:
    """The id of every token that the deployed vocabulary has.

    Of two shares of missing tokens the larger takes what the smaller does, and more.
    """
    tokens = preprocessing.vocabulary
    own = len(tokens) - len(SPECIAL_TOKENS)
    rarer = sorted(tokens[len(tokens) - own // 2 :], key=lambda token: hashlib.sha256(token.encode()).digest())
    missing = set(rarer[: ceil(preprocessing.vocabulary_lacks * own)])
    if preprocessing.vocabulary_ids == "renumbered":
        tokens = tuple(token for token in tokens if token not in missing)
    return {token: index for index, token in enumerate(tokens) if token not in missing}


def with_rules(tokenizer: Tokenizer, preprocessing: TextPreprocessing) -> Tokenizer:
    """``tokenizer`` with the declared normalisation and splitting."""
    from tokenizers import normalizers

    steps: list[normalizers.Normalizer] = []
    if preprocessing.clean_text:
        steps.append(
            normalizers.BertNormalizer(
                clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False
            )
        )
    if preprocessing.unicode_form != "none":
        steps.append(getattr(normalizers, preprocessing.unicode_form)())
    if preprocessing.strip_accents:  # an accent is a character of its own in decomposed form only
        steps += [normalizers.NFD(), normalizers.StripAccents(), normalizers.NFC()]
    if preprocessing.lowercase:
        steps.append(normalizers.Lowercase())
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = _splitter(preprocessing)
    return tokenizer


def _splitter(preprocessing: TextPreprocessing) -> PreTokenizer:
    from tokenizers import pre_tokenizers

    match preprocessing.pre_tokenizer:
        case "bert":
            return pre_tokenizers.BertPreTokenizer()
        case "whitespace":
            return pre_tokenizers.Whitespace()
        case "whitespace-split":
            return pre_tokenizers.WhitespaceSplit()
        case "space":
            return pre_tokenizers.CharDelimiterSplit(" ")


def words(text: str, preprocessing: TextPreprocessing) -> list[str]:
    """The normalised words and punctuation marks of ``text``; needs no vocabulary."""
    normalizer, splitter = _rules(preprocessing.model_copy(update={"vocabulary": ()}))
    try:
        return [word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))]
    except (TypeError, UnicodeEncodeError) as error:
        raise _not_unicode(text) from error


@lru_cache(maxsize=32)
def _rules(preprocessing: TextPreprocessing) -> tuple[Any, Any]:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    tokenizer = with_rules(Tokenizer(WordLevel({}, unk_token=SPECIAL_TOKENS[UNK])), preprocessing)
    return tokenizer.normalizer, tokenizer.pre_tokenizer
