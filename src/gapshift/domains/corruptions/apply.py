"""A data set whose items are corrupted on the way from where they lie to preprocessing."""

from __future__ import annotations

import io
from functools import cache
from typing import final

import numpy as np
from numpy.typing import NDArray

from gapshift.domains.base import Dataset, Episode, Raw, RawImage, Text
from gapshift.domains.corruptions import audio, control, text
from gapshift.domains.corruptions.base import Family, stream
from gapshift.domains.decode import decode
from gapshift.domains.prepare import prepare
from gapshift.domains.wav import read_wav
from gapshift.errors import DataError, UnreadableItemError
from gapshift.schema import AnyPreprocessing, AudioPreprocessing, Preprocessing, Shift

TEXTS = {family.name: family for family in text.FAMILIES}
SOUNDS = {family.name: family for family in audio.FAMILIES}
EPISODES = {family.name: family for family in control.FAMILIES}
"""Every family by its name, one table a domain (``schema.CORRUPTIONS`` lists the same names); images' families need
OpenCV, which is imported with them."""


def corrupted(dataset: Dataset, shift: Shift, preprocessing: AnyPreprocessing) -> Dataset:
    """``dataset`` as ``shift`` has it: the same items and ids; itself where nothing is corrupted.

    ``preprocessing`` settles what decodes an image, since corruptions act on pixels.
    """
    return dataset if shift.corruption is None else Corrupted(dataset, shift, preprocessing)


@final
class Corrupted(Dataset):
    """Another data set's items, each corrupted when it is read.

    Images come as the deployment's decoder gives their pixels, recordings as mono WAV files of
    32-bit floats. Raises NotApplicableError, on reading, for physics that an episode's task has not.
    """

    def __init__(self, base: Dataset, shift: Shift, preprocessing: AnyPreprocessing) -> None:
        super().__init__(base.name, base.classes, base.items, base.domain, base.kind)
        self._base = base
        self._shift = shift
        self._preprocessing = preprocessing

    @property
    def encoded(self) -> bool:
        return self._base.encoded and self.domain == "audio"

    def _raw(self, index: int) -> Raw:
        return corrupt(self._base.raw(index), self.items[index].id, self._shift, self._preprocessing)


def corrupt(raw: Raw, item_id: str, shift: Shift, preprocessing: AnyPreprocessing) -> Raw:
    """One item's raw form, corrupted; it depends on nothing but the arguments.

    Raises UnreadableItemError for an image or a recording that cannot be decoded, DataError for
    a corruption of another domain, NotApplicableError for physics that the task has not.
    """
    name, severity = shift.corruption or "", shift.severity
    rng = stream(item_id, name, shift.seed)
    if isinstance(raw, Text) and name in TEXTS:
        return TEXTS[name].apply(raw, severity, rng)
    if isinstance(raw, Episode) and name in EPISODES:
        return EPISODES[name].apply(raw, severity, rng)
    if isinstance(raw, bytes) and isinstance(preprocessing, AudioPreprocessing) and name in SOUNDS:
        return _wav(SOUNDS[name].apply(audio.Sound(*read_wav(raw, preprocessing.mono)), severity, rng))
    if isinstance(raw, (bytes, np.ndarray)) and isinstance(preprocessing, Preprocessing) and name in images():
        return images()[name].apply(_pixels(raw, preprocessing), severity, rng)
    raise DataError(
        f"No corruption {name!r} of item {item_id!r}: {type(raw).__name__} for {type(preprocessing).__name__}. "
        "Give a corruption of the data's own domain (schema.CORRUPTIONS lists them)."
    )


@cache
def images() -> dict[str, Family[NDArray[np.uint8]]]:
    """Images' families by name."""
    from gapshift.domains.corruptions import vision

    return {family.name: family for family in vision.FAMILIES}


def _pixels(raw: RawImage, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """What the deployment's decoder gives: (H, W, 3) as RGB or (H, W); stored grey stays grey.

    Compression of the deployment's own comes later, as it does where a camera is to blame.
    """
    if isinstance(raw, np.ndarray) and raw.ndim == 2:
        preprocessing = preprocessing.model_copy(update={"color": "L", "mean": (0.0,), "std": (1.0,)})
    return decode(raw, preprocessing.model_copy(update={"jpeg_quality": None}))


def _wav(sound: audio.Sound) -> bytes:
    from scipy.io import wavfile

    buffer = io.BytesIO()
    wavfile.write(buffer, sound.rate, sound.wave.astype(np.float32))
    return buffer.getvalue()


def is_silent(dataset: Dataset, shift: Shift, preprocessing: AnyPreprocessing, probe: int = 64) -> bool:
    """Whether no item of ``probe`` evenly spaced ones reaches the model otherwise than uncorrupted.

    Episodes are compared themselves. Items that cannot be read say nothing; where none can be
    read the answer is False. Raises as ``corrupt``.
    """
    other = corrupted(dataset, shift, preprocessing)
    seen = 0
    for index in np.linspace(0, len(dataset) - 1, min(probe, len(dataset))).round().astype(int):
        try:
            one, two = (_reached(each.raw(int(index)), preprocessing) for each in (dataset, other))
        except UnreadableItemError:
            continue
        if not _equal(one, two):
            return False
        seen += 1
    return seen > 0


def _reached(raw: Raw, preprocessing: AnyPreprocessing) -> Episode | NDArray[np.generic]:
    return raw if isinstance(raw, Episode) else prepare(raw, preprocessing)


def _equal(one: Episode | NDArray[np.generic], two: Episode | NDArray[np.generic]) -> bool:
    if isinstance(one, Episode) or isinstance(two, Episode):
        return one is two or bool(one == two)
    return np.array_equal(one, two)
