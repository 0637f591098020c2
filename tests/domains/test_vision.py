"""From raw forms to tensors: decoders, resizing, normalisation, and what changes nothing."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from gapshift.domains.vision import prepare, prepare_batch
from gapshift.errors import DataError, UnreadableItemError
from gapshift.schema import Preprocessing

Array = NDArray[np.uint8]
DECODERS = ("pillow", "opencv")


def _how(size: tuple[int, int] = (24, 20), resize: dict[str, Any] | None = None, **more: Any) -> Preprocessing:
    return Preprocessing.model_validate({"resize": {"size": size, **(resize or {})}, **more})


def _raw_pixels(raw: Array | bytes, how: Preprocessing) -> NDArray[Any]:
    return prepare(raw, how.model_copy(update={"dtype": "uint8", "layout": "NHWC"}))


def _smooth(height: int = 48, width: int = 40, seed: int = 0) -> Array:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (9, 9), 3), dtype=np.uint8)


def _encode(pixels: Array, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


# --------------------------------------------------------------------------- decoding


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("form", ["PNG", "BMP"])
def test_lossless_files_decode_exactly(decoder: str, form: str) -> None:
    pixels = _smooth()
    np.testing.assert_array_equal(_raw_pixels(_encode(pixels, form), _how((48, 40), decoder=decoder)), pixels)


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_decoders_of_lossy_files_agree_closely(form: str) -> None:
    content = _encode(_smooth(), form)
    one, other = (_raw_pixels(content, _how((48, 40), decoder=decoder)).astype(int) for decoder in DECODERS)
    assert np.abs(one - other).mean() < 2
    assert np.abs(one - _smooth()).mean() < 8


@pytest.mark.parametrize("decoder", DECODERS)
def test_every_mode_comes_as_rgb_and_as_grey(decoder: str) -> None:
    pixels = _smooth()
    rgb, grey = _how((48, 40), decoder=decoder), _how((48, 40), decoder=decoder, color="L")
    alpha = np.dstack([pixels, np.full(pixels.shape[:2], 7, np.uint8)])
    np.testing.assert_array_equal(_raw_pixels(_encode(alpha), rgb), pixels)
    palette = Image.fromarray(pixels).quantize(16)
    buffer = io.BytesIO()
    palette.save(buffer, "PNG", transparency=bytes(range(16)))
    np.testing.assert_array_equal(_raw_pixels(buffer.getvalue(), rgb), np.asarray(palette.convert("RGB")))
    flat = pixels[..., 0]
    np.testing.assert_array_equal(_raw_pixels(_encode(flat), rgb), np.dstack([flat] * 3))
    np.testing.assert_array_equal(_raw_pixels(_encode(flat), grey), flat[..., np.newaxis])
    luma = pixels @ [0.299, 0.587, 0.114]
    assert np.abs(_raw_pixels(_encode(pixels), grey)[..., 0] - luma).max() < 2


@pytest.mark.parametrize("decoder", DECODERS)
def test_sixteen_bit_grey_keeps_its_high_byte(decoder: str) -> None:
    deep = (np.arange(48 * 40).reshape(48, 40) * 34).astype(np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(deep).save(buffer, "PNG")
    np.testing.assert_array_equal(
        _raw_pixels(buffer.getvalue(), _how((48, 40), decoder=decoder, color="L"))[..., 0], deep >> 8
    )


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_exif_orientation_is_honoured(decoder: str, form: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    turned = _raw_pixels(_encode(_smooth(), form, exif=exif), _how((40, 48), decoder=decoder))
    upright = _raw_pixels(_encode(_smooth(), form), _how((48, 40), decoder=decoder))
    assert np.abs(turned.astype(int) - np.rot90(upright, -1)).mean() < 2


@pytest.mark.parametrize("decoder", DECODERS)
def test_damaged_exif_data_does_not_make_an_image_unreadable(decoder: str) -> None:
    plain, how = _encode(_smooth(), "JPEG"), _how((48, 40), decoder=decoder)
    damaged = _encode(_smooth(), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\x00junk")
    np.testing.assert_array_equal(_raw_pixels(damaged, how), _raw_pixels(plain, how))


BROKEN = {
    "empty": b"",
    "text": b"no image at all",
    "jpeg start": b"\xff\xd8\xff\xe0",
    "cut jpeg": _encode(_smooth(96, 96), "JPEG", quality=95)[:-2000],
    "cut png": _encode(_smooth())[:-500],
    "cut bmp": _encode(_smooth(), "BMP")[:-500],
    "cut webp": _encode(_smooth(), "WEBP")[:-200],
}


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_image_is_an_unreadable_item(decoder: str, name: str) -> None:
    who = {"pillow": "Pillow", "opencv": "OpenCV"}[decoder]
    with pytest.raises(UnreadableItemError, match=rf"{who} cannot decode it \({len(BROKEN[name])} bytes\)"):
        prepare(BROKEN[name], _how(decoder=decoder))


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_jpeg_with_a_thumbnail_is_cut_or_whole_by_its_own_scan(decoder: str) -> None:
    thumbnail = _encode(_smooth(8, 8), "JPEG")
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    content = _encode(_smooth(96, 96), "JPEG", quality=95)
    whole = content[:2] + segment + content[2:]
    how = _how((96, 96), decoder=decoder)
    np.testing.assert_array_equal(_raw_pixels(whole + b"\xff\xda video", how), _raw_pixels(content, how))
    with pytest.raises(UnreadableItemError):
        prepare(whole[:-50], how)


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 4), np.float32), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4), np.uint8)]
)
def test_arrays_that_are_no_image_are_refused(bad: Any) -> None:
    with pytest.raises(DataError, match=r"are no image\. Valid: uint8 of shape"):
        prepare(bad, _how())


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("color", ["RGB", "L"])
def test_jpeg_quality_re_encodes_through_the_declared_library(decoder: str, color: str) -> None:
    plain = _how((48, 40), decoder=decoder, color=color)
    clean = _raw_pixels(_smooth(), plain).astype(int)
    losses = [
        np.abs(_raw_pixels(_smooth(), plain.model_copy(update={"jpeg_quality": quality})) - clean).mean()
        for quality in (95, 50, 5)
    ]
    assert 0 < losses[0] < losses[1] < losses[2] < 20


def test_jpeg_quality_is_the_library_s_own() -> None:
    by_hand = np.asarray(Image.open(io.BytesIO(_encode(_smooth(), "JPEG", quality=50))))
    np.testing.assert_array_equal(_raw_pixels(_smooth(), _how((48, 40), jpeg_quality=50)), by_hand)


# --------------------------------------------------------------------------- resizing

KERNELS: list[dict[str, Any]] = [
    {"library": "pillow", "interpolation": name}
    for name in ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
]
KERNELS += [
    {"library": "pillow", "interpolation": name, "antialias": False} for name in ("nearest", "bilinear", "bicubic")
]
KERNELS += [
    {"library": "opencv", "interpolation": name, "antialias": name in ("nearest", "area")}
    for name in ("nearest", "bilinear", "bicubic", "lanczos", "area")
]
KERNELS += [
    {"library": "opencv", "interpolation": name, "antialias": False} for name in ("linear-exact", "nearest-exact")
]
KERNELS += [
    {"library": "torch", "interpolation": name} for name in ("nearest", "nearest-exact", "area", "bilinear", "bicubic")
]
KERNELS += [
    {"library": "torch", "interpolation": name, "antialias": False, "coordinates": coordinates}
    for name in ("bilinear", "bicubic")
    for coordinates in ("half-pixel", "align-corners")
]
FITS = ("squash", "crop", "letterbox")


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(24, 20), (64, 64), (20, 31)])
def test_every_kernel_and_fit_gives_the_size(kernel: dict[str, Any], fit: str, size: tuple[int, int]) -> None:
    how = _how(size, resize={**kernel, "fit": fit})
    constant = np.full((48, 40, 3), 9, np.uint8)
    resized = _raw_pixels(constant, how)
    assert resized.shape == (*size, 3)
    assert set(np.unique(resized)) <= ({0, 9} if fit == "letterbox" else {9})


@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))),
    st.sampled_from(KERNELS),
    st.sampled_from(FITS),
)
@settings(max_examples=60, deadline=None)
def test_resizing_to_the_own_size_is_the_identity(pixels: Array, kernel: dict[str, Any], fit: str) -> None:
    height, width = pixels.shape[:2]
    np.testing.assert_array_equal(_raw_pixels(pixels, _how((height, width), resize={**kernel, "fit": fit})), pixels)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_library_s_kernel_at_its_own_size_is_the_identity_too(kernel: dict[str, Any]) -> None:
    """The shortcut for images of the right size changes nothing."""
    pixels = _smooth(9, 9)
    wide = np.concatenate([pixels, pixels[:, -1:]], axis=1)  # one column more: the rows are resized by factor 1
    resized = _raw_pixels(wide, _how((9, 10), resize=kernel))
    np.testing.assert_array_equal(resized, wide)
    if kernel["library"] == "opencv":
        names = ("nearest", "bilinear", "bicubic", "area", "lanczos", "linear-exact", "nearest-exact")
        code = names.index(kernel["interpolation"])
        np.testing.assert_array_equal(cv2.resize(pixels, (9, 9), interpolation=code), pixels)
    elif kernel["library"] == "pillow":
        code = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}[
            kernel["interpolation"]
        ]
        same = Image.fromarray(pixels).resize((9, 9), Image.Resampling(code), box=(0, 0, 9, 9))
        np.testing.assert_array_equal(np.asarray(same), pixels)


def _point_bilinear(pixels: Array, size: tuple[int, int]) -> NDArray[np.float64]:
    """Bilinear interpolation at half-pixel centres, edges repeated: the formula itself."""
    values = pixels.astype(np.float64)
    for axis, target in enumerate(size):
        source = values.shape[axis]
        at = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, source - 1)
        weight = (at - low).reshape([-1 if axis == number else 1 for number in range(3)])
        values = np.take(values, low, axis) * (1 - weight) + np.take(values, high, axis) * weight
    return values


@pytest.mark.parametrize("size", [(24, 20), (31, 17), (96, 70)])
@pytest.mark.parametrize("library", ["pillow", "opencv", "torch"])
def test_bilinear_without_antialias_is_point_sampling_at_half_pixels(size: tuple[int, int], library: str) -> None:
    pixels = _smooth()
    resized = _raw_pixels(pixels, _how(size, resize={"library": library, "antialias": False}))
    assert np.abs(resized - _point_bilinear(pixels, size)).max() <= 1


def test_antialiasing_and_the_libraries_differ_within_bounds() -> None:
    noisy = np.random.default_rng(1).integers(0, 256, (48, 40, 3), dtype=np.uint8)
    smooth = _raw_pixels(noisy, _how((12, 10)))
    points = _raw_pixels(noisy, _how((12, 10), resize={"antialias": False}))
    opencv = _raw_pixels(noisy, _how((12, 10), resize={"library": "opencv", "antialias": False}))
    assert smooth.std() < 0.6 * points.std()
    assert 0 < np.abs(points.astype(int) - opencv).max() <= 2


def test_area_is_the_mean_of_the_pixels_that_it_covers() -> None:
    resized = _raw_pixels(_smooth(), _how((12, 10), resize={"library": "opencv", "interpolation": "area"}))
    means = _smooth().reshape(12, 4, 10, 4, 3).mean(axis=(1, 3))
    assert np.abs(resized - means).max() <= 0.51


@pytest.mark.parametrize("size", [(24, 20), (31, 17), (96, 70)])
def test_linear_exact_is_bilinear_to_half_a_step(size: tuple[int, int]) -> None:
    how = _how(size, resize={"library": "opencv", "interpolation": "linear-exact", "antialias": False})
    assert np.abs(_raw_pixels(_smooth(), how) - _point_bilinear(_smooth(), size)).max() <= 0.51


@pytest.mark.parametrize("library", ["opencv", "torch"])
def test_nearest_looks_at_corners_and_nearest_exact_at_centres(library: str) -> None:
    pixels = _smooth(9, 9)
    for name, offset in (("nearest", 0.0), ("nearest-exact", 0.5)):
        at = np.floor((np.arange(5) + offset) * 9 / 5).astype(int)
        how = _how((5, 5), resize={"library": library, "interpolation": name})
        np.testing.assert_array_equal(_raw_pixels(pixels, how), pixels[at][:, at])


@pytest.mark.parametrize("size", [(24, 20), (31, 17), (96, 70)])
def test_aligned_corners_keep_the_corner_pixels(size: tuple[int, int]) -> None:
    """Bilinear interpolation at i (source - 1) / (target - 1): the formula itself."""
    resize = {"library": "torch", "antialias": False, "coordinates": "align-corners"}
    resized, values = _raw_pixels(_smooth(), _how(size, resize=resize)), _smooth().astype(float)
    np.testing.assert_array_equal(resized[:: size[0] - 1, :: size[1] - 1], _smooth()[::47, ::39])
    for axis, target in enumerate(size):
        at = np.linspace(0, values.shape[axis] - 1, target)
        low = np.minimum(np.floor(at).astype(int), values.shape[axis] - 2)
        weight = (at - low).reshape([-1 if axis == number else 1 for number in range(3)])
        values = np.take(values, low, axis) * (1 - weight) + np.take(values, low + 1, axis) * weight
    assert np.abs(resized - values).max() <= 0.51


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("name", ["bilinear", "bicubic"])
@pytest.mark.parametrize("corners", [True, False])
def test_torch_s_resize_is_its_interpolate_in_whole_pixels(name: str, antialias: bool, corners: bool) -> None:
    import torch

    coordinates = "align-corners" if corners else "half-pixel"
    resize = {"library": "torch", "interpolation": name, "antialias": antialias, "coordinates": coordinates}
    image = torch.from_numpy(_smooth().transpose(2, 0, 1).copy())[None].to(torch.float64)
    expected = torch.nn.functional.interpolate(image, (31, 17), mode=name, align_corners=corners, antialias=antialias)
    resized = _raw_pixels(_smooth(), _how((31, 17), resize=resize))
    assert np.abs(resized - expected[0].permute(1, 2, 0).clamp(0, 255).numpy()).max() <= 0.51


@pytest.mark.parametrize("name", ["bilinear", "bicubic"])
def test_torch_antialiased_is_nearly_pillow(name: str) -> None:
    one, other = (
        _raw_pixels(_smooth(), _how((12, 10), resize={"library": library, "interpolation": name})).astype(int)
        for library in ("torch", "pillow")
    )
    assert np.abs(one - other).max() <= (1 if name == "bilinear" else 2)


def test_torch_resizes_grey_pictures_too() -> None:
    resized = _raw_pixels(_smooth(), _how((12, 10), resize={"library": "torch"}, color="L"))
    assert resized.shape == (12, 10, 1)


def test_crop_covers_then_cuts_the_centre() -> None:
    pixels = _smooth(30, 60)
    by_hand = np.asarray(Image.fromarray(pixels).resize((20, 10), Image.Resampling.BILINEAR))[:, 5:15]
    np.testing.assert_array_equal(_raw_pixels(pixels, _how((10, 10), resize={"fit": "crop"})), by_hand)
    tall = _raw_pixels(pixels.transpose(1, 0, 2), _how((10, 10), resize={"fit": "crop"}))
    assert tall.shape == (10, 10, 3)


def test_letterbox_fits_and_centres_between_zeros() -> None:
    pixels = np.maximum(_smooth(30, 60), 1)
    boxed = _raw_pixels(pixels, _how((11, 10), resize={"fit": "letterbox"}))
    inner = np.asarray(Image.fromarray(pixels).resize((10, 5), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(boxed[3:8], inner)
    assert not boxed[:3].any()
    assert not boxed[8:].any()


# ---------------------------------------------------------------- values and layout


@pytest.mark.parametrize("color", ["RGB", "BGR"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_values_follow_the_formula(color: str, layout: str) -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    how = _how((48, 40), color=color, layout=layout, mean=mean, std=std)
    tensor = prepare(_smooth(), how)
    ordered = _smooth()[..., ::-1] if color == "BGR" else _smooth()
    expected = (ordered / 255.0 - np.array(mean)) / np.array(std)
    expected = expected.transpose(2, 0, 1) if layout == "NCHW" else expected
    np.testing.assert_allclose(tensor, expected, atol=1e-5)
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous


@pytest.mark.parametrize(("layout", "own"), [("NHWC-as-NCHW", "NHWC"), ("NCHW-as-NHWC", "NCHW")])
def test_a_layout_taken_for_another_is_its_memory_in_the_other_s_shape(layout: str, own: str) -> None:
    """Normalised in its own order, and then misread."""
    values: dict[str, Any] = {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7)}
    right, misread = (prepare(_smooth(), _how((48, 40), layout=name, **values)) for name in (own, layout))
    assert misread.shape == ((3, 48, 40) if own == "NHWC" else (48, 40, 3))
    np.testing.assert_array_equal(misread.ravel(), right.ravel())


def test_dtypes_and_grey() -> None:
    grey = _how((48, 40), color="L", scale=1.0, mean=(2.0,), std=(4.0,))
    tensor = prepare(_smooth()[..., 0], grey)
    assert tensor.shape == (1, 48, 40)
    np.testing.assert_allclose(tensor[0], (_smooth()[..., 0] - 2.0) / 4)
    half = prepare(_smooth(), _how(dtype="float16"))
    assert half.dtype == np.float16
    np.testing.assert_array_equal(half, np.asarray(prepare(_smooth(), _how())).astype(np.float16))


def test_uint8_gives_pixels() -> None:
    assert prepare(_smooth(), _how((48, 40), dtype="uint8", layout="NHWC")).dtype == np.uint8


@given(hnp.arrays(np.uint8, (5, 4, 3)))
@settings(deadline=None)
def test_bgr_is_rgb_turned_round_and_twice_is_rgb(pixels: Array) -> None:
    rgb, bgr = _how((7, 6)), _how((7, 6), color="BGR")
    np.testing.assert_array_equal(prepare(pixels, bgr), prepare(pixels, rgb)[::-1])
    np.testing.assert_array_equal(prepare(np.ascontiguousarray(pixels[..., ::-1]), bgr), prepare(pixels, rgb))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.sampled_from(["NCHW", "NHWC"]))
@settings(max_examples=25, deadline=None)
def test_a_batch_is_its_images_one_by_one(seeds: list[int], layout: str) -> None:
    raws: list[bytes | Array] = [_encode(_smooth(20 + seed, 30, seed), "JPEG") for seed in seeds]
    how = _how((8, 8), layout=layout, mean=(0.1, 0.2, 0.3), std=(0.5,))
    np.testing.assert_array_equal(prepare_batch(raws, how), np.stack([prepare(raw, how) for raw in raws]))


def test_a_tensor_never_shares_memory_with_its_raw_form() -> None:
    raw = _smooth()
    for how in (_how((48, 40), dtype="uint8", layout="NHWC"), _how((48, 40), scale=1.0)):
        tensor = prepare(raw, how)
        assert tensor.flags.writeable
        assert not np.shares_memory(tensor, raw)


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(DataError, match="An empty batch cannot be prepared"):
        prepare_batch([], _how())
