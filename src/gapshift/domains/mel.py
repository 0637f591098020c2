"""Windows, mel scales and filter banks, ours and librosa's."""

from __future__ import annotations

from types import ModuleType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gapshift.errors import ContractError, SkippedError
from gapshift.schema import AudioPreprocessing

MelScale = Literal["slaney", "htk"]
MelNorm = Literal["area", "peak"]

# Auditory Toolbox (Slaney, 1998): linear up to 1 kHz at 3 mel per 200 Hz, then 27 mel per factor of 6.4.
_LINEAR_HZ = 200 / 3
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_HZ
_LOG_STEP = np.log(6.4) / 27


def hz_to_mel(hz: NDArray[np.float64], scale: MelScale) -> NDArray[np.float64]:
    """Mel values of frequencies >= 0: 2595 log10(1 + f / 700) (HTK Book, 5.4), or Slaney's.

    >>> hz_to_mel(np.array([60.0, 110.0, 220.0, 440.0]), "slaney").tolist()
    [0.9, 1.65, 3.3, 6.6]
    """
    hz = np.asarray(hz, dtype=np.float64)
    if scale == "htk":
        return 2595 * np.log10(1 + hz / 700)
    above = _BREAK_MEL + np.log(np.maximum(hz, _BREAK_HZ) / _BREAK_HZ) / _LOG_STEP
    return np.where(hz < _BREAK_HZ, hz * 3 / 200, above)


def mel_to_hz(mel: NDArray[np.float64], scale: MelScale) -> NDArray[np.float64]:
    """The inverse of ``hz_to_mel``."""
    mel = np.asarray(mel, dtype=np.float64)
    if scale == "htk":
        return 700 * (10 ** (mel / 2595) - 1)
    above = _BREAK_HZ * np.exp(_LOG_STEP * np.maximum(mel - _BREAK_MEL, 0))
    return np.where(mel < _BREAK_MEL, mel * _LINEAR_HZ, above)


def filter_bank(
    mels: int, window_length: int, sample_rate: int, scale: MelScale, norm: MelNorm = "area"
) -> NDArray[np.float64]:
    """Triangles over the power spectrum, shape (mels, window_length // 2 + 1).

    They are linear in Hz between 0 and half the sampling rate, their corners evenly spaced on the
    mel scale, and of ``area`` 1 (Slaney's normalisation) on either scale, or of height 1 (``peak``, as HTK
    and torchaudio leave them). Raises ContractError where a triangle falls between two frequencies of the
    spectrum: it could never hold anything.
    """
    top = hz_to_mel(np.array(sample_rate / 2), scale)
    corners = mel_to_hz(np.linspace(0, top, mels + 2), scale)
    frequencies = np.fft.rfftfreq(window_length, 1 / sample_rate)
    left, centre, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    rising, falling = (frequencies - left) / (centre - left), (right - frequencies) / (right - centre)
    bank: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling))
    if norm == "area":
        bank *= 2 / (right - left)
    empty = np.flatnonzero(~bank.any(axis=1))
    if empty.size:
        raise ContractError(
            f"mels = {mels} is too many for a window of {window_length} samples at {sample_rate} Hz: band {empty[0]} "
            f"holds no frequency ({empty.size} such bands). Take fewer mels or a longer window_length."
        )
    return bank


def window_of(name: str, length: int) -> NDArray[np.float64]:
    """scipy's window of ``length`` samples, by the contract's name of it."""
    from scipy.signal import windows

    if name == "rectangular":
        return np.ones(length)
    shape, form = name.split("-")
    make = windows.hann if shape == "hann" else windows.hamming
    return np.asarray(make(length, sym=form == "symmetric"), dtype=np.float64)


def librosa_bands(wave: NDArray[np.float64], preprocessing: AudioPreprocessing) -> NDArray[np.float64]:
    """librosa's ``melspectrogram`` of a wave at the contract's rate, in float32 as ``librosa.load`` gives it.

    Raises ContractError as ``filter_bank`` does and SkippedError where librosa is not installed.
    """
    length, mels, rate = preprocessing.window_length, preprocessing.mels, preprocessing.sample_rate
    filter_bank(mels, length, rate, preprocessing.mel_scale)  # librosa only warns of bands that hold nothing
    bands = _librosa().feature.melspectrogram(
        y=wave.astype(np.float32),
        sr=rate,
        n_fft=length,
        hop_length=preprocessing.hop_length,
        window=window_of(preprocessing.window, length),
        center=preprocessing.center,
        pad_mode="reflect" if preprocessing.frame_padding == "reflect" else "constant",
        power=2.0 if preprocessing.spectrum == "power" else 1.0,
        n_mels=mels,
        htk=preprocessing.mel_scale == "htk",
        norm="slaney" if preprocessing.mel_norm == "area" else None,
    )
    return np.asarray(bands, dtype=np.float64)


def _librosa() -> ModuleType:
    try:
        import librosa
        import librosa.feature
    except ImportError as error:
        raise SkippedError("librosa is not installed here. Install it with `pip install gapshift[audio]`.") from error
    found: ModuleType = librosa
    return found
