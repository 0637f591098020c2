"""The synthesised keywords: the same on every run, spoken by voices, and neither trivial nor hopeless."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier

from gapshift.domains.audio import learn, prepare
from gapshift.domains.readers.keywords import DURATION, READER, SPEAKERS, TAKES, WORDS, Keywords
from gapshift.domains.synthesis import RATE, Voice, speak
from gapshift.domains.wav import read_wav
from gapshift.errors import DataError
from gapshift.schema import AudioPreprocessing

VOICE = Voice(pitch=120, tract=1.0, tempo=1.0, breath=0.02, jitter=0.005, tilt=300)


@pytest.fixture(scope="module")
def keywords() -> Keywords:
    return Keywords()


def _spectrum(phoneme: str, voice: Voice) -> tuple[np.ndarray, np.ndarray]:
    wave = speak((phoneme,), voice, np.random.default_rng(0), longest=1.0, reduction=0.0)
    return np.fft.rfftfreq(len(wave), 1 / RATE), np.abs(np.fft.rfft(wave)) ** 2


def _share(phoneme: str, low: float, high: float, voice: Voice = VOICE) -> float:
    frequencies, power = _spectrum(phoneme, voice)
    return float(power[(frequencies >= low) & (frequencies < high)].sum() / power.sum())


# ----------------------------------------------------------------------------- the voices


def test_vowels_have_their_formants() -> None:
    assert _share("AA", 600, 1300) > 2 * _share("EH", 600, 1300)
    assert _share("EH", 1500, 2200) > 2 * _share("AA", 1500, 2200)


def test_a_fricative_hisses_high_and_a_nasal_hums_low() -> None:
    assert _share("S", 3500, 8000) > 0.9
    assert _share("N", 0, 600) > 0.8


@pytest.mark.parametrize("pitch", [90, 200])
def test_pitch_is_the_voices(pitch: float) -> None:
    voice = Voice(pitch=pitch, tract=1.0, tempo=0.6, breath=0.0, jitter=0.0, tilt=300)
    wave = speak(("AA",), voice, np.random.default_rng(0), longest=1.0, reduction=0.0)[1000:3000]
    correlation = np.correlate(wave, wave, "full")[len(wave) - 1 :]
    lags = np.arange(int(RATE / (pitch * 1.5)), int(RATE / (pitch * 0.6)))
    assert RATE / lags[correlation[lags].argmax()] == pytest.approx(pitch, rel=0.25)


def test_a_shorter_tract_moves_formants_up() -> None:
    def centroid(tract: float) -> float:
        frequencies, power = _spectrum("EH", Voice(120, tract, 1.0, 0.02, 0.005, 300))
        return float((frequencies * power).sum() / power.sum())

    assert centroid(1.25) > 1.1 * centroid(0.9)


def test_tempo_and_the_longest_length() -> None:
    def length(tempo: float, longest: float) -> int:
        voice = Voice(120, 1.0, tempo, 0.02, 0.005, 300)
        return len(speak(WORDS["stop"], voice, np.random.default_rng(0), longest=longest, reduction=0.0))

    assert length(0.7, 2.0) > 1.5 * length(1.3, 2.0)
    assert length(0.7, 0.3) < 0.35 * RATE


# -------------------------------------------------------------------------- the data set


def test_every_speaker_says_every_word_equally_often(keywords: Keywords) -> None:
    assert keywords.classes == tuple(WORDS)
    assert len(keywords) == len(WORDS) * SPEAKERS * TAKES == 3200
    assert (keywords.domain, keywords.kind, keywords.encoded) == ("audio", "classes", True)
    assert keywords.items[1].id == "keywords/00001"
    counts = np.zeros((len(WORDS), SPEAKERS), int)
    for item in keywords.items:
        counts[item.label, int(str(item.group).removeprefix("speaker-"))] += 1
    assert (counts == TAKES).all()


def test_recordings_are_whole_files_of_one_length(keywords: Keywords) -> None:
    for index in range(0, 3200, 67):
        rate, wave = read_wav(keywords.raw(index))
        assert (rate, len(wave)) == (RATE, round(DURATION * RATE))
        assert 0.09 < np.abs(wave).max() < 0.9


def test_an_item_is_the_same_whatever_was_made_before_it(keywords: Keywords) -> None:
    fresh = Keywords()
    assert fresh.raw(3000) == keywords.raw(3000) == keywords.raw(3000)
    assert len({keywords.raw(index) for index in range(0, 400, 8)}) == 50


def test_the_bytes_are_these_on_every_machine(keywords: Keywords) -> None:
    content = hashlib.sha256(b"".join(keywords.raw(index) for index in range(0, 3200, 200))).hexdigest()
    assert content[:16] == "a48283401bd572a9"


def test_labels_may_be_a_models(keywords: Keywords) -> None:
    reordered = READER.read("keywords", tuple(reversed(WORDS)))
    assert reordered.classes[reordered.items[5].label] == keywords.classes[keywords.items[5].label] == "right"
    with pytest.raises(DataError, match="Item 'keywords/00001': label 'no' is none of the classes"):
        READER.read("keywords", ("yes", "maybe"))
    assert READER.accepts("keywords")
    assert not READER.accepts("./keywords")


def test_difficulty_lies_between_chance_and_certainty(keywords: Keywords) -> None:
    """A linear model, tested on speakers that it has not heard."""
    indices = np.concatenate([np.arange(start, start + 320) for start in (0, 320, 640, 960)])
    how = learn((keywords.raw(int(i)) for i in indices), AudioPreprocessing(duration=DURATION))
    features = np.stack([prepare(keywords.raw(int(i)), how)[:, :50] for i in indices])
    inputs = features.reshape(len(indices), 32, 25, 2).mean(axis=3).reshape(len(indices), -1)
    labels = np.array([keywords.items[i].label for i in indices])
    unheard = np.array([int(str(keywords.items[i].group)[-2:]) % 4 == 0 for i in indices])
    model = RidgeClassifier(alpha=300).fit(inputs[~unheard], labels[~unheard])
    assert 0.4 < model.score(inputs[unheard], labels[unheard]) < 0.9
