"""Which preprocessing deviations change nothing for given items, and the reasons given."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from gapshift.domains.base import Dataset, Files, Pixels
from gapshift.domains.vision import no_effect
from gapshift.envs.catalog import catalog
from gapshift.errors import DataError, SettingsError, SkippedError, UnknownNameError
from gapshift.schema import Item, Preprocessing

Array = NDArray[np.uint8]


def _how() -> Preprocessing:
    return Preprocessing.model_validate({"resize": {"size": (24, 20)}})


def _smooth(height: int = 48, width: int = 40, seed: int = 0) -> Array:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (9, 9), 3), dtype=np.uint8)


def _encode(pixels: Array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _pixel_data(images: list[Array]) -> Dataset:
    return Pixels("p", ["c"], [Item(f"i{row}", 0) for row in range(len(images))], images)


COLOURED = _pixel_data([_smooth(24, 20, seed) for seed in range(5)])
GREY = _pixel_data([_smooth(24, 20, seed)[..., 0] for seed in range(5)])
LARGE = _pixel_data([_smooth(seed=seed) for seed in range(5)])
SAME_SIZE = "every probed item already has the model's size of 24x20: nothing is resized"
OPENCV = {"resize.library": "opencv", "resize.antialias": False}


@pytest.mark.parametrize(
    ("data", "how", "deviations", "reason"),
    [
        (LARGE, {}, {"decoder": "opencv"}, "items are stored as pixels: no decoder runs"),
        (COLOURED, {}, {"preprocessing.resize.interpolation": "nearest"}, SAME_SIZE),
        (COLOURED, {}, OPENCV, SAME_SIZE),
        (LARGE, {}, {"resize.fit": "crop"}, "every probed item already has the shape of 24x20: no fit cuts or pads"),
        (COLOURED, {}, OPENCV | {"decoder": "opencv"}, f"items are stored as pixels: no decoder runs; {SAME_SIZE}"),
        (GREY, {}, {"color": "BGR"}, "every probed item is grey: its channels are equal in any order"),
        (GREY, {"color": "L"}, {"color": "BGR"}, "the model takes grey images, which have no channel order"),
        (LARGE, {}, {"resize.interpolation": "bilinear"}, "the contract already says so"),
        (LARGE, {}, {"resize.size": [24, 20]}, "the contract already says so"),
        (
            LARGE,
            {"dtype": "uint8"},
            {"scale": 1.0},
            "the model takes raw uint8 pixels, which no scale touches",
        ),
        (
            LARGE,
            {},
            {"chroma_upsampling": "plain", "decoder": "simplejpeg"},
            "items are stored as pixels: no decoder runs",
        ),
        (LARGE, {}, {"exif_orientation": "ignored"}, "items are stored as pixels: no decoder runs"),
        (LARGE, {}, {"sixteen_bit": "clipped"}, "items are stored as pixels: no decoder runs"),
        (LARGE, {}, {"alpha": "on-white"}, "no probed item (5) has transparency that shows"),
        (GREY, {}, {"grey": "bt601"}, "every probed item is grey already"),
        (LARGE, {}, {"yuv.range": "limited"}, "yuv.matrix is none: nothing passes through YUV"),
        (
            LARGE,
            {},
            {"yuv.chroma": "nv12", "alpha": "on-black"},
            "no probed item (5) has transparency that shows; yuv.matrix is none: nothing passes through YUV",
        ),
        (
            LARGE,
            {"resize": {"size": (24, 20), "interpolation": "nearest"}},
            {"resize.antialias": False},
            "resize.antialias: every probed item (5) gives a bit-identical tensor",
        ),
    ],
)
def test_why_nothing_changes(data: Dataset, how: dict[str, Any], deviations: dict[str, Any], reason: str) -> None:
    contract = Preprocessing.model_validate({"resize": {"size": (24, 20)}, **how})
    assert no_effect(data, contract, deviations) == reason


@pytest.mark.parametrize(
    ("data", "deviations"),
    [
        (LARGE, {"resize.interpolation": "nearest"}),
        (LARGE, OPENCV),
        (_pixel_data([_smooth(48, 48)]), {"resize.fit": "crop"}),
        (_pixel_data([_smooth(48, 48)]), {"resize.fit": "letterbox"}),
        (COLOURED, {"color": "BGR"}),
        (COLOURED, {"jpeg_quality": 50}),
        (COLOURED, {"mean": [0.5]}),
        (COLOURED, {"layout": "NHWC"}),
        (COLOURED, {"dtype": "float16"}),
        (COLOURED, OPENCV | {"color": "BGR"}),
        (COLOURED, {"layout": "NHWC-as-NCHW"}),
        (COLOURED, {"grey": "mean"}),
        (COLOURED, {"yuv.matrix": "bt601"}),
        (COLOURED, {"yuv.matrix": "bt709", "yuv.read_matrix": "bt601"}),
        (_pixel_data([np.dstack([_smooth(24, 20), _smooth(24, 20)[..., 0]])]), {"alpha": "on-white"}),
        (LARGE, {"resize.library": "torch"}),
        (LARGE, {"resize.library": "torch", "resize.coordinates": "align-corners", "resize.antialias": False}),
    ],
)
def test_an_effect_is_seen(data: Dataset, deviations: dict[str, Any]) -> None:
    assert no_effect(data, _how(), deviations) is None


def test_one_item_that_changes_is_an_effect_if_probed() -> None:
    images = [_smooth(24, 20)] * 9 + [_smooth(25, 20)]
    assert no_effect(_pixel_data(images), _how(), {"resize.interpolation": "nearest"}) is None
    assert no_effect(_pixel_data(images), _how(), {"resize.interpolation": "nearest"}, probe=1) == SAME_SIZE


def _files(folder: Path, contents: list[bytes]) -> Dataset:
    for row, content in enumerate(contents):
        (folder / f"{row}").write_bytes(content)
    items = [Item(f"i{row}", 0) for row in range(len(contents))]
    return Files("f", ["c"], items, [folder / f"{row}" for row in range(len(contents))])


def test_decoders_on_files(tmp_path: Path) -> None:
    png = _files(tmp_path, [_encode(_smooth(24, 20)), b"broken"])
    reason = "both decoders give the same pixels for every probed item (1)"
    assert no_effect(png, _how(), {"decoder": "opencv"}) == reason
    (tmp_path / "0").write_bytes(b"broken as well")
    assert no_effect(png, _how(), {"decoder": "opencv"}) is None
    (tmp_path / "0").unlink()
    assert no_effect(png, _how(), {"decoder": "opencv"}) is None


@pytest.mark.parametrize(
    ("contract", "name"),
    [
        ({"resize": {"size": (24, 24), "library": "opencv", "interpolation": "area"}}, "resize-pillow-bilinear"),
        ({"resize": {"size": (24, 24), "fit": "crop"}}, "resize-squash"),
        ({"layout": "NHWC"}, "layout-nchw-as-nhwc"),
        ({"decoder": "pyav"}, "decoder-opencv"),
    ],
)
def test_entries_that_an_ordinary_contract_already_is_change_another(
    tmp_path: Path, contract: dict[str, Any], name: str
) -> None:
    how = Preprocessing.model_validate({"resize": {"size": (24, 24)}, **contract})
    buffer = io.BytesIO()
    Image.fromarray(_smooth()).save(buffer, "JPEG")
    try:
        assert no_effect(_files(tmp_path, [buffer.getvalue()]), how, catalog()[name].deviations) is None
    except SkippedError as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize(
    ("deviations", "reason"),
    [
        ({"exif_orientation": "ignored"}, "no probed item (1) has an EXIF orientation that turns it"),
        ({"sixteen_bit": "wrapped"}, "no probed item (1) has 16-bit samples that the decoder hands over"),
        ({"alpha": "on-black"}, "no probed item (1) has transparency that shows"),
        ({"decoder": "pillow-draft"}, "both decoders give the same pixels for every probed item (1)"),
    ],
)
def test_plain_files_say_what_they_lack(tmp_path: Path, deviations: dict[str, Any], reason: str) -> None:
    assert no_effect(_files(tmp_path, [_encode(_smooth(24, 20))]), _how(), deviations) == reason


@pytest.mark.parametrize(
    "deviations",
    [{"exif_orientation": "ignored"}, {"sixteen_bit": "wrapped"}, {"alpha": "on-black"}, {"decoder": "pillow-draft"}],
    ids=lambda deviations: "".join(deviations),
)
def test_one_file_that_has_it_is_an_effect(tmp_path: Path, deviations: dict[str, Any]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    contents = [_encode(_smooth(24, 20)) for _ in range(4)]
    special = {
        "exif_orientation": (Image.fromarray(_smooth()), "PNG", {"exif": exif}),
        "sixteen_bit": (Image.fromarray(_smooth()[..., 0].astype(np.uint16) * 251), "PNG", {}),
        "alpha": (Image.fromarray(np.dstack([_smooth(), _smooth()[..., 0]])), "PNG", {}),
        "decoder": (Image.fromarray(_smooth(96, 80)), "JPEG", {}),
    }
    image, form, options = special["".join(deviations)]
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    assert no_effect(_files(tmp_path, [*contents, buffer.getvalue()]), _how(), deviations) is None


def test_a_decoder_that_is_not_installed_is_no_silent_lack_of_effect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(SkippedError, match=r"PyAV \(FFmpeg\) is not installed here"):
        no_effect(_files(tmp_path, [_encode(_smooth())]), _how(), {"decoder": "pyav"})
    with pytest.raises(SkippedError, match=r"PyAV \(FFmpeg\) is not installed here"):
        no_effect(LARGE, _how(), {"yuv.matrix": "bt601", "yuv.library": "ffmpeg"})


def test_a_wrong_deviation_is_an_error() -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean 'preprocessing\.decoder'"):
        no_effect(LARGE, _how(), {"decodr": "opencv"})
    with pytest.raises(SettingsError, match="opencv's 'bilinear' does not antialias"):
        no_effect(LARGE, _how(), {"resize.library": "opencv"})
    with pytest.raises(DataError, match="probe is 0"):
        no_effect(LARGE, _how(), {"color": "BGR"}, probe=0)
