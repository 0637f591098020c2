"""YUV and grey: the standards' formulas, OpenCV's and FFmpeg's own conversions."""

from __future__ import annotations

from typing import Any, get_args

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from gapshift.domains.colours import in_grey, through_yuv
from gapshift.domains.decode import decode
from gapshift.errors import SkippedError
from gapshift.schema import YUV, Preprocessing, Resize

Array = NDArray[np.uint8]
KR_KB = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}
PATCHES = np.array(
    [[[255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0], [255, 255, 255], [128, 128, 128], [200, 30, 90], [17, 99, 3]]],
    dtype=np.uint8,
)
BIG_PATCHES = PATCHES.repeat(16, axis=0).repeat(16, axis=1)
"""Wide and high enough for halved chroma to have nothing to mix in a patch's middle."""
IMAGES = hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)))


def _yuv(rgb: NDArray[Any], matrix: str, limited: bool) -> NDArray[np.int64]:
    """Bytes of Y, Cb, Cr by the standard's own text (BT.601-7, 2.5.1-2.5.3; BT.709-6, 3.2-3.5 and 4)."""
    red, _, blue = (rgb[..., channel] / 255 for channel in range(3))
    kr, kb = KR_KB[matrix]
    luma = kr * red + (1 - kr - kb) * rgb[..., 1] / 255 + kb * blue
    cb, cr = (blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))
    steps = (219, 224, 16) if limited else (255, 255, 0)
    coded = np.stack([steps[0] * luma + steps[2], steps[1] * cb + 128, steps[1] * cr + 128], axis=-1)
    return coded.round().clip(0, 255).astype(np.int64)


def _rgb(yuv: NDArray[Any], matrix: str, limited: bool) -> NDArray[np.float64]:
    kr, kb = KR_KB[matrix]
    luma = (yuv[..., 0] - 16) / 219 if limited else yuv[..., 0] / 255
    cb, cr = ((yuv[..., channel] - 128) / (224 if limited else 255) for channel in (1, 2))
    red, blue = luma + 2 * (1 - kr) * cr, luma + 2 * (1 - kb) * cb
    green = (luma - kr * red - kb * blue) / (1 - kr - kb)
    return np.asarray((np.stack([red, green, blue], axis=-1) * 255).clip(0, 255))


def test_the_formula_of_this_file_gives_the_known_bytes_of_red() -> None:
    """Those of video test patterns."""
    red = PATCHES[:, :1]
    assert _yuv(red, "bt601", limited=True).tolist() == [[[81, 90, 240]]]
    assert _yuv(red, "bt709", limited=True).tolist() == [[[63, 102, 240]]]
    assert _yuv(red, "bt601", limited=False)[0, 0, 0] == 76


def _through(pixels: Array, **fields: Any) -> NDArray[np.int64]:
    try:
        return through_yuv(pixels, YUV(**fields)).astype(np.int64)
    except SkippedError as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize(("library", "tolerance"), [("opencv", 1), ("ffmpeg", 5)])
@pytest.mark.parametrize("chroma", get_args(YUV.model_fields["chroma"].annotation))
@pytest.mark.parametrize("matrix", KR_KB)
@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("read_matrix", [None, *KR_KB])
@pytest.mark.parametrize("read_limited", [None, False, True])
def test_known_colours_come_back_as_the_standard_has_them(
    library: str,
    tolerance: int,
    chroma: str,
    matrix: str,
    limited: bool,
    read_matrix: str | None,
    read_limited: bool | None,
) -> None:
    named = {False: "full", True: "limited", None: None}
    fields = {"range": named[limited], "read_matrix": read_matrix, "read_range": named[read_limited]}
    found = _through(BIG_PATCHES, matrix=matrix, chroma=chroma, library=library, **fields)[8::16, 8::16]
    read = limited if read_limited is None else read_limited
    expected = _rgb(_yuv(PATCHES, matrix, limited), read_matrix or matrix, read)
    assert np.abs(found - expected).max() <= tolerance


@given(IMAGES)
@settings(max_examples=40, deadline=None)
def test_there_and_back_loses_a_few_steps_and_grey_at_most_one(pixels: Array) -> None:
    for matrix in KR_KB:
        for value_range, most in (("full", 3), ("limited", 4)):
            yuv = YUV.model_validate({"matrix": matrix, "range": value_range})
            assert np.abs(through_yuv(pixels, yuv).astype(int) - pixels).max() <= most
            grey = pixels[..., 0]
            assert np.abs(through_yuv(grey, yuv).astype(int) - grey).max() <= 1


def test_limited_bt601_at_half_chroma_reads_as_opencv_s_own_nv12() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    pixels = np.asarray(cv2.GaussianBlur(noise, (9, 9), 3))
    coded = _yuv(pixels, "bt601", limited=True)
    chroma = coded[..., 1:].reshape(16, 2, 20, 2, 2).mean(axis=(1, 3)).round().reshape(16, 40)
    frame = np.concatenate([coded[..., 0], chroma]).astype(np.uint8)
    found = _through(pixels, matrix="bt601", range="limited", chroma="nv12")
    assert np.abs(found - cv2.cvtColor(frame, cv2.COLOR_YUV2RGB_NV12)).max() <= 4
    assert np.abs(found - cv2.cvtColor(frame, cv2.COLOR_YUV2RGB_NV12)).mean() < 1
    assert np.abs(found - pixels.astype(int)).mean() > 1  # what the lost chroma costs


def test_halved_chroma_is_the_mean_of_four_and_leaves_luma() -> None:
    pixels = np.random.default_rng(1).integers(60, 180, (6, 8, 3), dtype=np.uint8)
    found = _yuv(_through(pixels, matrix="bt601", chroma="nv12"), "bt601", limited=False)
    coded = _yuv(pixels, "bt601", limited=False)
    assert np.abs(found[..., 0] - coded[..., 0]).max() <= 1
    means = coded[..., 1:].reshape(3, 2, 4, 2, 2).mean(axis=(1, 3))
    assert np.abs(found[..., 1:] - means.repeat(2, 0).repeat(2, 1)).max() <= 2


@given(IMAGES)
@settings(max_examples=40, deadline=None)
def test_halved_chroma_takes_any_size(pixels: Array) -> None:
    assert through_yuv(pixels, YUV(matrix="bt709", chroma="nv12")).shape == pixels.shape


def test_ffmpeg_takes_odd_sizes_at_half_chroma_too() -> None:
    assert _through(PATCHES.repeat(3, 0)[:, :7], matrix="bt709", chroma="nv12", library="ffmpeg").shape == (3, 7, 3)


@pytest.mark.parametrize("library", ["opencv", "ffmpeg"])
def test_a_wrong_range_washes_out_or_crushes(library: str) -> None:
    black, white = (np.full((4, 4, 3), value, np.uint8) for value in (0, 255))
    for value_range, read, ends in (("limited", "full", (16, 235)), ("full", "limited", (0, 255))):
        fields = {"matrix": "bt601", "range": value_range, "read_range": read, "library": library}
        found = [_through(each, **fields) for each in (black, white)]
        assert [int(each[0, 0, 0]) for each in found] == pytest.approx(ends, abs=1)


# ------------------------------------------------------------------------------- grey


@pytest.mark.parametrize(
    ("formula", "weights"),
    [("bt601", (0.299, 0.587, 0.114)), ("bt709", (0.2126, 0.7152, 0.0722)), ("mean", (1 / 3, 1 / 3, 1 / 3))],
)
def test_grey_follows_its_formula(formula: str, weights: tuple[float, ...]) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    assert np.abs(in_grey(pixels, formula) - pixels @ np.array(weights)).max() <= 0.51


def test_grey_of_bt601_is_pillow_s_and_opencv_s() -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    for own in (np.asarray(Image.fromarray(pixels).convert("L")), cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)):
        assert np.abs(in_grey(pixels, "bt601").astype(int) - own).max() <= 1


@pytest.mark.parametrize("color", ["RGB", "L"])
@pytest.mark.parametrize("yuv", [YUV(), YUV(matrix="bt601")])
def test_a_picture_made_grey_has_the_model_s_channels(color: str, yuv: YUV) -> None:
    how = {"color": color, "yuv": yuv, "resize": Resize(size=(16, 128))}
    grey = decode(BIG_PATCHES, Preprocessing.model_validate({**how, "grey": "mean"}))
    assert grey.ndim == (2 if color == "L" else 3)
    if color == "RGB":
        assert (grey == grey[..., :1]).all()
    by_decoder = decode(BIG_PATCHES, Preprocessing.model_validate(how))
    assert by_decoder.ndim == grey.ndim
    assert not np.array_equal(by_decoder, grey)
