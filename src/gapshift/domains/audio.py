"""From the bytes of a WAV file to log-mel features, as a contract declares it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gapshift.domains.mel import MelNorm, MelScale, filter_bank, librosa_bands, window_of
from gapshift.domains.recording import Wave, emphasised, fitted, recorded, resampled, through_line
from gapshift.domains.wav import read_wav
from gapshift.errors import ContractError, DataError, UnreadableItemError
from gapshift.schema import AudioPreprocessing


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
    """The logarithm of every mel band in every frame, before normalisation: (mels, frames).

    Power is that of the windowed frame's discrete Fourier transform, without any scaling.
    Raises UnreadableItemError and ContractError as ``prepare`` does, and SkippedError where a library is not
    installed.
    """
    return logarithms(_bands(_wave(raw, preprocessing), preprocessing), preprocessing)


def logarithms(bands: NDArray[np.float64], preprocessing: AudioPreprocessing) -> NDArray[np.float64]:
    """Logarithms of non-negative values, by the declared floor, reference, range and unit.

    ``clamped`` with ``max``, ``decibel`` and a range is librosa's ``power_to_db(ref=np.max, top_db=…)``.
    """
    floor, decibels = preprocessing.log_floor, 10 / np.log(10)
    logs: NDArray[np.float64] = np.log(bands + floor if preprocessing.flooring == "added" else np.maximum(bands, floor))
    if preprocessing.log_reference == "max":
        logs -= logs.max()
    if preprocessing.log_range is not None:
        logs = np.maximum(logs, logs.max() - preprocessing.log_range / decibels)
    return logs * decibels if preprocessing.log_unit == "decibel" else logs


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


def _wave(raw: bytes, preprocessing: AudioPreprocessing) -> Wave:
    """The recording as it reaches the features, at the contract's rate and length."""
    rate, wave = read_wav(raw, preprocessing.mono)
    wave, rate = through_line(recorded(wave, preprocessing), preprocessing.assumed_rate or rate, preprocessing)
    wave = resampled(wave, rate, preprocessing.sample_rate, preprocessing.resampler)
    wave = fitted(wave, _samples(preprocessing), preprocessing.alignment)
    return emphasised(wave, preprocessing.pre_emphasis)


def _bands(wave: Wave, preprocessing: AudioPreprocessing) -> NDArray[np.float64]:
    """Power or magnitude in every mel band and frame, (mels, frames)."""
    if preprocessing.feature_library == "librosa":
        return librosa_bands(wave, preprocessing)
    analysis = _analysis_of(preprocessing)
    spectrum = np.fft.rfft(_frames(wave, preprocessing) * analysis.window)
    power = spectrum.real**2 + spectrum.imag**2
    bands: NDArray[np.float64] = analysis.bank @ (power if preprocessing.spectrum == "power" else np.sqrt(power)).T
    return bands


def _frames(wave: Wave, preprocessing: AudioPreprocessing) -> Wave:
    """Overlapping frames, shape (frames, window_length); a view."""
    length = preprocessing.window_length
    if preprocessing.center and preprocessing.frame_padding == "reflect":
        wave = np.pad(wave, length // 2, mode="reflect")
    elif preprocessing.center:
        wave = np.pad(wave, length // 2)
    return np.lib.stride_tricks.sliding_window_view(wave, length)[:: preprocessing.hop_length]


# --------------------------------------------------------------- window and filter bank


@dataclass(frozen=True, slots=True)
class _Analysis:
    window: Wave
    bank: NDArray[np.float64]


def _analysis_of(preprocessing: AudioPreprocessing) -> _Analysis:
    return _analysis(
        preprocessing.window,
        preprocessing.window_length,
        preprocessing.mels,
        preprocessing.sample_rate,
        preprocessing.mel_scale,
        preprocessing.mel_norm,
    )


@lru_cache(maxsize=64)
def _analysis(window: str, length: int, mels: int, sample_rate: int, scale: MelScale, norm: MelNorm) -> _Analysis:
    """What every recording under the same contract shares."""
    return _Analysis(window_of(window, length), filter_bank(mels, length, sample_rate, scale, norm))


# ---------------------------------------------------------------------------- learning


def _readable(raws: Iterable[bytes], preprocessing: AudioPreprocessing) -> Iterable[NDArray[np.float64]]:
    for raw in raws:
        try:
            yield log_mel(raw, preprocessing)
        except UnreadableItemError:
            continue


def _moments(features: NDArray[np.float64]) -> tuple[float, float]:
    return float(features.mean()), float(features.var())
