"""Exact match and F1 of span answers, as SQuAD v1.1's official evaluation script computes them.

Rajpurkar et al. 2016; a prediction is compared with every accepted answer and the best counts.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize(answer: str) -> str:
    """Lower case, without ASCII punctuation and English articles, single spaces.

    >>> normalize("The  Eiffel-Tower, Paris!")
    'eiffeltower paris'
    """
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, answers: Iterable[str]) -> bool:
    """Whether the normalised prediction equals a normalised answer.

    >>> exact_match("the Nile.", ["Nile", "River Nile"])
    True
    """
    normalized = normalize(prediction)
    return any(normalized == normalize(answer) for answer in answers)


def f1(prediction: str, answers: Iterable[str]) -> float:
    """The best F1 over the answers' words, repeated ones counted, from 0 to 1.

    >>> f1("River Nile", ["the Nile", "Amazon"])
    0.6666666666666666
    """
    return max((_f1(normalize(prediction).split(), normalize(answer).split()) for answer in answers), default=0.0)


def _f1(prediction: list[str], answer: list[str]) -> float:
    common = (Counter(prediction) & Counter(answer)).total()
    return 2 * common / (len(prediction) + len(answer)) if common else 0.0
