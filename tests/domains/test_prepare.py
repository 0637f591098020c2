"""One way into every domain: what is prepared how, and which deviations change nothing."""

from __future__ import annotations

import io
import wave
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapshift.domains import audio, text, vision
from gapshift.domains.base import Dataset, InMemory, Raw, Text
from gapshift.domains.control.items import draw_episodes
from gapshift.domains.prepare import no_effect, prepare
from gapshift.errors import DataError, UnknownNameError, UnreadableItemError
from gapshift.schema import (
    OUTCOMES,
    AnyPreprocessing,
    AudioPreprocessing,
    ControlPreprocessing,
    Domain,
    Item,
    Preprocessing,
    Resize,
    TextPreprocessing,
)


def _wav(rate: int = 8000, seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.random.default_rng(seed).integers(-3000, 3000, rate).astype("<i2").tobytes())
    return buffer.getvalue()


PHOTO = np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)
WORDS = Text("a film , in short")
EPISODE = draw_episodes("cartpole", 1, 0)[0]
VISION = Preprocessing(resize=Resize(size=(6, 6)))
TEXT = TextPreprocessing(vocabulary=("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "film", "in", "short"), max_length=12)
AUDIO = AudioPreprocessing(mean=-2.0, std=3.0)
CONTROL = ControlPreprocessing(offset=(0.0,), scale=(1.0,))


def test_each_domain_prepares_its_own() -> None:
    np.testing.assert_array_equal(prepare(PHOTO, VISION), vision.prepare(PHOTO, VISION))
    np.testing.assert_array_equal(prepare(WORDS, TEXT), text.prepare(WORDS, TEXT))
    np.testing.assert_array_equal(prepare(_wav(), AUDIO), audio.prepare(_wav(), AUDIO))
    assert prepare(WORDS, TEXT).dtype == np.int64


@pytest.mark.parametrize(
    ("raw", "how", "message"),
    [
        (
            WORDS,
            VISION,
            r"^The item is a text, and a contract of domain 'vision' prepares no such thing\. Give data and",
        ),
        (b"RIFF", TEXT, r"^The item is a file, and a contract of domain 'text' prepares no such thing"),
        (PHOTO, AUDIO, r"^The item is an array of pixels, and a contract of domain 'audio' prepares no"),
        (EPISODE, CONTROL, r"an episode, and a contract of domain 'control' .*inputs come about step by step\.$"),
        (EPISODE, TEXT, r"^The item is an episode, and a contract of domain 'text' "),
    ],
)
def test_what_a_domain_cannot_prepare_is_an_error(raw: Raw, how: AnyPreprocessing, message: str) -> None:
    with pytest.raises(DataError, match=message) as raised:
        prepare(raw, how)
    assert not isinstance(raised.value, UnreadableItemError)


def _texts(*texts: str) -> Dataset:
    items = [Item(f"t{row}", 0) for row in range(len(texts))]
    return InMemory("t", ("a",), items, [Text(each) for each in texts], "text")


def _sounds(*raws: bytes) -> Dataset:
    return InMemory("s", ("a",), [Item(f"s{row}", 0) for row in range(len(raws))], raws, "audio")


PLAIN = _texts("a film", "in short", "a film in short")
EPISODES = InMemory("e", OUTCOMES, [Item("e0", 1)], [EPISODE], "control", "episodes")


@pytest.mark.parametrize(
    ("domain", "data", "how", "deviations", "reason"),
    [
        ("text", PLAIN, TEXT, {"lowercase": False}, "lowercase: every probed item (3) gives a bit-identical tensor"),
        (
            "text",
            PLAIN,
            TEXT,
            {"strip_accents": False, "unicode_form": "NFKC"},
            "unicode_form, strip_accents: every probed item (3) gives a bit-identical tensor",
        ),
        ("text", PLAIN, TEXT, {"max_length": 12}, "the contract already says so"),
        (
            "text",
            PLAIN,
            TEXT,
            {"truncation_side": "left"},
            "truncation_side: every probed item (3) gives a bit-identical",
        ),
        (
            "audio",
            _sounds(_wav()),
            AUDIO,
            {"resampler": "linear"},
            "resampler: every probed item (1) gives a bit-ident",
        ),
        (
            "audio",
            _sounds(_wav(), b"torn"),
            AUDIO,
            {"assumed_rate": 8000},
            "assumed_rate: every probed item (1) gives a",
        ),
        ("audio", _sounds(_wav()), AUDIO, {"mean": -2.0, "std": 3.0}, "the contract already says so"),
        ("control", EPISODES, CONTROL, {"delay": 0}, "the contract already says so"),
    ],
)
def test_why_nothing_changes(
    domain: Domain, data: Dataset, how: AnyPreprocessing, deviations: dict[str, Any], reason: str
) -> None:
    found = no_effect(data, domain, how, {f"preprocessing.{key}": value for key, value in deviations.items()})
    assert found is not None
    assert found.startswith(reason)


@pytest.mark.parametrize(
    ("domain", "data", "how", "deviations"),
    [
        ("text", _texts("a film", "A film"), TEXT, {"lowercase": False}),
        ("text", PLAIN, TEXT, {"max_length": 16}),
        ("text", PLAIN, TEXT, {"padding_side": "left"}),
        ("audio", _sounds(_wav(), _wav(16000)), AUDIO, {"resampler": "linear"}),
        ("audio", _sounds(_wav()), AUDIO, {"assumed_rate": 16000}),
        ("audio", _sounds(b"torn", b""), AUDIO, {"resampler": "linear"}),
        ("control", EPISODES, CONTROL, {"delay": 1}),
        ("control", EPISODES, CONTROL, {"drop_rate": 0.1}),
    ],
)
def test_an_effect_is_seen_and_so_is_that_nothing_can_be_said(
    domain: Domain, data: Dataset, how: AnyPreprocessing, deviations: dict[str, Any]
) -> None:
    assert no_effect(data, domain, how, {f"preprocessing.{key}": value for key, value in deviations.items()}) is None


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=20), min_size=1, max_size=6), st.booleans())
def test_a_reason_is_given_when_and_only_when_no_text_changes(texts: list[str], lower: bool) -> None:
    data, other = _texts(*texts), TEXT.model_copy(update={"lowercase": False, "strip_accents": lower})
    changed = any(not np.array_equal(prepare(Text(t), TEXT), prepare(Text(t), other)) for t in texts)
    deviations = {"preprocessing.lowercase": False, "preprocessing.strip_accents": lower}
    assert (no_effect(data, "text", TEXT, deviations) is None) == changed


def test_a_deviation_of_another_domain_is_an_error() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown deviation 'preprocessing\.color'"):
        no_effect(PLAIN, "text", TEXT, {"preprocessing.color": "BGR"})
