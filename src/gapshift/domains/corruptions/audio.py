"""Corruptions of sound: noise at set ratios, rooms, overdriven microphones, lost packets.

They act on a ``Sound``, full scale = 1, and leave its rate and length alone. Noise ratios are those
at which robust speech recognition is usually tested (20 dB to 0 dB); the other settings are ours.
Nothing is recorded: rooms and bystanders are made.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from math import gcd

import numpy as np
from numpy.typing import NDArray

from gapshift.domains.corruptions.base import Family
from gapshift.domains.synthesis import PHONES, RATE, Voice, speak, speaker

Wave = NDArray[np.float64]

SIGNAL_TO_NOISE = (20.0, 15.0, 10.0, 5.0, 0.0)
"""Decibels between the mean powers of the recording and of what is added."""
REVERBERATION_TIMES = (0.2, 0.35, 0.5, 0.8, 1.2)
"""Seconds in which a room's sound falls by 60 dB."""
DIRECT_TO_REVERBERANT = (8.0, 4.0, 0.0, -3.0, -6.0)
"""Decibels between the direct sound and all that follows."""
CLIP_SHARES = (0.5, 0.3, 0.18, 0.1, 0.05)
"""The height at which a wave is cut, as a share of its peak."""
LOSS_RATES = (0.05, 0.1, 0.2, 0.3, 0.45)
"""Shares of packets that never arrive."""
PACKET = 0.02
"""Seconds of a packet, as telephony cuts them."""
TALKERS = 6
_VOICES_SEED = 31


@dataclass(frozen=True, eq=False)
class Sound:
    """A recording: its sampling rate (Hz) and its wave (samples,)."""

    rate: int
    wave: Wave


def white_noise(sound: Sound, severity: int, rng: np.random.Generator) -> Sound:
    """Noise of equal power at every frequency."""
    return _mixed(sound, rng.standard_normal(len(sound.wave)), severity)


def pink_noise(sound: Sound, severity: int, rng: np.random.Generator) -> Sound:
    """Noise whose power falls as 1/frequency."""
    spectrum = np.fft.rfft(rng.standard_normal(len(sound.wave)))
    spectrum[0] = 0
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    return _mixed(sound, np.fft.irfft(spectrum, len(sound.wave)), severity)


def babble_noise(sound: Sound, severity: int, rng: np.random.Generator) -> Sound:
    """Six synthesised voices that talk at once, in phonemes of no language."""
    from scipy import signal

    needed = len(sound.wave) * RATE // sound.rate + RATE // 100
    talkers = rng.choice(len(_voices()), TALKERS, replace=False)
    together = np.sum([_talk(_voices()[talker], needed, rng) for talker in talkers], axis=0)
    shared = gcd(RATE, sound.rate)
    babble = signal.resample_poly(together, sound.rate // shared, RATE // shared)
    return _mixed(sound, np.asarray(babble, dtype=np.float64)[: len(sound.wave)], severity)


@cache
def _voices() -> tuple[tuple[Wave, ...], ...]:
    """Six utterances of unit power by each of twelve voices, the same on every call."""
    rng, phonemes = np.random.default_rng(_VOICES_SEED), list(PHONES)

    def utterance(voice: Voice) -> Wave:
        word = [phonemes[place] for place in rng.integers(len(phonemes), size=6)]
        spoken = speak(word, voice, rng, longest=1.0, reduction=0.3)
        return np.asarray(spoken / np.sqrt(np.mean(spoken**2)), dtype=np.float64)

    return tuple(tuple(utterance(voice) for _ in range(6)) for voice in (speaker(rng) for _ in range(12)))


def _talk(utterances: tuple[Wave, ...], samples: int, rng: np.random.Generator) -> Wave:
    """One voice talking without a pause, in an order and from a moment of its own."""
    order = np.concatenate([utterances[place] for place in rng.permutation(len(utterances))])
    return np.resize(np.roll(order, int(rng.integers(len(order)))), samples)


def _mixed(sound: Sound, noise: Wave, severity: int) -> Sound:
    """The recording with noise at the severity's ratio; silence, which has no power, stays silent."""
    power, noise_power = float(np.mean(sound.wave**2)), float(np.mean(noise**2))
    if not power or not noise_power:
        return sound
    gain = np.sqrt(power / noise_power) * 10 ** (-SIGNAL_TO_NOISE[severity - 1] / 20)
    return replace(sound, wave=sound.wave + gain * noise)


def reverberation(sound: Sound, severity: int, rng: np.random.Generator) -> Sound:
    """A room by its statistics (Polack, 1988): direct sound, then white noise that decays exponentially.

    The recording keeps its power and its length.
    """
    from scipy import signal

    time = REVERBERATION_TIMES[severity - 1]
    # As long a draw at every severity, so that it is the same room, less and less damped.
    longest = rng.standard_normal(round(REVERBERATION_TIMES[-1] * sound.rate))
    ages = np.arange(1, len(longest) + 1) / sound.rate
    tail = longest * np.exp(-3 * np.log(10) * ages / time)
    tail *= 10 ** (-DIRECT_TO_REVERBERANT[severity - 1] / 20) / np.sqrt(np.sum(tail**2))
    wet = np.asarray(signal.fftconvolve(sound.wave, np.concatenate([[1.0], tail])), dtype=np.float64)[: len(sound.wave)]
    power = np.mean(wet**2)
    return replace(sound, wave=wet * np.sqrt(np.mean(sound.wave**2) / power)) if power else sound


def clipping(sound: Sound, severity: int, rng: np.random.Generator) -> Sound:  # noqa: ARG001
    """A wave cut at a share of its peak, as an overdriven input does. Nothing is random about it."""
    limit = CLIP_SHARES[severity - 1] * float(np.abs(sound.wave).max())
    return replace(sound, wave=np.clip(sound.wave, -limit, limit))


def packet_loss(sound: Sound, severity: int, rng: np.random.Generator) -> Sound:
    """Packets of 20 ms, each lost by its own draw, filled with silence."""
    size = max(round(PACKET * sound.rate), 1)
    packets = np.arange(len(sound.wave)) // size
    lost = rng.random(int(packets[-1]) + 1) < LOSS_RATES[severity - 1]
    return replace(sound, wave=np.where(lost[packets], 0.0, sound.wave))


FAMILIES = (
    Family[Sound]("white-noise", white_noise),
    Family[Sound]("pink-noise", pink_noise),
    Family[Sound]("babble-noise", babble_noise),
    Family[Sound]("reverberation", reverberation),
    Family[Sound]("clipping", clipping),
    Family[Sound]("packet-loss", packet_loss),
)
