"""WAV files: every encoding of a wave is the same wave, and damage is named."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.io import wavfile

from gapshift.domains.wav import read_wav
from gapshift.errors import DataError, UnreadableItemError

WAVE = np.round(np.random.default_rng(0).uniform(-100, 100, 500)) / 128
"""Values that eight bits hold exactly."""


def _scipy(samples: NDArray[Any], rate: int = 8000) -> bytes:
    buffer = io.BytesIO()
    wavfile.write(buffer, rate, samples)
    return buffer.getvalue()


def _chunk(name: bytes, content: bytes, order: str = "<") -> bytes:
    return name + struct.pack(f"{order}I", len(content)) + content + b"\0" * (len(content) % 2)


def _riff(*chunks: bytes, order: str = "<") -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return (b"RIFF" if order == "<" else b"RIFX") + struct.pack(f"{order}I", len(body)) + body


def _fmt(bits: int = 16, rate: int = 8000, channels: int = 1, tag: int = 1, order: str = "<") -> bytes:
    align = channels * bits // 8
    return _chunk(b"fmt ", struct.pack(f"{order}HHIIHH", tag, channels, rate, rate * align, align, bits), order)


def _pcm24(wave: NDArray[np.float64]) -> bytes:
    words = (wave * 2**23).astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3]
    return _riff(_fmt(24), _chunk(b"data", words.tobytes()))


SIXTEEN = (WAVE * 2**15).astype("<i2")
ENCODINGS = {
    "8 bits": _scipy((WAVE * 128 + 128).astype(np.uint8)),
    "16 bits": _scipy(SIXTEEN),
    "24 bits": _pcm24(WAVE),
    "32 bits": _scipy((WAVE * 2**31).astype(np.int32)),
    "float32": _scipy(WAVE.astype(np.float32)),
    "float64": _scipy(WAVE),
    "stereo": _scipy(np.stack([WAVE + 0.125, WAVE - 0.125], axis=1)),
    "six channels": _scipy(np.repeat(SIXTEEN[:, None], 6, axis=1)),
    "big-endian": _riff(_fmt(order=">"), _chunk(b"data", SIXTEEN.astype(">i2").tobytes(), ">"), order=">"),
    "other chunks": _riff(
        _chunk(b"bext", b"xyz"),
        _fmt(),
        _chunk(b"junk", b"1"),
        _chunk(b"data", SIXTEEN.tobytes()),
        _chunk(b"cue ", b"1"),
    ),
    "bytes after the end": _riff(_fmt(), _chunk(b"data", SIXTEEN.tobytes())) + b"ID3",
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_holds_the_same_wave(encoding: str) -> None:
    rate, wave = read_wav(ENCODINGS[encoding])
    assert rate == 8000
    np.testing.assert_allclose(wave, WAVE, rtol=0, atol=1e-12)


def test_full_scale_is_one() -> None:
    _, wave = read_wav(_scipy(np.array([-(2**15), 0, 2**15 - 1], dtype=np.int16)))
    assert wave.tolist() == [-1, 0, 1 - 2**-15]
    _, wave = read_wav(_scipy(np.array([0, 128, 255], dtype=np.uint8)))
    assert wave.tolist() == [-1, 0, 127 / 128]


WHOLE = ENCODINGS["16 bits"]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", r"\(0 bytes\): it is empty"),
        (b"ID3\x04 no sound at all", "does not begin as a RIFF or RIFX file of the form WAVE"),
        (b"RIFF\x04\0\0\0AVI ", "does not begin as a RIFF or RIFX file of the form WAVE"),
        (WHOLE[:-1], "'data' chunk declares 1000 bytes and 999 are there"),
        (WHOLE[:200], r"\(200 bytes\): its 'data' chunk declares 1000 bytes and 156 are there"),
        (WHOLE[:30], "'fmt ' chunk declares 16 bytes and 10 are there"),
        (WHOLE[:36], "it has no data chunk"),
        (_riff(_chunk(b"data", b"12"), _fmt()), "data chunk comes before the fmt chunk"),
        (_riff(_fmt(), _chunk(b"data", b"")), "it holds no samples"),
        (_riff(_fmt(), _chunk(b"data", b"123")), "buffer size must be a multiple of element size"),
        (_riff(_fmt(channels=0), _chunk(b"data", b"1234")), "zero"),
        (_riff(_fmt(tag=6), _chunk(b"data", b"1234")), "(?i)format"),
        (_riff(_fmt(rate=0), _chunk(b"data", b"1234")), "sampling rate is 0 Hz; valid: 1000 to 768000"),
        (_riff(_fmt(rate=2_000_000_001), _chunk(b"data", b"1234")), "sampling rate is 2000000001 Hz"),
        (_scipy(np.array([0, np.nan])), "not finite numbers"),
        (_scipy(np.array([0, -np.inf], dtype=np.float32)), "not finite numbers"),
        (_scipy(np.array([0, 1e300])), "absurdly large"),
    ],
)
def test_damage_is_named(raw: bytes, reason: str) -> None:
    with pytest.raises(UnreadableItemError, match=reason):
        read_wav(raw)


@settings(deadline=None)
@given(st.integers(0, len(WHOLE) - 1))
def test_no_part_of_a_file_passes_for_the_whole(length: int) -> None:
    with pytest.raises(UnreadableItemError, match=rf"scipy cannot read it as WAV \({length} bytes\)"):
        read_wav(WHOLE[:length])


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 60), st.binary(min_size=1, max_size=8))
def test_a_damaged_header_is_a_wave_or_a_named_error(place: int, damage: bytes) -> None:
    raw = WHOLE[:place] + damage + WHOLE[place + len(damage) :]
    try:
        _, wave = read_wav(raw)
    except UnreadableItemError:
        return
    assert wave.ndim == 1
    assert wave.size
    assert np.isfinite(wave).all()


def test_what_is_no_file_is_refused() -> None:
    with pytest.raises(DataError, match="bytes of a WAV file, not ndarray"):
        read_wav(WAVE)  # type: ignore[arg-type]  # what a caller without types does
