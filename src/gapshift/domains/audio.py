"""From the bytes of a WAV file to log-mel features, as a contract declares it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, gcd

import numpy as np
from numpy.typing import NDArray

from gapshift.domains.mel import MelScale, filter_bank
from gapshift.domains.wav import read_wav
from gapshift.errors import ContractError, DataError, UnreadableItemError
from gapshift.schema import AudioPreprocessing

Wave = NDArray[np.float64]


def prepare(raw: bytes, preprocessing: AudioPreprocessing) -> NDArray[np.float32]:
    """One recording as the model takes it: log-mel features (mels, frames), normalised.

    ``frames`` follows from the contract alone (``frames_of``). Raises UnreadableItemError for
    bytes that are no whole WAV file with finite samples, and ContractError where mean and std are
    still to be learnt, or a mel band holds no frequency.
    """
    mean, std = preprocessing.mean, preprocessing.std
    if mean is None or std is None:
        raise ContractError(
            "The audio preprocessing has no mean and std. Learn them from the training items "
            "(gapshift.domains.audio.learn), or write both into the contract."
        )
    return ((log_mel(raw, preprocessing) - mean) / std).astype(np.float32)


def learn(raws: Iterable[bytes], preprocessing: AudioPreprocessing) -> AudioPreprocessing:
    """The preprocessing with mean and standard deviation of all log-mel values of ``raws``.

    Unreadable items are left out. Raises DataError where not one can be read, or all values are equal.
    """
    moments = [_moments(features) for features in _readable(raws, preprocessing)]
    if not moments:
        raise DataError("None of the training items is a readable WAV file, so mean and std cannot be learnt.")
    means, variances = np.array(moments).T  # every item has as many values
    mean, std = float(means.mean()), float(np.sqrt(variances.mean() + means.var()))
    if std < 1e-6:  # equal values, but for rounding
        raise DataError(f"All log-mel values of the training items are {mean:g}: silence. Give recordings with sound.")
    return preprocessing.model_copy(update={"mean": mean, "std": std})


def log_mel(raw: bytes, preprocessing: AudioPreprocessing) -> NDArray[np.float64]:
    """log(power + log_floor) in every mel band and frame, before normalisation: (mels, frames).

    Power is that of the windowed frame's discrete Fourier transform, without any scaling.
    Raises UnreadableItemError and ContractError as ``prepare`` does.
    """
    rate, wave = read_wav(raw)
    wave = _resample(wave, preprocessing.assumed_rate or rate, preprocessing)
    analysis = _analysis_of(preprocessing)
    spectrum = np.fft.rfft(_frames(_fit(wave, preprocessing), preprocessing) * analysis.window)
    power = spectrum.real**2 + spectrum.imag**2
    features: NDArray[np.float64] = np.log(analysis.bank @ power.T + preprocessing.log_floor)
    return features


def frames_of(preprocessing: AudioPreprocessing) -> int:
    """How many frames ``prepare`` makes.

    >>> frames_of(AudioPreprocessing(sample_rate=8000, duration=1.0, window_length=256, hop_length=128))
    63
    """
    padding = preprocessing.window_length // 2 * 2 if preprocessing.center else 0
    return 1 + (_samples(preprocessing) + padding - preprocessing.window_length) // preprocessing.hop_length


# ------------------------------------------------------------------------------- steps


def _samples(preprocessing: AudioPreprocessing) -> int:
    return round(preprocessing.duration * preprocessing.sample_rate)


def _resample(wave: Wave, rate: int, preprocessing: AudioPreprocessing) -> Wave:
    """The wave at the contract's rate: ceil(samples * ratio) of them, as librosa counts too."""
    target = preprocessing.sample_rate
    if rate == target:
        return wave
    from scipy import signal

    shared = gcd(rate, target)
    up, down = target // shared, rate // shared
    count = ceil(len(wave) * up / down)
    if preprocessing.resampler == "polyphase":
        return np.asarray(signal.resample_poly(wave, up, down), dtype=np.float64)
    if preprocessing.resampler == "fft":
        return np.asarray(signal.resample(wave, count), dtype=np.float64)
    linear: Wave = np.interp(np.arange(count) * (down / up), np.arange(len(wave)), wave)
    return linear


def _fit(wave: Wave, preprocessing: AudioPreprocessing) -> Wave:
    """Cut, or filled with silence, at its end."""
    wave = wave[: _samples(preprocessing)]
    return np.pad(wave, (0, _samples(preprocessing) - len(wave)))


def _frames(wave: Wave, preprocessing: AudioPreprocessing) -> Wave:
    """Overlapping frames, shape (frames, window_length); a view."""
    length = preprocessing.window_length
    if preprocessing.center:
        wave = np.pad(wave, length // 2, mode="reflect")
    return np.lib.stride_tricks.sliding_window_view(wave, length)[:: preprocessing.hop_length]


# --------------------------------------------------------------- window and filter bank


@dataclass(frozen=True, slots=True)
class _Analysis:
    window: Wave
    bank: NDArray[np.float64]


def _analysis_of(preprocessing: AudioPreprocessing) -> _Analysis:
    return _analysis(
        preprocessing.window == "hann-symmetric",
        preprocessing.window_length,
        preprocessing.mels,
        preprocessing.sample_rate,
        preprocessing.mel_scale,
    )


@lru_cache(maxsize=64)
def _analysis(symmetric: bool, length: int, mels: int, sample_rate: int, scale: MelScale) -> _Analysis:
    """What every recording under the same contract shares."""
    from scipy.signal.windows import hann

    window = np.asarray(hann(length, sym=symmetric), dtype=np.float64)
    return _Analysis(window, filter_bank(mels, length, sample_rate, scale))


# ---------------------------------------------------------------------------- learning


def _readable(raws: Iterable[bytes], preprocessing: AudioPreprocessing) -> Iterable[NDArray[np.float64]]:
    for raw in raws:
        try:
            yield log_mel(raw, preprocessing)
        except UnreadableItemError:
            continue


def _moments(features: NDArray[np.float64]) -> tuple[float, float]:
    return float(features.mean()), float(features.var())
