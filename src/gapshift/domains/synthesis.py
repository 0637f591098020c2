"""Speech from a source and a filter (Fant, 1960): pulses or noise through moving formants.

A word is a sequence of phones with formant targets; a voice sets pitch, tract length, tempo and
breath. Short frames of the source are filtered by the resonances that hold at that moment
(Klatt, 1980) and added up with overlap. Vowel targets: Peterson & Barney (1952), men's means;
consonants after Klatt's tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
"""Samples per second of everything that is made here."""

_HOP = 128
_FRAME = 2 * _HOP
_TRANSFORM = 640
"""Frame and room for its ringing: a formant of 70 Hz bandwidth has fallen by 46 dB in 24 ms."""
_BANDWIDTHS = (70.0, 95.0, 130.0, 210.0, 280.0)
_UPPER_FORMANTS = (3500.0, 4500.0)
_SCHWA = np.array([500.0, 1500.0, 2500.0])
_WINDOW = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(_FRAME) + 0.5) / _FRAME)
_DELAY = np.exp(-2j * np.pi * np.arange(_TRANSFORM // 2 + 1) / _TRANSFORM)
_FREQUENCIES = np.fft.rfftfreq(_TRANSFORM, 1 / RATE)

Wave = NDArray[np.float64]
Formants = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Phone:
    """A stretch of speech: its length (ms), and its first three formants (Hz) from ``start`` to ``end``.

    ``voice``, ``breath`` and ``friction`` are amplitudes of the pulses, of noise in the throat and
    of noise at a constriction around ``place`` (Hz), ``spread`` (Hz) wide. ``damping`` widens the
    formants (the nose does).
    """

    length: float
    start: Formants
    end: Formants | None = None
    voice: float = 1.0
    breath: float = 0.0
    friction: float = 0.0
    place: float = 4000.0
    spread: float = 1500.0
    damping: float = 1.0


def _stop(closure: float, burst: float, locus: Formants, place: float, voice: float) -> tuple[Phone, ...]:
    """A closure with or without a murmur, then a burst and the breath that follows it."""
    return (
        Phone(closure, locus, voice=voice),
        Phone(burst, locus, voice=0, friction=0.6, place=place),
        Phone(burst, locus, voice=0.3 if voice else 0, breath=0.25, friction=0.1, place=place),
    )


PHONES: dict[str, tuple[Phone, ...]] = {
    "AA": (Phone(150, (730, 1090, 2440)),),
    "AH": (Phone(130, (640, 1190, 2390)),),
    "EH": (Phone(130, (530, 1840, 2480)),),
    "AW": (Phone(200, (730, 1150, 2440), (440, 1020, 2240)),),
    "AY": (Phone(200, (730, 1090, 2440), (390, 1990, 2550)),),
    "OW": (Phone(210, (570, 1000, 2410), (360, 850, 2240)),),
    "Y": (Phone(70, (270, 2290, 3010), voice=0.6),),
    "L": (Phone(75, (360, 1150, 2700), voice=0.5, damping=1.5),),
    "R": (Phone(80, (330, 1060, 1500), voice=0.5),),
    "N": (Phone(85, (280, 1450, 2500), voice=0.45, damping=3),),
    "S": (Phone(120, (400, 1500, 2600), voice=0, friction=0.5, place=5800, spread=1700),),
    "F": (Phone(90, (400, 1100, 2300), voice=0, friction=0.16, place=4500, spread=5000),),
    "P": _stop(70, 16, (350, 850, 2200), 900, 0),
    "T": _stop(60, 22, (350, 1750, 2700), 4300, 0),
    "D": _stop(40, 12, (300, 1750, 2700), 3900, 0.12),
    "G": _stop(45, 16, (300, 1950, 2200), 1900, 0.12),
}
"""What each phoneme (ARPAbet) is made of."""


@dataclass(frozen=True, slots=True)
class Voice:
    """A speaker: pitch (Hz), formant frequencies relative to an average man's, speech tempo
    relative to the average, breath and period jitter relative to the pulses, and the frequency (Hz)
    above which the glottis falls off by 12 dB an octave."""

    pitch: float
    tract: float
    tempo: float
    breath: float
    jitter: float
    tilt: float


def speaker(rng: np.random.Generator) -> Voice:
    """A random voice: a man's or a woman's, with equal chance."""
    woman = rng.random() < 0.5
    return Voice(
        pitch=float(rng.uniform(165, 260) if woman else rng.uniform(85, 150)),
        tract=float(rng.uniform(1.08, 1.25) if woman else rng.uniform(0.9, 1.08)),
        tempo=float(rng.uniform(0.8, 1.3)),
        breath=float(rng.uniform(0.0, 0.15)),
        jitter=float(rng.uniform(0.003, 0.025)),
        tilt=float(rng.uniform(150, 600)),
    )


def speak(phonemes: Sequence[str], voice: Voice, rng: np.random.Generator, *, longest: float, reduction: float) -> Wave:
    """One utterance at ``RATE``, at most ``longest`` seconds and a frame's ringing, of any level.

    ``reduction`` in [0, 1] pulls the formants towards the neutral vowel, as careless speech does.
    """
    phones = [phone for phoneme in phonemes for phone in PHONES[phoneme]]
    lengths = np.array([phone.length for phone in phones]) * rng.uniform(0.85, 1.2, len(phones)) / (1000 * voice.tempo)
    lengths *= min(1.0, longest / lengths.sum())
    frames = int(lengths.sum() * RATE) // _HOP
    where, share = _positions(lengths, frames)
    formants = _formant_tracks(phones, where, share, reduction) * voice.tract * rng.normal(1, 0.025, 3)
    damping = _track([phone.damping for phone in phones], where)
    samples = (frames + 1) * _HOP
    noise = rng.standard_normal(samples)
    throat = _blocks(_pulses(voice, samples, rng)) * _track([phone.voice for phone in phones], where)[:, None]
    breath = _track([phone.breath + voice.breath * phone.voice for phone in phones], where)
    throat += _blocks(noise) * breath[:, None]
    friction = _blocks(noise) * _track([phone.friction for phone in phones], where)[:, None]
    places = _track([phone.place for phone in phones], where) * voice.tract**0.5
    spreads = _track([phone.spread for phone in phones], where)
    spectrum = np.fft.rfft(throat * _WINDOW, _TRANSFORM) * _tract(formants, damping, voice)
    spectrum += np.fft.rfft(friction * _WINDOW, _TRANSFORM) * _constriction(places, spreads)
    return _overlap(np.fft.irfft(spectrum, _TRANSFORM))


# ------------------------------------------------------------------------------ tracks


def _positions(lengths: Wave, frames: int) -> tuple[NDArray[np.intp], Wave]:
    """Each frame's phone, and how much of that phone has passed."""
    ends = np.cumsum(lengths)
    times = (np.arange(frames) + 1.0) * _HOP / RATE
    where = np.minimum(np.searchsorted(ends, times), len(lengths) - 1)
    return where, np.clip((times - (ends - lengths)[where]) / lengths[where], 0, 1)


def _track(values: Sequence[float], where: NDArray[np.intp]) -> Wave:
    return np.array(values, dtype=np.float64)[where]


def _formant_tracks(phones: Sequence[Phone], where: NDArray[np.intp], share: Wave, reduction: float) -> Wave:
    """Formants (frames, 3): targets joined over about 50 ms, as tongue and jaw move."""
    starts = np.array([phone.start for phone in phones], dtype=np.float64)[where]
    ends = np.array([phone.end or phone.start for phone in phones], dtype=np.float64)[where]
    targets = starts + (ends - starts) * share[:, None]
    kernel = np.hanning(9)[1:-1]
    kernel /= kernel.sum()
    padded = np.pad(targets, ((3, 3), (0, 0)), mode="edge")
    tracks = np.stack([np.convolve(padded[:, k], kernel, mode="valid") for k in range(3)], axis=1)
    return tracks + reduction * (_SCHWA - tracks)


# ---------------------------------------------------------------------- source, filter


def _pulses(voice: Voice, samples: int, rng: np.random.Generator) -> Wave:
    """A pulse train whose pitch falls over the word, with jitter and shimmer; fractional positions."""
    most = int(2 * voice.pitch * samples / RATE) + 8
    pitch = voice.pitch * rng.uniform(0.9, 1.15)
    fall = np.linspace(1.08, rng.uniform(0.7, 0.95), most)
    periods = RATE / (pitch * fall) * (1 + voice.jitter * rng.standard_normal(most))
    heights = 1 + 4 * voice.jitter * rng.standard_normal(most)
    places = np.cumsum(periods)
    inside = places < samples - 1
    places, heights = places[inside], heights[inside]
    before = places.astype(np.intp)
    later = (places - before) * heights
    train: Wave = np.bincount(before, heights - later, samples).astype(np.float64)
    train += np.bincount(before + 1, later, samples)
    train *= np.sqrt(RATE / pitch)  # pulses of any pitch have the power of the noise
    return train


def _tract(formants: Wave, damping: Wave, voice: Voice) -> NDArray[np.complex128]:
    """Glottis, five resonances and the lips' radiation, per frame: (frames, frequencies)."""
    pole = np.exp(-2 * np.pi * voice.tilt / RATE)
    source = (1 - _DELAY) * ((1 - pole) / (1 - pole * _DELAY)) ** 2
    source /= np.sqrt(np.mean(np.abs(source) ** 2))
    upper = np.broadcast_to(np.array(_UPPER_FORMANTS) * voice.tract, (len(formants), 2))
    # The product of the resonances' denominators, by their coefficients: one transform instead of five divisions.
    polynomial, gain = np.ones((len(formants), 1)), np.ones((len(formants), 1))
    for centres, bandwidth in zip(np.hstack([formants, upper]).T, _BANDWIDTHS, strict=True):
        radius = np.exp(-np.pi * bandwidth * damping / RATE)
        b, c = (2 * radius * np.cos(2 * np.pi * centres / RATE))[:, None], -(radius**2)[:, None]
        one, two, three = (np.pad(polynomial, ((0, 0), (shift, 2 - shift))) for shift in range(3))
        polynomial, gain = one - b * two - c * three, gain * (1 - b - c)
    response: NDArray[np.complex128] = source * gain / np.fft.rfft(polynomial, _TRANSFORM)
    return response


def _constriction(places: Wave, spreads: Wave) -> Wave:
    """The hiss of a narrow passage: a band of noise without phase of its own."""
    squared = np.square((_FREQUENCIES - places[:, None]) / spreads[:, None])
    return 2.0 / (1 + np.square(squared))


def _blocks(wave: Wave) -> Wave:
    """Overlapping frames (frames, _FRAME), copied."""
    halves = wave.reshape(-1, _HOP)
    return np.hstack([halves[:-1], halves[1:]])


def _overlap(frames: Wave) -> Wave:
    parts = _TRANSFORM // _HOP
    total = np.zeros((len(frames) + parts - 1, _HOP))
    for part in range(parts):
        total[part : part + len(frames)] += frames[:, part * _HOP : (part + 1) * _HOP]
    return total.ravel()
