"""Corruptions of text: what fingers, keyboards, forms and filters do to it.

Rates are shares of letters (of words where words are dropped), ours, from a careful typist's slips to
what a reader still deciphers. A text and its second half (of a pair) are corrupted apart. Where the
answer is a span, the question alone is: the passage is the store's, and its answers stay findable.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from gapshift.domains.base import Text
from gapshift.domains.corruptions.base import Family

RATES = (0.02, 0.05, 0.1, 0.15, 0.25)
"""Shares of letters that are mistyped, swapped, dropped, or replaced by a look-alike."""
CASE_RATES = (0.05, 0.1, 0.2, 0.35, 0.5)
WORD_RATES = (0.05, 0.1, 0.2, 0.3, 0.45)

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
"""A US keyboard; every row begins half a key further right."""
_LOOK_ALIKES = {
    **dict(zip("aceijopsxyhdABCEHIJKMOPSTXY", "асеіјорѕхуһԁАВСЕНІЈКМОРЅТХҮ", strict=True)),
    **dict(zip("vNZ", "νΝΖ", strict=True)),
}
"""Latin letters and the Cyrillic (v, N, Z: Greek) ones drawn alike, after Unicode's confusables (UTS 39)."""


def _neighbours() -> dict[str, str]:
    places = {key: (row + 0.0, column + row / 2) for row, keys in enumerate(_ROWS) for column, key in enumerate(keys)}

    def near(key: str) -> str:
        return "".join(
            other
            for other, (row, column) in places.items()
            if other != key and abs(row - places[key][0]) <= 1 and abs(column - places[key][1]) <= 1
        )

    return {key: near(key) for key in places}


NEIGHBOURS = _neighbours()
"""The keys that touch each letter's."""


def keyboard_typos(text: str, severity: int, rng: np.random.Generator) -> str:
    """Letters replaced by one whose key touches theirs, in the same case."""
    hit, which = rng.random((2, len(text)))

    def typed(letter: str, share: float) -> str:
        near = NEIGHBOURS.get(letter.lower(), letter.lower())
        other = near[int(share * len(near))]
        return other.upper() if letter.isupper() else other

    return "".join(
        typed(letter, share) if chance < RATES[severity - 1] and letter.lower() in NEIGHBOURS else letter
        for letter, chance, share in zip(text, hit, which, strict=True)
    )


def swapped_letters(text: str, severity: int, rng: np.random.Generator) -> str:
    """Letters that change places with the next one of their word; none moves twice."""
    hit = rng.random(len(text)) < RATES[severity - 1]
    letters, place = list(text), 0
    while place < len(letters) - 1:
        if hit[place] and letters[place].isalpha() and letters[place + 1].isalpha():
            letters[place : place + 2] = letters[place + 1], letters[place]
            place += 1
        place += 1
    return "".join(letters)


def dropped_letters(text: str, severity: int, rng: np.random.Generator) -> str:
    """Letters left out, but never a word's last one standing alone."""
    hit = rng.random(len(text)) < RATES[severity - 1]

    def thinned(word: re.Match[str]) -> str:
        kept = [letter for letter, gone in zip(word[0], hit[word.start() : word.end()], strict=True) if not gone]
        return "".join(kept) or word[0][0]

    return re.sub(r"[^\W\d_]+", thinned, text)


def casing(text: str, severity: int, rng: np.random.Generator) -> str:
    """Letters in the other case, those that come back from it (ß and ligatures do not)."""
    hit = rng.random(len(text)) < CASE_RATES[severity - 1]
    return "".join(
        letter.swapcase() if turned and letter.swapcase().swapcase() == letter else letter
        for letter, turned in zip(text, hit, strict=True)
    )


def homoglyphs(text: str, severity: int, rng: np.random.Generator) -> str:
    """Latin letters replaced by Cyrillic and Greek ones that look the same."""
    hit = rng.random(len(text)) < RATES[severity - 1]
    return "".join(
        _LOOK_ALIKES.get(letter, letter) if replaced else letter for letter, replaced in zip(text, hit, strict=True)
    )


def dropped_words(text: str, severity: int, rng: np.random.Generator) -> str:
    """Words left out with the space behind them; of a text that has any, at least one stays."""
    words = re.findall(r"\S+\s*", text)
    if not words:
        return text
    chances = rng.random(len(words))
    gone = (chances < WORD_RATES[severity - 1]) & (np.arange(len(words)) != chances.argmax())
    return "".join(word for word, dropped in zip(words, gone, strict=True) if not dropped)


def _of_texts(name: str, corrupt: Callable[[str, int, np.random.Generator], str]) -> Family[Text]:
    def apply(raw: Text, severity: int, rng: np.random.Generator) -> Text:
        second = np.random.default_rng(int(rng.integers(2**62)))
        first = corrupt(raw.first, severity, rng)
        if raw.second is None or raw.answers:
            return replace(raw, first=first)
        return replace(raw, first=first, second=corrupt(raw.second, severity, second))

    return Family(name, apply)


FAMILIES = (
    _of_texts("keyboard-typos", keyboard_typos),
    _of_texts("swapped-letters", swapped_letters),
    _of_texts("dropped-letters", dropped_letters),
    _of_texts("casing", casing),
    _of_texts("homoglyphs", homoglyphs),
    _of_texts("dropped-words", dropped_words),
)
