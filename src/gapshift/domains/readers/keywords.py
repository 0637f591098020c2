"""Spoken keywords, synthesised: eight words by forty voices in all sorts of noise, 16 kHz."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray

from gapshift.domains.base import Dataset
from gapshift.domains.readers.labels import resolve_labels
from gapshift.domains.readers.reader import Reader
from gapshift.domains.synthesis import RATE, Voice, speak, speaker
from gapshift.schema import Item

NAME = "keywords"
WORDS: dict[str, tuple[str, ...]] = {
    "yes": ("Y", "EH", "S"),
    "no": ("N", "OW"),
    "up": ("AH", "P"),
    "down": ("D", "AW", "N"),
    "left": ("L", "EH", "F", "T"),
    "right": ("R", "AY", "T"),
    "stop": ("S", "T", "AA", "P"),
    "go": ("G", "OW"),
}
"""The words and their phonemes."""
SPEAKERS = 40
TAKES = 10
DURATION = 0.8
"""Seconds of every recording."""
SIGNAL_TO_NOISE = (-8.0, 30.0)
"""Decibels between the word's and the noise's mean power, evenly spread over the items."""

_SAMPLES = round(DURATION * RATE)
_SEED = 20
_SPEAKER, _ITEM = 1, 2
"""What a random stream is for; a last word that is not 0, since NumPy's seeds end in zeros unseen."""


@final
class Keywords(Dataset):
    """Each recording is made when it is first asked for, from its own seed, and kept (26 kB)."""

    def __init__(self, labels: Sequence[str] | None = None) -> None:
        words = tuple(WORDS)
        count = len(words) * SPEAKERS * TAKES
        self._words = [words[index % len(words)] for index in range(count)]
        self._speakers = [index // len(words) % SPEAKERS for index in range(count)]
        self._voices = [speaker(np.random.default_rng([_SEED, number, _SPEAKER])) for number in range(SPEAKERS)]
        self._made: dict[int, bytes] = {}
        classes, indexes = resolve_labels(self._words, labels or words, lambda index: f"Item {_id(index)!r}")
        super().__init__(
            NAME,
            classes,
            [
                Item(_id(index), int(label), group=f"speaker-{number:02d}")
                for index, (label, number) in enumerate(zip(indexes, self._speakers, strict=True))
            ],
            "audio",
        )

    @property
    def encoded(self) -> bool:
        return True

    def _raw(self, index: int) -> bytes:
        if index not in self._made:
            rng = np.random.default_rng([_SEED, index, _ITEM])
            self._made[index] = _wav(_record(self._words[index], self._voices[self._speakers[index]], rng))
        return self._made[index]


def _id(index: int) -> str:
    return f"{NAME}/{index:05d}"


def _record(word: str, voice: Voice, rng: np.random.Generator) -> NDArray[np.float64]:
    """One take, full scale = 1: the word somewhere near the middle, in noise of its own strength and colour."""
    from scipy import signal

    spoken = speak(WORDS[word], voice, rng, longest=DURATION - 0.1, reduction=float(rng.uniform(0, 0.5)))
    spoken = spoken[:_SAMPLES] / np.sqrt(np.mean(spoken**2))
    slack = _SAMPLES - len(spoken)
    start = int(slack * rng.uniform(0.25, 0.75))
    colour = rng.uniform(0, 0.95)
    noise = signal.lfilter([np.sqrt(1 - colour**2)], [1, -colour], rng.standard_normal(_SAMPLES))
    wave = noise * 10 ** (-rng.uniform(*SIGNAL_TO_NOISE) / 20)
    wave[start : start + len(spoken)] += spoken
    return np.asarray(wave * 10 ** (-rng.uniform(1, 20) / 20) / np.abs(wave).max(), dtype=np.float64)


def _wav(wave: NDArray[np.float64]) -> bytes:
    """16-bit PCM. Rounding to it hides the last bits in which processors differ."""
    from scipy.io import wavfile

    buffer = io.BytesIO()
    wavfile.write(buffer, RATE, np.round(wave * 32767).astype("<i2"))
    return buffer.getvalue()


READER = Reader(
    name=NAME,
    layout=f"the word '{NAME}': eight synthesised spoken words by {SPEAKERS} voices",
    accepts=lambda source: source == NAME,
    read=lambda _, labels: Keywords(labels),
)
