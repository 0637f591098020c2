"""Decoders against each other and against what each library does by itself."""

from __future__ import annotations

import io
import sys
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from gapshift.domains.decode import decode
from gapshift.errors import SkippedError, UnreadableItemError
from gapshift.schema import Preprocessing

Array = NDArray[np.uint8]
OPTIONAL = ["pyav", "simplejpeg"]
DECODERS = ["pillow", "pillow-draft", "opencv", *OPTIONAL]


def _how(size: tuple[int, int] = (48, 40), **more: Any) -> Preprocessing:
    return Preprocessing.model_validate({"resize": {"size": size}, **more})


def _decoded(content: bytes | Array, **how: Any) -> NDArray[np.int64]:
    """Pixels; the test is skipped where an optional decoder is not installed."""
    try:
        return decode(content, _how(**how)).astype(np.int64)
    except SkippedError as reason:
        pytest.skip(str(reason))


def _picture(height: int = 48, width: int = 40, seed: int = 0) -> Array:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    smooth = cv2.GaussianBlur(noise, (9, 9), 3)
    return np.asarray(cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX), dtype=np.uint8)  # type: ignore[call-overload]


def _saved(image: Array | Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, form, **options)
    return buffer.getvalue()


def _apart(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float(np.abs(np.asarray(one, dtype=int) - other).mean())


# --------------------------------------------------------------------- every decoder


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("form", ["PNG", "BMP", "GIF", "TIFF", "PPM"])
def test_lossless_files_decode_exactly(decoder: str, form: str) -> None:
    image = Image.fromarray(_picture()).quantize(64) if form == "GIF" else Image.fromarray(_picture())
    expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(_decoded(_saved(image, form), decoder=decoder), expected)


@pytest.mark.parametrize("decoder", OPTIONAL)
@pytest.mark.parametrize("color", ["RGB", "L"])
def test_jpegs_of_whole_chroma_agree_with_pillow(decoder: str, color: str) -> None:
    """Nothing is upsampled there; decoders may round differently."""
    content = _saved(_picture(), "JPEG", quality=90, subsampling=0)
    assert _apart(_decoded(content, decoder=decoder, color=color), _decoded(content, color=color)) < 0.2


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_grey_picture_comes_as_rgb_and_as_grey(decoder: str) -> None:
    flat = _picture()[..., 0]
    for content in (_saved(flat), _saved(flat, "JPEG", quality=100)):
        grey, rgb = _decoded(content, decoder=decoder, color="L"), _decoded(content, decoder=decoder)
        assert _apart(grey, flat) < 1
        np.testing.assert_array_equal(rgb, np.dstack([grey] * 3))


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "WEBP"])
def test_colour_as_grey_is_luma_of_bt601(decoder: str, form: str) -> None:
    """The full range, whatever FFmpeg takes grey for by itself."""
    options = {"subsampling": 0, "quality": 95} if form == "JPEG" else {"lossless": True} if form == "WEBP" else {}
    luma = _picture() @ [0.299, 0.587, 0.114]
    grey = _decoded(_saved(_picture(), form, **options), decoder=decoder, color="L")
    assert _apart(luma, grey) < 2


@pytest.mark.parametrize("decoder", OPTIONAL)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no image at all",
        b"\xff\xd8\xff\xe0",
        _saved(_picture(96, 96), "JPEG", quality=95)[:-2000],
        _saved(_picture())[:-500],
        _saved(_picture(), "BMP")[:-500],
        _saved(_picture(), "WEBP")[:-200],
        _saved(_picture(), "GIF")[:-500],
        _saved(_picture(), "TIFF")[:-500],
        b"#EXTM3U\n#EXT-X-VERSION:3\nhttp://127.0.0.1/a.ts\n",
    ],
    ids=[
        "empty",
        "text",
        "jpeg start",
        "cut jpeg",
        "cut png",
        "cut bmp",
        "cut webp",
        "cut gif",
        "cut tiff",
        "a playlist",
    ],
)
def test_a_broken_image_is_an_unreadable_item(decoder: str, content: bytes) -> None:
    with pytest.raises(UnreadableItemError, match=rf"cannot decode it \({len(content)} bytes\): ."):
        _decoded(content, decoder=decoder)


@pytest.mark.parametrize(("content", "why"), [(b"", "it is empty"), (b"no", "no image in a known format")])
def test_pillow_says_the_same_of_the_same_bytes(content: bytes, why: str) -> None:
    with pytest.raises(UnreadableItemError, match=rf"^Pillow cannot decode it \({len(content)} bytes\): {why}$"):
        _decoded(content)


@pytest.mark.parametrize("decoder", OPTIONAL)
@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_odd_metadata_does_not_make_an_image_unreadable(decoder: str, form: str) -> None:
    exif: Any = b"Exif\x00\x00II*\x00\xff\xff\xff\x00junk"
    if form == "TIFF":
        exif = Image.Exif()
        exif[0x0131] = "a scanner"
    content = _saved(_picture(), form, exif=exif)
    assert _apart(_decoded(content, decoder=decoder), _decoded(_saved(_picture(), form), decoder=decoder)) == 0


@pytest.mark.parametrize("decoder", OPTIONAL)
def test_a_jpeg_in_printing_colours_is_read(decoder: str) -> None:
    content = _saved(Image.fromarray(_picture()).convert("CMYK"), "JPEG", quality=95)
    assert _apart(_decoded(content, decoder=decoder), _decoded(content)) < 5


@pytest.mark.parametrize(
    ("module", "decoder", "message"),
    [
        ("av", "pyav", r"^PyAV \(FFmpeg\) is not installed here\. Install it with `pip install gapshift\[video\]`\.$"),
        (
            "simplejpeg",
            "simplejpeg",
            r"^simplejpeg \(libjpeg-turbo\) is not installed here\. Install it with `pip install gapshift\[jpeg\]`\.$",
        ),
    ],
)
def test_a_decoder_that_is_not_installed_is_skipped(
    module: str, decoder: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SkippedError, match=message):
        decode(_saved(_picture(), "JPEG"), _how(decoder=decoder))


# ------------------------------------------------------------- chroma and draft mode


def _repeated(content: bytes) -> NDArray[np.float64]:
    """4:2:0 chroma of the file itself repeated over 2 x 2 pixels, then JFIF's formula."""
    image = Image.open(io.BytesIO(content))
    image.draft("YCbCr", image.size)  # Pillow hands over YCbCr, chroma upsampled by libjpeg
    y = np.asarray(image)[..., 0].astype(float)
    av = pytest.importorskip("av")
    with av.open(io.BytesIO(content), format="jpeg_pipe") as file:
        planes = next(file.decode(video=0)).to_ndarray()  # (3/2 H, W): luma, then the halved chroma
    height, width = y.shape
    quarter = height * width // 4
    flat = planes[height:].reshape(-1).astype(float) - 128
    cb, cr = (
        np.repeat(np.repeat(part.reshape(height // 2, width // 2), 2, 0), 2, 1)
        for part in (flat[:quarter], flat[quarter:])
    )
    rgb = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=2)
    return np.asarray(rgb.clip(0, 255))


@pytest.mark.parametrize("decoder", OPTIONAL)
def test_plain_upsampling_repeats_chroma(decoder: str) -> None:
    content = _saved(_picture(), "JPEG", quality=90, subsampling=2)
    plain = _decoded(content, decoder=decoder, chroma_upsampling="plain")
    assert np.abs(plain - _repeated(content)).mean() < 0.6
    assert np.abs(_decoded(content) - _repeated(content)).mean() > 3


@pytest.mark.parametrize("decoder", OPTIONAL)
def test_fancy_upsampling_is_what_pillow_does(decoder: str) -> None:
    content = _saved(_picture(), "JPEG", quality=90, subsampling=2)
    fancy = _decoded(content, decoder=decoder, chroma_upsampling="fancy")
    assert _apart(fancy, _decoded(content)) < 0.6
    assert _apart(fancy, _decoded(content, decoder=decoder, chroma_upsampling="plain")) > 3


def test_left_to_itself_ffmpeg_repeats_and_libjpeg_turbo_interpolates() -> None:
    content = _saved(_picture(), "JPEG", quality=90, subsampling=2)
    own = {name: _decoded(content, decoder=name) for name in OPTIONAL}
    for name, choice in (("pyav", "plain"), ("simplejpeg", "fancy")):
        assert _apart(own[name], _decoded(content, decoder=name, chroma_upsampling=choice)) < 1


def test_draft_mode_shrinks_by_whole_powers_in_the_dct_and_never_below_the_size() -> None:
    content = _saved(_picture(160, 200), "JPEG", quality=95)
    for size, expected in (((160, 200), (160, 200)), ((81, 60), (160, 200)), ((60, 80), (80, 100)), ((9, 9), (20, 25))):
        assert _decoded(content, size=size, decoder="pillow-draft").shape[:2] == expected
    image = Image.open(io.BytesIO(content))
    image.draft("RGB", (80, 60))
    np.testing.assert_array_equal(_decoded(content, size=(60, 80), decoder="pillow-draft"), np.asarray(image))


def test_draft_mode_knows_that_a_turned_image_changes_its_sides() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = _saved(_picture(160, 200), "JPEG", quality=95, exif=exif)
    assert _decoded(content, size=(100, 80), decoder="pillow-draft").shape == (100, 80, 3)
    assert _decoded(content, size=(100, 80), decoder="pillow-draft", exif_orientation="ignored").shape[:2] == (160, 200)


# --------------------------------------------------- orientation, transparency, depth


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_as_exif_means_it_or_ignored(decoder: str, form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95, "subsampling": 0} if form == "JPEG" else {}
    content = _saved(_picture(), form, exif=exif, **options)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    assert _apart(_decoded(content, decoder=decoder), shown) < 0.2
    stored = np.asarray(Image.open(io.BytesIO(content)))
    assert _apart(_decoded(content, decoder=decoder, exif_orientation="ignored"), stored) < 0.2


def _see_through() -> Array:
    alpha = np.linspace(0, 255, 48 * 40).round().reshape(48, 40, 1)
    return np.concatenate([_picture(), alpha.astype(np.uint8)], axis=2)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(("alpha", "ground"), [("on-white", 255), ("on-black", 0)])
def test_alpha_is_composited_by_its_formula(decoder: str, alpha: str, ground: int) -> None:
    rgba = _see_through()
    share = rgba[..., 3:] / 255
    expected = rgba[..., :3] * share + ground * (1 - share)
    for raw in (_saved(rgba), rgba):
        assert np.abs(_decoded(raw, decoder=decoder, alpha=alpha) - expected).max() <= 1
    np.testing.assert_array_equal(_decoded(_saved(rgba), decoder=decoder), rgba[..., :3])
    grey = _decoded(_saved(rgba), decoder=decoder, alpha=alpha, color="L")
    assert np.abs(grey - expected @ [0.299, 0.587, 0.114]).max() <= 2


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_palette_s_transparency_is_composited_too(decoder: str) -> None:
    palette = Image.fromarray(_picture()).quantize(16)
    content = _saved(palette, transparency=bytes(range(0, 256, 16)))
    rgba = np.asarray(Image.open(io.BytesIO(content)).convert("RGBA")).astype(float)
    expected = rgba[..., :3] * rgba[..., 3:] / 255
    assert np.abs(_decoded(content, decoder=decoder, alpha="on-black") - expected).max() <= 1


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("alpha", ["on-white", "on-black"])
def test_what_is_opaque_is_not_touched_by_alpha(decoder: str, alpha: str) -> None:
    for content in (_saved(_picture()), _saved(_picture(), "JPEG"), _saved(_picture()[..., 0])):
        np.testing.assert_array_equal(
            _decoded(content, decoder=decoder, alpha=alpha), _decoded(content, decoder=decoder)
        )


DEEP = (np.arange(48 * 40).reshape(48, 40) * 34).astype(np.uint16)
BY_DEPTH = {"scaled": DEEP >> 8, "clipped": DEEP.clip(0, 255), "wrapped": DEEP.astype(np.uint8)}


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("way", BY_DEPTH)
def test_sixteen_bit_grey(decoder: str, way: str) -> None:
    grey = _decoded(_saved(Image.fromarray(DEEP)), decoder=decoder, sixteen_bit=way, color="L")
    own = decoder == "pyav" and way == "scaled"  # FFmpeg's conversion rounds where the others cut
    np.testing.assert_allclose(grey, BY_DEPTH[way], rtol=0, atol=1 if own else 0)


def test_clipping_is_what_pillow_does_by_itself() -> None:
    np.testing.assert_array_equal(np.asarray(Image.fromarray(DEEP).convert("L")), BY_DEPTH["clipped"])


def _deep_colour() -> tuple[bytes, NDArray[np.uint16]]:
    samples = np.random.default_rng(0).integers(0, 65536, (48, 40, 3)).astype(np.uint16)
    return cv2.imencode(".png", samples[..., ::-1])[1].tobytes(), samples


@pytest.mark.parametrize("decoder", ["opencv", "pyav"])
def test_sixteen_bit_colour(decoder: str) -> None:
    content, samples = _deep_colour()
    for way, expected in (("clipped", samples.clip(0, 255)), ("wrapped", samples.astype(np.uint8))):
        np.testing.assert_array_equal(_decoded(content, decoder=decoder, sixteen_bit=way), expected)
    assert np.abs(_decoded(content, decoder=decoder) - (samples >> 8)).max() <= 1


def test_pillow_keeps_the_high_byte_of_colour_whatever_is_asked() -> None:
    content, samples = _deep_colour()
    for way in BY_DEPTH:
        np.testing.assert_array_equal(_decoded(content, sixteen_bit=way), samples >> 8)
