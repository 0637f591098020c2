"""FFmpeg through PyAV (``pip install gapshift[video]``): its image decoders and its swscale.

It is told the format, found by the file's first bytes: left to guess, FFmpeg also reads
playlists, which name other files and addresses.
"""

from __future__ import annotations

import io
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gapshift.domains.decoders.samples import composited, eight_bits, in_colours, is_cut_jpeg, upright, wants_grey
from gapshift.errors import SkippedError, UnreadableItemError
from gapshift.schema import YUV, Preprocessing

_FORMATS = {
    b"\xff\xd8\xff": "jpeg_pipe",
    b"\x89PNG": "png_pipe",
    b"BM": "bmp_pipe",
    b"GIF8": "gif",
    b"II*\x00": "tiff_pipe",
    b"MM\x00*": "tiff_pipe",
    b"P5": "pgm_pipe",
    b"P6": "ppm_pipe",
}
_STRICT = {"err_detect": "crccheck+bitstream+buffer"}
"""Damage is an error; odd metadata, which ``explode`` would refuse too, is not."""
_SPACES = {"bt601": "ITU601", "bt709": "ITU709"}
_RANGES = {"full": "JPEG", "limited": "MPEG"}


def decode(content: bytes, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Pixels by FFmpeg, which repeats halved chroma unless it is asked to interpolate.

    Of several frames the first. FFmpeg tells a file's orientation and does not apply it.
    """
    av = _av()
    try:
        frame = _frame(av, content)
        pixels = in_colours(_pixels(av, frame, preprocessing), wants_grey(preprocessing))
    except UnreadableItemError:
        raise
    except Exception as error:  # av's errors are many, and ValueError for a picture without size
        what = str(error) or "it holds no picture"
        raise UnreadableItemError(f"FFmpeg cannot decode it ({len(content)} bytes): {what}") from error
    return upright(pixels, content) if preprocessing.exif_orientation == "applied" else pixels


def through_yuv(pixels: NDArray[np.uint8], yuv: YUV) -> NDArray[np.uint8]:
    """RGB pixels (H, W, 3) through YUV and back by swscale with its defaults."""
    av = _av()
    spaces, ranges = av.video.reformatter.Colorspace, av.video.reformatter.ColorRange
    between = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24").reformat(
        format="nv12" if yuv.chroma == "nv12" else "yuv444p",
        dst_colorspace=spaces[_SPACES[yuv.matrix]],
        dst_color_range=ranges[_RANGES[yuv.range]],
        threads=1,
    )
    return np.asarray(
        between.to_ndarray(
            format="rgb24",
            src_colorspace=spaces[_SPACES[yuv.read_matrix or yuv.matrix]],
            src_color_range=ranges[_RANGES[yuv.read_range or yuv.range]],
            dst_color_range=ranges.JPEG,
            threads=1,
        ),
        dtype=np.uint8,
    )


def _av() -> ModuleType:
    try:
        import av
        import av.video.reformatter
    except ImportError as error:
        raise SkippedError(
            "PyAV (FFmpeg) is not installed here. Install it with `pip install gapshift[video]`."
        ) from error
    found: ModuleType = av
    return found


def _frame(av: ModuleType, content: bytes) -> Any:
    name = _format(content)
    if name is None:
        raise UnreadableItemError(f"FFmpeg cannot decode it ({len(content)} bytes): no whole image in a known format")
    if is_cut_jpeg(content):
        raise UnreadableItemError(f"FFmpeg cannot decode it ({len(content)} bytes): the JPEG has no end marker")
    if name == "gif":  # of a torn one FFmpeg hands over a part as if it were whole
        Image.open(io.BytesIO(content), formats=("GIF",)).load()
    with av.open(io.BytesIO(content), format=name) as container:
        context = container.streams.video[0].codec_context
        context.thread_count, context.options = 1, _STRICT
        return next(container.decode(video=0))


def _format(content: bytes) -> str | None:
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "webp_pipe"
    return next((name for start, name in _FORMATS.items() if content.startswith(start)), None)


def _pixels(av: ModuleType, frame: Any, how: Preprocessing) -> NDArray[np.uint8]:
    """The frame in RGB, RGBA or grey."""
    parts = frame.format.components
    deep = max((part.bits for part in parts), default=8) > 8
    see_through = frame.format.name == "pal8" or any(part.is_alpha for part in parts)
    if how.alpha != "dropped" and see_through:
        samples = _as(av, frame, "rgba64le" if deep else "rgba", None)
        return composited(eight_bits(samples, how.sixteen_bit) if deep else samples, how.alpha)
    grey = wants_grey(how)
    if deep and how.sixteen_bit != "scaled":
        return eight_bits(_as(av, frame, "gray16le" if grey else "rgb48le", None), how.sixteen_bit)
    return _as(av, frame, "gray" if grey else "rgb24", how.chroma_upsampling)


def _as(av: ModuleType, frame: Any, name: str, chroma: str | None) -> NDArray[Any]:
    """Exact rounding and full horizontal chroma make swscale do by the flag's name what it says."""
    flags, ranges = av.video.reformatter.Interpolation, av.video.reformatter.ColorRange
    exact = flags.ACCURATE_RND | flags.FULL_CHR_H_INT
    way = {None: None, "plain": flags.POINT | exact, "fancy": flags.BILINEAR | exact}[chroma]
    return np.asarray(frame.to_ndarray(format=name, interpolation=way, dst_color_range=ranges.JPEG, threads=1))
