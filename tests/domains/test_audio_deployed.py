"""What recorders, lines and other libraries do to sound and features, against theory and the libraries themselves."""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.io import wavfile

from gapshift.domains.audio import frames_of, log_mel, logarithms, prepare
from gapshift.domains.mel import filter_bank, window_of
from gapshift.domains.recording import fitted, g711_levels, recorded, resampled, through_line
from gapshift.domains.wav import read_wav
from gapshift.errors import ContractError, SkippedError
from gapshift.schema import AudioPreprocessing, digest

Wave = NDArray[np.float64]


def _how(**settings: Any) -> AudioPreprocessing:
    return AudioPreprocessing.model_validate({"mean": 0.0, "std": 1.0, **settings})


def _file(wave: Wave, rate: int = 8000) -> bytes:
    buffer = io.BytesIO()
    wavfile.write(buffer, rate, wave)
    return buffer.getvalue()


def _noise(samples: int = 8000, seed: int = 0) -> Wave:
    return np.random.default_rng(seed).normal(0, 0.1, samples)


def _tone(hz: float, rate: int = 8000) -> Wave:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(rate) / rate)


NOISE = _noise()

# ---------------------------------------------------------------------------- recorder


@pytest.mark.parametrize(("mono", "wave"), [("mean", 0.1), ("left", 0.3), ("sum", 0.2)])
def test_stereo_becomes_one_wave(mono: Any, wave: float) -> None:
    stereo = np.tile([0.3, -0.1], (4000, 1))
    np.testing.assert_allclose(read_wav(_file(stereo), mono)[1], wave)
    np.testing.assert_allclose(read_wav(_file(np.full(4000, 0.3)), mono)[1], 0.3)
    left = prepare(_file(np.stack([NOISE, _noise(seed=1)], axis=1)), _how(mono="left"))
    np.testing.assert_array_equal(left, prepare(_file(NOISE), _how()))


def test_gain_offset_and_clipping_come_in_this_order() -> None:
    wave = recorded(np.array([0.1, -0.5, 0.02]), _how(gain_db=20.0, dc_offset=0.1, clip_at=0.5))
    np.testing.assert_allclose(wave, [0.5, -0.5, 0.3])


def test_a_gain_of_20_db_is_a_power_of_100() -> None:
    one, other = (log_mel(_file(NOISE), _how(log_floor=1e-12, gain_db=gain)) for gain in (0.0, -20.0))
    np.testing.assert_allclose(one - other, np.log(100), atol=1e-6)


def test_an_offset_reaches_the_lowest_bands_alone() -> None:
    change = np.abs(log_mel(_file(NOISE), _how(dc_offset=0.3)) - log_mel(_file(NOISE), _how())).mean(axis=1)
    assert change[0] > 0.5
    assert change[8:].max() < 1e-2


def test_peaks_are_full_scale_and_silence_stays_silent() -> None:
    assert np.abs(recorded(NOISE, _how(level="peak"))).max() == 1
    np.testing.assert_array_equal(recorded(np.zeros(9), _how(level="peak")), np.zeros(9))
    quiet, loud = (prepare(_file(gain * NOISE), _how(level="peak")) for gain in (0.1, 2.0))
    np.testing.assert_allclose(quiet, loud, rtol=1e-5)


# -------------------------------------------------------------------------------- line


def test_g711_has_the_levels_that_the_recommendation_lists() -> None:
    """Its decoder output values of 14 bits (mu-law) and 13 bits (A-law), positive half, first and last."""
    mu, a = g711_levels("mu-law") * 8192, g711_levels("a-law") * 4096
    assert (len(mu), len(a)) == (255, 256)
    assert mu[127:133].tolist() == [0, 2, 4, 6, 8, 10]
    assert mu[-3:].tolist() == [7519, 7775, 8031]
    assert a[128:133].tolist() == [1, 3, 5, 7, 9]
    assert a[-3:].tolist() == [3776, 3904, 4032]
    for levels in (mu, a):
        np.testing.assert_array_equal(levels, -levels[::-1])


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="Python no longer has audioop")
@pytest.mark.filterwarnings("ignore:'audioop' is deprecated")
@pytest.mark.parametrize("law", ["mu-law", "a-law"])
def test_g711_is_what_other_coders_make_of_every_sample(law: str) -> None:
    import audioop

    every = np.arange(-32768, 32768)
    code, decode = (audioop.lin2ulaw, audioop.ulaw2lin) if law == "mu-law" else (audioop.lin2alaw, audioop.alaw2lin)
    theirs = np.frombuffer(decode(code(every.astype("<i2").tobytes(), 2), 2), "<i2") / 32768
    ours = through_line(every / 32768, 8000, _how(line_coding=law))[0]
    levels = g711_levels(law)
    assert set(np.unique(theirs)) == set(levels)
    places = np.searchsorted(levels, theirs), np.searchsorted(levels, ours)
    at_an_edge = np.abs(places[0] - places[1]) == 1
    assert np.abs(places[0] - places[1]).max() <= 1
    assert at_an_edge.mean() < 0.02  # samples half-way between two levels


@pytest.mark.parametrize(("coding", "levels"), [("pcm8", 256), ("mu-law", 255), ("a-law", 256)])
def test_eight_bits_have_no_more_levels(coding: str, levels: int) -> None:
    wave = np.linspace(-1.2, 1.2, 30_001)
    found, rate = through_line(wave, 8000, _how(line_coding=coding))
    assert rate == 8000
    assert len(np.unique(found)) == levels
    assert np.abs(found).max() <= 1
    inside = np.abs(wave) < 0.97
    assert np.abs(found - wave)[inside].max() <= (0.5 / 128 if coding == "pcm8" else 1 / 64) + 1e-9


def test_companding_spares_quiet_sound() -> None:
    quiet = 0.003 * _tone(500)
    linear, law = (through_line(quiet, 8000, _how(line_coding=coding))[0] for coding in ("pcm8", "mu-law"))
    assert not linear.any()
    assert np.abs(law - quiet).max() < 0.0002


def test_a_line_of_8_khz_takes_what_lies_above_4_khz() -> None:
    raw = _file(_tone(6000, 16_000) + _tone(1000, 16_000), 16_000)
    wide, narrow = (log_mel(raw, _how(sample_rate=16_000, line_rate=rate)) for rate in (None, 8000))
    assert wide[-4:].max() - narrow[-4:].max() > 5
    np.testing.assert_allclose(narrow[:, 40].max(), wide[:, 40].max(), atol=0.1)


# ------------------------------------------------------------------- length and rate


@pytest.mark.parametrize(
    ("alignment", "cut", "filled"),
    [
        ("start", [1, 2], [1, 2, 3, 4, 5, 0, 0, 0]),
        ("centre", [2, 3], [0, 1, 2, 3, 4, 5, 0, 0]),
        ("end", [4, 5], [0, 0, 0, 1, 2, 3, 4, 5]),
    ],
)
def test_where_a_recording_lies(alignment: str, cut: list[int], filled: list[int]) -> None:
    wave = np.arange(1.0, 6.0)
    assert fitted(wave, 2, alignment).tolist() == cut
    assert fitted(wave, 8, alignment).tolist() == filled
    assert fitted(wave, 5, alignment).tolist() == wave.tolist()


def test_the_nearest_sample_stands() -> None:
    np.testing.assert_array_equal(resampled(np.arange(6.0), 2000, 1000, "nearest"), [0, 2, 4])
    np.testing.assert_array_equal(resampled(np.arange(3.0), 1000, 2000, "nearest"), [0, 1, 1, 2, 2, 2])


@pytest.mark.parametrize("rates", [(16_000, 8000), (8000, 16_000), (22_050, 8000)])
def test_soxr_is_librosas_resampling(rates: tuple[int, int]) -> None:
    librosa = pytest.importorskip("librosa")
    wave = _noise(4001)
    theirs = librosa.resample(wave, orig_sr=rates[0], target_sr=rates[1])
    np.testing.assert_allclose(resampled(wave, *rates, "soxr"), theirs, atol=1e-12)


@given(st.integers(1, 3000), st.sampled_from([8000, 11_025, 44_100]), st.sampled_from(["start", "centre", "end"]))
@settings(max_examples=25, deadline=None)
def test_the_shape_follows_from_the_contract_whatever_happens_to_the_wave(
    samples: int, rate: int, alignment: str
) -> None:
    how = _how(
        duration=0.4, alignment=alignment, line_coding="a-law", resampler="nearest", level="peak", line_rate=6000
    )
    features = prepare(_file(_noise(samples), rate), how)
    assert features.shape == (32, frames_of(how))
    assert np.isfinite(features).all()


# ---------------------------------------------------------------------------- features


def test_pre_emphasis_has_its_frequency_response() -> None:
    for hz in (200, 3000):
        plain, emphasised = (log_mel(_file(_tone(hz)), _how(pre_emphasis=k))[:, 30].max() for k in (0.0, 0.97))
        response = abs(1 - 0.97 * np.exp(-2j * np.pi * hz / 8000)) ** 2
        assert emphasised - plain == pytest.approx(np.log(response), abs=0.15)


@pytest.mark.parametrize("window", ["hamming-periodic", "hamming-symmetric", "rectangular"])
def test_windows_have_their_power(window: str) -> None:
    count = 256 - (window == "hamming-symmetric")
    values = np.ones(256) if window == "rectangular" else 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(256) / count)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(256) / 256)
    raw = _file(_noise(240_000))
    one, other = (log_mel(raw, _how(duration=30.0, window=each)) for each in (window, "hann-periodic"))
    expected = np.log((values**2).sum() / (hann**2).sum())
    assert np.log(np.exp(one).mean() / np.exp(other).mean()) == pytest.approx(expected, abs=0.02)


def test_symmetric_windows_are_numpys() -> None:
    np.testing.assert_allclose(window_of("hamming-symmetric", 64), np.hamming(64))
    np.testing.assert_allclose(window_of("hann-symmetric", 64), np.hanning(64), atol=1e-15)
    np.testing.assert_allclose(window_of("hamming-periodic", 64), np.hamming(65)[:-1])


def test_triangles_of_height_1() -> None:
    area, peak = (filter_bank(20, 4096, 16_000, "htk", norm) for norm in ("area", "peak"))  # type: ignore[arg-type]
    assert peak.max(axis=1) == pytest.approx(1, abs=0.05)
    np.testing.assert_allclose(peak / peak.sum(axis=1)[:, None], area / area.sum(axis=1)[:, None])


@pytest.mark.parametrize(
    "settings_",
    [
        {},
        {"window": "hamming-symmetric", "mel_scale": "htk", "mel_norm": "peak"},
        {"center": False, "spectrum": "magnitude"},
        {"frame_padding": "zeros", "window": "rectangular"},
    ],
    ids=str,
)
def test_librosa_makes_the_same_features_in_single_precision(settings_: dict[str, Any]) -> None:
    pytest.importorskip("librosa")
    ours, theirs = (log_mel(_file(NOISE), _how(**settings_, feature_library=name)) for name in ("numpy", "librosa"))
    assert 0 < np.abs(ours - theirs).max() < 1e-3


def test_librosas_decibels() -> None:
    librosa = pytest.importorskip("librosa")
    power = np.random.default_rng(5).exponential(1, (32, 63)) ** 6
    how = _how(flooring="clamped", log_floor=1e-10, log_reference="max", log_range=40.0, log_unit="decibel")
    np.testing.assert_allclose(logarithms(power, how), librosa.power_to_db(power, ref=np.max, top_db=40), atol=1e-9)
    plain = how.model_copy(update={"log_reference": "one", "log_range": None})
    np.testing.assert_allclose(logarithms(power, plain), librosa.power_to_db(power, top_db=None), atol=1e-9)


def test_silence_has_logarithms_too() -> None:
    silent = np.zeros((4, 3))
    assert (logarithms(silent, _how(log_reference="max", log_range=80.0)) == 0).all()
    for flooring in ("added", "clamped"):
        assert logarithms(silent, _how(flooring=flooring, log_unit="decibel")) == pytest.approx(-60)


def test_bands_that_hold_nothing_are_refused_by_librosa_too() -> None:
    with pytest.raises(ContractError, match=r"mels = 256 is too many for a window of 256 samples at 8000 Hz"):
        prepare(_file(NOISE), _how(mels=256, feature_library="librosa"))


@pytest.mark.parametrize(
    ("module", "settings_", "message"),
    [
        ("soxr", {"resampler": "soxr"}, r"soxr, librosa's resampler, is not installed here.*gapshift\[audio\]"),
        ("librosa", {"feature_library": "librosa"}, r"librosa is not installed here.*gapshift\[audio\]"),
    ],
)
def test_a_library_that_is_not_installed_skips(
    monkeypatch: pytest.MonkeyPatch, module: str, settings_: dict[str, Any], message: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SkippedError, match=message):
        prepare(_file(_noise(), 16_000), _how(**settings_))


@pytest.mark.parametrize(
    "wrong",
    [{"clip_at": 0.0}, {"pre_emphasis": 1.0}, {"gain_db": float("nan")}, {"log_range": -1.0}, {"line_rate": 10}],
)
def test_values_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        _how(**wrong)


def test_contracts_from_before_keep_their_json_and_digest() -> None:
    before = {
        "sample_rate": 8000, "assumed_rate": None, "resampler": "polyphase", "duration": 1.0, "window": "hann-periodic",
        "window_length": 256, "hop_length": 128, "center": True, "mels": 32, "mel_scale": "slaney", "log_floor": 1e-06,
        "mean": None, "std": None,
    }  # fmt: skip
    assert digest(AudioPreprocessing().model_dump(mode="json")) == digest(before)
