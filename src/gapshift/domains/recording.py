"""What a recorder, a line and a resampler do to a wave before features are made of it. Full scale is 1."""

from __future__ import annotations

from functools import lru_cache
from math import ceil, gcd
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from gapshift.errors import SkippedError
from gapshift.schema import AudioPreprocessing

Wave = NDArray[np.float64]


def recorded(wave: Wave, preprocessing: AudioPreprocessing) -> Wave:
    """The wave with gain, offset and clipping, and divided by its own peak where that is declared.

    A silent wave has no peak and stays silent.
    """
    wave = wave * 10 ** (preprocessing.gain_db / 20) + preprocessing.dc_offset
    if preprocessing.clip_at is not None:
        wave = wave.clip(-preprocessing.clip_at, preprocessing.clip_at)
    peak = np.abs(wave).max(initial=0.0)
    return wave / peak if preprocessing.level == "peak" and peak > 0 else wave


def through_line(wave: Wave, rate: int, preprocessing: AudioPreprocessing) -> tuple[Wave, int]:
    """The wave as it leaves the line, and the line's rate (Hz): resampled to it, then coded in 8 bits."""
    line = preprocessing.line_rate or rate
    wave = resampled(wave, rate, line, preprocessing.resampler)
    match preprocessing.line_coding:
        case "none":
            return wave, line
        case "pcm8":
            return (wave * 128).round().clip(-128, 127) / 128, line
        case "mu-law" | "a-law" as law:
            levels = g711_levels(law)
            return levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, wave)], line


@lru_cache
def g711_levels(law: str) -> Wave:
    """The values that ITU-T G.711's bytes stand for, ascending, shape (255,) for mu-law (0 twice), (256,) for A-law.

    Each sign has 8 segments of 16 steps, a step twice as wide from segment to segment. A sample is sent as the
    nearest value.
    """
    segment, step = np.divmod(np.arange(128), 16)
    if law == "mu-law":  # in units of 1/8192 (14 bits)
        magnitude = ((2 * step + 33) * 2.0**segment - 33) / 8192
    else:  # in units of 1/4096 (13 bits); the first two segments are equally wide
        magnitude = np.where(segment == 0, 2 * step + 1, (2 * step + 33) * 2.0 ** (segment - 1)) / 4096
    levels = np.unique(np.concatenate([-magnitude, magnitude]))
    levels.flags.writeable = False
    return levels


def resampled(wave: Wave, rate: int, target: int, resampler: str) -> Wave:
    """The wave at another rate (Hz): ceil(samples * ratio) of them, as librosa counts too.

    Raises SkippedError where ``soxr`` is not installed.
    """
    if rate == target:
        return wave
    shared = gcd(rate, target)
    up, down = target // shared, rate // shared
    count = ceil(len(wave) * up / down)
    if resampler in ("polyphase", "fft"):
        from scipy import signal

        made = signal.resample_poly(wave, up, down) if resampler == "polyphase" else signal.resample(wave, count)
        return np.asarray(made, dtype=np.float64)
    if resampler == "soxr":
        made = _soxr().resample(wave, rate, target, quality="HQ")[:count]
        return np.pad(np.asarray(made, dtype=np.float64), (0, count - len(made)))
    places = np.arange(count) * (down / up)
    if resampler == "nearest":
        places = np.floor(places + 0.5)
    made = np.interp(places, np.arange(len(wave)), wave)
    return np.asarray(made, dtype=np.float64)


def fitted(wave: Wave, samples: int, alignment: str) -> Wave:
    """Cut, or filled with silence, to ``samples``; ``alignment`` is where the recording lies in them."""
    missing = samples - len(wave)
    before = {"start": 0, "centre": int(missing / 2), "end": missing}[alignment]
    if missing < 0:
        return wave[-before : samples - before]
    return np.pad(wave, (before, missing - before))


def emphasised(wave: Wave, coefficient: float) -> Wave:
    """x[t] - k x[t-1], the first sample as it is."""
    if not coefficient:
        return wave
    return np.concatenate([wave[:1], wave[1:] - coefficient * wave[:-1]])


def _soxr() -> ModuleType:
    try:
        import soxr
    except ImportError as error:
        raise SkippedError(
            "soxr, librosa's resampler, is not installed here. Install it with `pip install gapshift[audio]`."
        ) from error
    found: ModuleType = soxr
    return found
