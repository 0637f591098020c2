"""From a text to tokens, as a contract declares it: Hugging Face `tokenizers` does the splitting.

Texts are encoded one by one on the calling thread. The library's own batches run on a thread
pool of its own, which warns after every fork and is steered by environment variables only; a
short text takes some 10 µs either way.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gapshift.domains.base import Text
from gapshift.errors import ContractError, UnreadableItemError
from gapshift.schema import SPECIAL_TOKENS, TextPreprocessing

if TYPE_CHECKING:
    from tokenizers import Tokenizer

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
    room = preprocessing.max_length - (1 if raw.second is None else 2)
    left = preprocessing.truncation_side == "left"
    first = _split(tokenizer, raw.first).ids
    ids = [CLS, *first[_kept(len(first), room, left)]]
    offsets, kept, passage = [], slice(0, 0), len(ids)
    if raw.second is not None:
        second = _split(tokenizer, raw.second)
        offsets, kept, passage = second.offsets, _kept(len(second.ids), room - len(ids) + 1, left), len(ids) + 1
        ids += [SEP, *second.ids[kept]]
    start = preprocessing.max_length - len(ids) if preprocessing.padding_side == "left" else 0
    return Encoded(ids, start, start + passage, offsets, kept)


def _kept(length: int, room: int, left: bool) -> slice:
    """The tokens that ``room`` leaves, of ``length``."""
    return slice(max(length - room, 0), length) if left else slice(0, min(length, room))


def _split(tokenizer: Tokenizer, text: str) -> Any:
    try:
        return tokenizer.encode(text, add_special_tokens=False)
    except (TypeError, UnicodeEncodeError) as error:
        raise _not_unicode(text) from error


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

    ids = {token: index for index, token in enumerate(preprocessing.vocabulary)}
    model = WordLevel if preprocessing.tokenizer == "word" else WordPiece
    return with_rules(Tokenizer(model(ids, unk_token=SPECIAL_TOKENS[UNK])), preprocessing)


def with_rules(tokenizer: Tokenizer, preprocessing: TextPreprocessing) -> Tokenizer:
    """``tokenizer`` with the declared normalisation, splitting at white space and around punctuation."""
    from tokenizers import normalizers, pre_tokenizers

    form, accents = preprocessing.unicode_form, preprocessing.strip_accents
    steps: list[normalizers.Normalizer] = []
    if form != "none":
        steps.append(normalizers.NFC() if form == "NFC" else normalizers.NFKC())
    if accents:  # an accent is a character of its own in decomposed form only
        steps += [normalizers.NFD(), normalizers.StripAccents(), normalizers.NFC()]
    if preprocessing.lowercase:
        steps.append(normalizers.Lowercase())
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def words(text: str, preprocessing: TextPreprocessing) -> list[str]:
    """The normalised words and punctuation marks of ``text``; needs no vocabulary."""
    normalizer, splitter = _rules(preprocessing.unicode_form, preprocessing.strip_accents, preprocessing.lowercase)
    try:
        return [word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))]
    except (TypeError, UnicodeEncodeError) as error:
        raise _not_unicode(text) from error


@lru_cache(maxsize=32)
def _rules(form: Any, accents: bool, lowercase: bool) -> tuple[Any, Any]:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    rules = TextPreprocessing(unicode_form=form, strip_accents=accents, lowercase=lowercase)
    tokenizer = with_rules(Tokenizer(WordLevel({}, unk_token=SPECIAL_TOKENS[UNK])), rules)
    return tokenizer.normalizer, tokenizer.pre_tokenizer
