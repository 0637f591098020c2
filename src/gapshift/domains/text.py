"""From a text's raw form to a model's input, as a contract declares it; learning a vocabulary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from gapshift.domains.base import Text
from gapshift.domains.tokens import encode, words
from gapshift.errors import DataError
from gapshift.schema import SPECIAL_TOKENS, TextPreprocessing

FEWEST_OCCURRENCES = 2
"""A word met once in training is learnt as [UNK], so that [UNK] is trained too."""


def prepare(raw: Text, preprocessing: TextPreprocessing) -> NDArray[np.int64]:
    """One text as the model takes it: token ids (max_length,).

    ``[CLS] first``, or ``[CLS] first [SEP] second``, filled with [PAD]. Raises ContractError
    without a vocabulary and UnreadableItemError for text that is not Unicode.
    """
    ids: NDArray[np.int64] = prepare_many([raw], preprocessing)[0]
    return ids


def prepare_many(raws: Sequence[Text], preprocessing: TextPreprocessing) -> NDArray[np.int64]:
    """Texts as one array (N, max_length), each as ``prepare`` makes it; raises what it raises."""
    ids = np.zeros((len(raws), preprocessing.max_length), dtype=np.int64)
    for row, raw in enumerate(raws):
        encoded = encode(raw, preprocessing)
        ids[row, encoded.start : encoded.start + len(encoded.ids)] = encoded.ids
    return ids


def learn(raws: Iterable[Text], preprocessing: TextPreprocessing, size: int = 4000) -> TextPreprocessing:
    """``preprocessing`` with a vocabulary of at most ``size`` tokens, learnt from ``raws``.

    Words: those that occur at least twice, by frequency and then by name. Word pieces: those of
    the WordPiece trainer. The same texts give the same vocabulary in any order. Raises DataError
    for no texts, or a size that leaves no room beside the special tokens.
    """
    if size <= len(SPECIAL_TOKENS):
        raise DataError(f"A vocabulary of {size} has no room beside the {len(SPECIAL_TOKENS)} special tokens.")
    counts = Counter(word for raw in raws for text in _texts(raw) for word in words(text, preprocessing))
    if not counts:
        raise DataError("No vocabulary can be learnt from no words. Give at least one training text that has some.")
    learnt = _frequent(counts, size) if preprocessing.tokenizer == "word" else _pieces(counts, size)
    return preprocessing.model_copy(update={"vocabulary": learnt})


def length(raw: Text) -> float:
    """Number of words and punctuation marks, of both texts of a pair."""
    return float(len(_plain_words(raw)))


def rarity(raws: Sequence[Text], training: Iterable[Text]) -> NDArray[np.float64]:
    """Mean -log(share among the training texts' words) over each text's words, in nats, shape (n,).

    Shares are smoothed by one occurrence for each known word and one for all unknown ones
    (Laplace). A text without words is 0. The measure is that of competence-based curricula
    (Platanios et al. 2019), as a mean so that it does not grow with length.
    """
    counts = Counter(word for raw in training for word in _plain_words(raw))
    total = counts.total() + len(counts) + 1
    of_words = [[(counts[word] + 1) / total for word in _plain_words(raw)] for raw in raws]
    return np.array([-np.log(shares).mean() if shares else 0.0 for shares in of_words])


def _plain_words(raw: Text) -> list[str]:
    return [word for text in _texts(raw) for word in words(text, TextPreprocessing())]


def _texts(raw: Text) -> tuple[str, ...]:
    return (raw.first,) if raw.second is None else (raw.first, raw.second)


def _frequent(counts: Counter[str], size: int) -> tuple[str, ...]:
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    often = [word for word, count in ordered if count >= FEWEST_OCCURRENCES and word not in SPECIAL_TOKENS]
    return (*SPECIAL_TOKENS, *often)[:size]


def _pieces(counts: Counter[str], size: int) -> tuple[str, ...]:
    """Word pieces by the trainer; the single characters of every word are among them, space allowing.

    The trainer breaks ties by the order in which it met the inner characters, which is that of a
    randomly seeded hash map: naming them beforehand makes it the same on every run.
    """
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from tokenizers.trainers import WordPieceTrainer

    inner = sorted({f"##{character}" for word in counts for character in word[1:]})
    trainer = WordPieceTrainer(
        vocab_size=size,
        min_frequency=FEWEST_OCCURRENCES,
        special_tokens=[*SPECIAL_TOKENS, *inner],
        show_progress=False,
    )
    tokenizer = Tokenizer(WordPiece({}, unk_token=SPECIAL_TOKENS[1]))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.train_from_iterator(counts.elements(), trainer)
    ids = tokenizer.get_vocab()
    return tuple(sorted(ids, key=ids.__getitem__)[:size])
