"""Log-mel features: what librosa documents, what physics says, and what a contract may ask for."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.io import wavfile

from gapshift.domains.audio import frames_of, learn, log_mel, prepare
from gapshift.domains.mel import filter_bank, hz_to_mel, mel_to_hz
from gapshift.errors import ContractError, DataError, UnreadableItemError
from gapshift.schema import AudioPreprocessing

Wave = NDArray[np.float64]
SCALES = ("slaney", "htk")


def _how(**settings: Any) -> AudioPreprocessing:
    return AudioPreprocessing.model_validate({"mean": 0.0, "std": 1.0, **settings})


def _file(wave: Wave, rate: int = 8000) -> bytes:
    buffer = io.BytesIO()
    wavfile.write(buffer, rate, wave)
    return buffer.getvalue()


def _tone(hz: float, rate: int = 8000, seconds: float = 1.0) -> Wave:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(rate * seconds)) / rate)


def _noise(samples: int = 8000, seed: int = 0) -> Wave:
    return np.random.default_rng(seed).normal(0, 0.1, samples)


# --------------------------------------------------------------------------- mel scales


def test_slaney_scale_as_librosa_documents_it() -> None:
    documented = [0, 85.317, 170.635, 255.952, 341.269, 426.586, 511.904, 597.221, 682.538, 767.855, 853.173, 938.49]
    documented += [1024.856, 1119.114, 1222.042, 1334.436, 1457.167, 1591.187, 1737.532, 1897.337, 2071.84, 2262.393]
    top = hz_to_mel(np.array(11025.0), "slaney")
    np.testing.assert_allclose(mel_to_hz(np.linspace(0, top, 40), "slaney")[:22], documented, atol=5e-4)


def test_htk_scale_is_1000_mel_at_1000_hz() -> None:
    assert hz_to_mel(np.array([0.0, 1000.0, 4000.0]), "htk") == pytest.approx([0, 999.986, 2146.065], abs=1e-3)


@pytest.mark.parametrize("scale", SCALES)
@given(hz=st.floats(0, 24_000))
def test_scales_are_inverted(scale: Any, hz: float) -> None:
    assert mel_to_hz(hz_to_mel(np.array(hz), scale), scale) == pytest.approx(hz, abs=1e-6)


@pytest.mark.parametrize("scale", SCALES)
def test_triangles_have_area_one_and_overlap_without_gaps(scale: Any) -> None:
    bank = filter_bank(20, 4096, 16_000, scale)
    np.testing.assert_allclose(bank.sum(axis=1) * 16_000 / 4096, 1, rtol=0.02)
    peaks = bank.argmax(axis=1)
    assert (np.diff(peaks) > 0).all()
    assert bank[:, peaks[0] : peaks[-1]].any(axis=0).all()


def test_bands_that_hold_nothing_are_refused() -> None:
    with pytest.raises(
        ContractError, match=r"mels = 256 is too many for a window of 256 samples at 8000 Hz: band \d+ holds no"
    ):
        prepare(_file(_noise()), _how(mels=256))


# ----------------------------------------------------------------------------- features


def test_power_through_the_bank_is_parsevals() -> None:
    """White noise of variance v has power v * sum(window²) in every bin, so each band's is that times its weight."""
    how, variance = _how(duration=60.0), 0.01
    power = np.exp(log_mel(_file(_noise(480_000)), how)).mean(axis=1)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(256) / 256)
    expected = filter_bank(32, 256, 8000, "slaney").sum(axis=1) * variance * (window**2).sum()
    np.testing.assert_allclose(power, expected, rtol=0.05)


@pytest.mark.parametrize("hz", [300, 1000, 2500])
@pytest.mark.parametrize("scale", SCALES)
def test_a_tone_lies_in_its_band(hz: int, scale: Any) -> None:
    loudest = log_mel(_file(_tone(hz)), _how(mel_scale=scale))[:, 30].argmax()
    centres = mel_to_hz(np.linspace(0, hz_to_mel(np.array(4000.0), scale), 34), scale)[1:-1]
    assert abs(int(loudest) - np.abs(centres - hz).argmin()) <= 1


def test_silence_is_the_floor() -> None:
    features = prepare(_file(np.zeros(8000)), _how(log_floor=1e-6))
    np.testing.assert_allclose(features, np.log(1e-6), rtol=1e-6)


@given(st.floats(0.01, 10.0), st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_gain_adds_a_constant_far_above_the_floor(gain: float, seed: int) -> None:
    how = _how(log_floor=1e-12)
    one, other = (log_mel(_file(wave), how) for wave in (_noise(seed=seed), gain * _noise(seed=seed)))
    np.testing.assert_allclose(other - one, 2 * np.log(gain), atol=1e-4)


@pytest.mark.parametrize("center", [True, False])
def test_a_hop_of_silence_shifts_frames_by_one(center: bool) -> None:
    how = _how(center=center)
    wave = np.concatenate([np.zeros(512), _noise(6000)])
    one, other = prepare(_file(wave), how), prepare(_file(np.concatenate([np.zeros(128), wave])), how)
    np.testing.assert_allclose(other[:, 3:-3], one[:, 2:-4], rtol=1e-5)


@given(
    st.sampled_from([0.4, 0.8, 1.0, 1.7]), st.integers(1, 20_000), st.sampled_from([80, 128, 256]), st.booleans(),
    st.sampled_from(["polyphase", "fft", "linear"]), st.sampled_from([8000, 11_025, 16_000]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_shape_follows_from_the_contract_alone(
    duration: float, samples: int, hop: int, center: bool, resampler: str, rate: int
) -> None:
    how = _how(duration=duration, hop_length=hop, center=center, resampler=resampler)
    features = prepare(_file(_noise(samples), rate), how)
    assert features.shape == (32, frames_of(how))
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    np.testing.assert_array_equal(features, prepare(_file(_noise(samples), rate), how))


def test_the_end_is_cut_or_silent() -> None:
    wave = _noise()
    long = prepare(_file(np.concatenate([wave, _noise(seed=1)])), _how())
    np.testing.assert_array_equal(prepare(_file(wave), _how()), long)
    assert (prepare(_file(wave[:4000]), _how())[:, 34:] == np.float32(np.log(1e-6))).all()


def test_the_windows_differ_as_they_should() -> None:
    one, other = (prepare(_file(_noise()), _how(window=f"hann-{form}")) for form in ("periodic", "symmetric"))
    assert 0 < np.abs(one - other).mean() < 0.1


# --------------------------------------------------------------------------- resampling


@pytest.mark.parametrize("resampler", ["polyphase", "fft", "linear"])
@pytest.mark.parametrize("rate", [16_000, 22_050, 44_100])
def test_a_low_tone_survives_resampling(resampler: str, rate: int) -> None:
    direct = log_mel(_file(_tone(500)), _how())
    resampled = log_mel(_file(_tone(500, rate), rate), _how(resampler=resampler))
    band = direct[:, 30].argmax()
    np.testing.assert_allclose(resampled[band, 5:-5], direct[band, 5:-5], atol=0.05)


def test_only_linear_interpolation_aliases() -> None:
    """5 kHz does not exist at 8 kHz; without a low-pass filter it folds down to 3 kHz."""
    raw = _file(_tone(5000, 16_000), 16_000)
    levels = {r: log_mel(raw, _how(resampler=r))[:, 10:50].max() for r in ("polyphase", "fft", "linear")}
    assert levels["linear"] > -2
    assert max(levels["polyphase"], levels["fft"]) < levels["linear"] - 6


def test_an_equal_rate_is_not_resampled() -> None:
    one, *others = (prepare(_file(_noise()), _how(resampler=r)) for r in ("polyphase", "fft", "linear"))
    for other in others:
        np.testing.assert_array_equal(one, other)


def test_an_assumed_rate_overrides_the_header() -> None:
    wrong = log_mel(_file(_tone(500, 8000), 8000), _how(assumed_rate=16_000))
    right = log_mel(_file(_tone(1000, 8000), 8000), _how())
    assert wrong[:, 10].argmax() == right[:, 10].argmax()


# ------------------------------------------------------------------------ normalisation


def test_learnt_features_have_mean_0_and_deviation_1() -> None:
    raws = [_file(_noise(seed=seed) * (seed + 1)) for seed in range(5)]
    learnt = learn(iter(raws), AudioPreprocessing())
    features = np.stack([prepare(raw, learnt) for raw in raws])
    assert features.mean() == pytest.approx(0, abs=1e-5)
    assert features.std() == pytest.approx(1, abs=1e-5)
    assert learnt.model_copy(update={"mean": None, "std": None}) == AudioPreprocessing()


def test_learning_leaves_out_the_unreadable() -> None:
    raws = [b"broken", _file(_noise()), _file(_noise())[:-1]]
    assert learn(raws, AudioPreprocessing()) == learn(raws[1:2], AudioPreprocessing())
    with pytest.raises(DataError, match="None of the training items is a readable WAV file"):
        learn([b"broken"], AudioPreprocessing())
    with pytest.raises(DataError, match="None of the training items is a readable WAV file"):
        learn([], AudioPreprocessing())


def test_learning_from_silence_is_refused() -> None:
    with pytest.raises(DataError, match=r"All log-mel values of the training items are -13\.8\S*: silence"):
        learn([_file(np.zeros(8000))] * 2, AudioPreprocessing())


@pytest.mark.parametrize("known", [{}, {"mean": 0.0}, {"std": 1.0}])
def test_without_mean_and_std_nothing_is_prepared(known: dict[str, float]) -> None:
    with pytest.raises(ContractError, match=r"has no mean and std\. Learn them from the training items"):
        prepare(_file(_noise()), AudioPreprocessing.model_validate(known))


def test_an_unreadable_item_says_so() -> None:
    with pytest.raises(UnreadableItemError, match="scipy cannot read it as WAV"):
        prepare(b"no sound", _how())
