"""From the bytes of a WAV file to one wave: what the file holds, or an error, never a part of it."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gapshift.errors import DataError, UnreadableItemError

RATES = (1_000, 768_000)
"""Sampling rates (Hz) that a header can truly mean: the lowest that a contract can ask for, and
the highest that audio hardware has. Outside them a resampling filter would fill the memory."""
LARGEST_SAMPLE = 1e15
"""Floating-point samples above it are damage: the power of a window of them still is a number."""


Mono = Literal["mean", "left", "sum"]


def read_wav(raw: bytes, mono: Mono = "mean") -> tuple[int, NDArray[np.float64]]:
    """The sampling rate (Hz) and one wave, shape (samples,), full scale = 1.

    Of several channels it is their mean, their sum, or the first one (``left``).

    PCM of 8 bits (unsigned) to 64 bits and floating-point samples, RIFF or RIFX, any number of
    channels; floating-point samples stay as they are. Raises UnreadableItemError with the reason
    for anything else: bytes that are no WAV file, fewer samples than the header declares, no
    samples, samples that are not finite, a sampling rate outside ``RATES``. Raises DataError for
    what is not bytes.
    """
    if not isinstance(raw, bytes):
        raise DataError(f"Audio items are the bytes of a WAV file, not {type(raw).__name__}.")
    try:
        rate, samples = _samples(raw)
        return rate, _wave(samples, mono)
    except Exception as error:
        raise UnreadableItemError(f"scipy cannot read it as WAV ({len(raw)} bytes): {error}") from error


def _samples(raw: bytes) -> tuple[int, NDArray[np.generic]]:
    from scipy.io import wavfile

    rate, samples = wavfile.read(io.BytesIO(_essential(raw)))
    if not RATES[0] <= rate <= RATES[1]:
        raise ValueError(f"its sampling rate is {rate} Hz; valid: {RATES[0]} to {RATES[1]}")
    if not samples.size:
        raise ValueError("it holds no samples")
    return int(rate), samples


def _wave(samples: NDArray[np.generic], mono: Mono) -> NDArray[np.float64]:
    wave = samples.astype(np.float64)
    if samples.dtype == np.uint8:
        wave = (wave - 128) / 128
    elif np.issubdtype(samples.dtype, np.integer):
        wave /= 2.0 ** (8 * samples.dtype.itemsize - 1)
    if not np.all(np.abs(wave) < LARGEST_SAMPLE):
        raise ValueError("some of its samples are not finite numbers, or absurdly large")
    if wave.ndim == 1:
        return wave
    if mono == "left":
        return wave[:, 0]
    mixed: NDArray[np.float64] = wave.mean(axis=1) if mono == "mean" else wave.sum(axis=1)
    return mixed


# ------------------------------------------------------------------------------ chunks


def _essential(raw: bytes) -> bytes:
    """The same file with its format and its samples alone.

    scipy warns of every other chunk, and returns what is there of a data chunk that was cut.
    """
    if raw[:4] not in (b"RIFF", b"RIFX") or raw[8:12] != b"WAVE":
        raise ValueError("it does not begin as a RIFF or RIFX file of the form WAVE" if raw else "it is empty")
    order = ">" if raw[:4] == b"RIFX" else "<"
    chunks: dict[bytes, bytes] = {}
    for name, content in _chunks(raw, order):
        if name == b"data" and b"fmt " not in chunks:
            raise ValueError("its data chunk comes before the fmt chunk that says what is in it")
        if name in (b"fmt ", b"data"):
            chunks.setdefault(name, content)
        if name == b"data":  # the first one; whatever follows is no part of the sound
            break
    else:
        raise ValueError("it has no data chunk")
    body = b"".join(
        name + struct.pack(f"{order}I", len(content)) + content + b"\0" * (len(content) % 2)
        for name, content in chunks.items()
    )
    return raw[:4] + struct.pack(f"{order}I", len(body) + 4) + b"WAVE" + body


def _chunks(raw: bytes, order: str) -> Iterator[tuple[bytes, bytes]]:
    """Names and contents of the chunks. A ValueError says where the file was cut."""
    position = 12
    while position + 8 <= len(raw):
        name = raw[position : position + 4]
        (size,) = struct.unpack_from(f"{order}I", raw, position + 4)
        content = raw[position + 8 : position + 8 + size]
        if len(content) < size:
            raise ValueError(f"its {name.decode('latin-1')!r} chunk declares {size} bytes and {len(content)} are there")
        yield name, content
        position += 8 + size + size % 2
