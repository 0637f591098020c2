"""Corruptions: the same for an item wherever it stands, worse with severity, and never more than is said."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy.io import wavfile

from gapshift.domains.base import Dataset, Episode, InMemory, Pixels, Raw, Text
from gapshift.domains.control.items import draw_episodes
from gapshift.domains.corruptions.apply import EPISODES, SOUNDS, TEXTS, corrupt, corrupted, images, is_silent
from gapshift.domains.corruptions.audio import SIGNAL_TO_NOISE, Sound
from gapshift.domains.corruptions.base import stream
from gapshift.domains.corruptions.text import NEIGHBOURS
from gapshift.domains.wav import read_wav
from gapshift.errors import DataError, NotApplicableError, UnreadableItemError
from gapshift.schema import (
    CORRUPTIONS,
    OUTCOMES,
    PREPROCESSING,
    AnyPreprocessing,
    AudioPreprocessing,
    ControlPreprocessing,
    Domain,
    Item,
    Preprocessing,
    Resize,
    Shift,
    TextPreprocessing,
)

IMAGES = images()

RATE = 8000
HOW: dict[Domain, AnyPreprocessing] = {
    "vision": Preprocessing(resize=Resize(size=(32, 32))),
    "text": TextPreprocessing(vocabulary=("[PAD]", "[UNK]", "[CLS]", "[SEP]", "the")),
    "audio": AudioPreprocessing(mean=0.0, std=1.0),
    "control": ControlPreprocessing(),
}
FAMILIES = [(domain, name) for domain, names in CORRUPTIONS.items() for name in names]
CERTAIN = {"defocus-blur", "zoom-blur", "brightness", "contrast", "pixelate", "jpeg", "clipping"} | set(
    CORRUPTIONS["control"]
) - {"physics"}
"""Nothing is random about these."""


def _wav(wave: NDArray[np.floating[Any]], rate: int = RATE) -> bytes:
    buffer = io.BytesIO()
    wavfile.write(buffer, rate, wave.astype(np.float32))
    return buffer.getvalue()


def _picture(seed: int, shape: tuple[int, ...] = (32, 32, 3)) -> NDArray[np.uint8]:
    """Smooth colours with an edge: something for noise, blur and contrast alike."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]] / max(shape[:2])
    waves = np.stack([np.sin(rng.uniform(3, 15) * x + rng.uniform(3, 15) * y) for _ in range(3)], axis=2)
    picture = 110 + 50 * waves + 50 * (x > 0.4)[..., None]
    if len(shape) == 3 and shape[2] == 4:
        picture = np.concatenate([picture, np.full((*shape[:2], 1), 255.0)], axis=2)
    return (picture[..., 0] if len(shape) == 2 else picture).astype(np.uint8)


def _recording(seed: int, samples: int = 4000) -> bytes:
    rng, time = np.random.default_rng(seed), np.arange(samples) / RATE
    envelope = 0.5 + 0.5 * np.sin(2 * np.pi * 4 * time + seed)
    return _wav(0.2 * envelope * np.sin(2 * np.pi * rng.uniform(200, 900) * time) + rng.normal(0, 0.002, samples))


WORDS = ["The", "waiter", "brought", "us", "a", "lovely", "Lemon", "coffee", "and", "nobody", "ever", "complained"]


def _raw(domain: Domain, seed: int) -> Raw:
    if domain == "vision":
        return _picture(seed)
    if domain == "text":
        return Text(" ".join(np.random.default_rng(seed).choice(WORDS, 15)))
    return _recording(seed) if domain == "audio" else draw_episodes("cartpole", 40, 3)[seed]


def _data(domain: Domain, n: int) -> Dataset:
    items = [Item(f"i{row}", 0 if domain != "control" else 1) for row in range(n)]
    raws: list[Any] = [_raw(domain, row) for row in range(n)]
    if domain == "vision":
        return Pixels("d", ["a"], items, raws)
    return InMemory("d", OUTCOMES, items, raws, domain, "episodes" if domain == "control" else "classes")


def _same(one: Raw, two: Raw) -> bool:
    if isinstance(one, np.ndarray) and isinstance(two, np.ndarray):
        return one.shape == two.shape and bool((one == two).all())
    return bool(one == two)


def _edits(one: str, two: str) -> int:
    """Levenshtein's distance."""
    row = list(range(len(two) + 1))
    for above, letter in enumerate(one):
        before, row[0] = row[0], above + 1
        for place, other in enumerate(two):
            before, row[place + 1] = (
                row[place + 1],
                min(row[place] + 1, row[place + 1] + 1, before + (letter != other)),
            )
    return row[-1]


def _distance(one: Raw, two: Raw) -> float:
    """How far a corrupted item is from the clean one, in the domain's own terms."""
    if isinstance(one, Text) and isinstance(two, Text):
        return _edits(one.first, two.first)
    if isinstance(one, Episode) and isinstance(two, Episode):
        return sum(abs(np.log(a / b)) for (_, a), (_, b) in zip(one.physics, two.physics, strict=True))
    if isinstance(one, bytes) and isinstance(two, bytes):
        clean, other = read_wav(one)[1], read_wav(two)[1]
        return float(np.sqrt(np.mean((clean - other) ** 2) / np.mean(clean**2)))
    return float(np.sqrt(np.mean((np.asarray(one, float) - np.asarray(two, float)) ** 2)))


def _corrupted(domain: Domain, name: str, severity: int = 3, seed: int = 0, item: str = "i", raw: int = 0) -> Raw:
    return corrupt(_raw(domain, raw), item, Shift(corruption=name, severity=severity, seed=seed), HOW[domain])


# -------------------------------------------------------------------------- every family


def test_the_tables_hold_the_families_that_the_schema_names() -> None:
    tables: Sequence[Any] = (IMAGES, TEXTS, SOUNDS, EPISODES)
    assert {domain: tuple(table) for domain, table in zip(PREPROCESSING, tables, strict=True)} == CORRUPTIONS
    names = [name for names in CORRUPTIONS.values() for name in names]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("domain", "name"), FAMILIES)
def test_harm_grows_with_severity(domain: Domain, name: str) -> None:
    rows = range(16)
    means = [
        np.mean([_distance(_raw(domain, row), _corrupted(domain, name, s, 0, f"i{row}", row)) for row in rows])
        for s in range(1, 6)
    ]
    assert means[0] > 0
    assert all(later >= earlier * 0.97 for earlier, later in pairwise(means)), means
    assert means[4] > means[2] > means[0]


@pytest.mark.parametrize(("domain", "name"), FAMILIES)
def test_what_is_random_follows_from_item_family_and_seed(domain: Domain, name: str) -> None:
    one = _corrupted(domain, name, 5)
    assert _same(one, _corrupted(domain, name, 5))
    others = [_corrupted(domain, name, 5, seed=7), _corrupted(domain, name, 5, item="j")]
    assert [_same(one, other) for other in others] == [name in CERTAIN] * 2


@pytest.mark.parametrize(("domain", "name"), FAMILIES)
@given(order=st.permutations(range(6)), count=st.integers(1, 6), severity=st.integers(1, 5), seed=st.integers(0, 2**40))
@settings(max_examples=5, deadline=None)
def test_neither_order_nor_company_changes_an_item(
    domain: Domain, name: str, order: list[int], count: int, severity: int, seed: int
) -> None:
    shift, data = Shift(corruption=name, severity=severity, seed=seed), _data(domain, 6)
    whole = corrupted(data, shift, HOW[domain])
    some = corrupted(data.subset(order[:count]), shift, HOW[domain])
    assert [item.id for item in some.items] == [f"i{row}" for row in order[:count]]
    for place in reversed(range(count)):
        assert _same(some.raw(place), whole.raw(order[place]))


@pytest.mark.parametrize("domain", CORRUPTIONS)
def test_a_data_set_without_a_corruption_is_itself(domain: Domain) -> None:
    data = _data(domain, 3)
    assert corrupted(data, Shift(), HOW[domain]) is data
    changed = corrupted(data, Shift(corruption=CORRUPTIONS[domain][0]), HOW[domain])
    assert (changed.items, changed.classes, changed.kind, changed.domain) == (
        data.items,
        data.classes,
        data.kind,
        data.domain,
    )
    assert changed.digest() != data.digest()


def test_a_corruption_of_another_domain_is_refused() -> None:
    with pytest.raises(DataError, match=r"^No corruption 'snow' of item 'i': Text for TextPreprocessing\. Give a corr"):
        corrupt(Text("a"), "i", Shift(corruption="snow"), HOW["text"])
    with pytest.raises(DataError, match=r"^No corruption 'snow' of item 'i': bytes for AudioPreprocessing\."):
        corrupt(_recording(0), "i", Shift(corruption="snow"), HOW["audio"])


# -------------------------------------------------------------------------------- images


@pytest.mark.parametrize("name", CORRUPTIONS["vision"])
@pytest.mark.parametrize("shape", [(32, 32), (32, 32, 4), (1, 1, 3), (2, 1), (5, 40, 3), (90, 70, 3)])
def test_images_of_any_shape_keep_it(name: str, shape: tuple[int, ...]) -> None:
    picture = _picture(1, shape)
    before = picture.copy()
    for severity in (1, 5):
        out = corrupt(picture, "i", Shift(corruption=name, severity=severity), HOW["vision"])
        assert isinstance(out, np.ndarray)
        assert out.dtype == np.uint8
        assert out.shape == (shape if len(shape) == 2 else (*shape[:2], 3))
    np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize("name", CORRUPTIONS["vision"])
@pytest.mark.parametrize("value", [0, 255])
def test_black_and_white_images_are_images_still(name: str, value: int) -> None:
    out = corrupt(np.full((16, 16, 3), value, np.uint8), "i", Shift(corruption=name, severity=5), HOW["vision"])
    assert isinstance(out, np.ndarray)
    assert out.dtype == np.uint8


def test_noise_has_the_published_strength() -> None:
    grey = np.full((200, 200, 3), 128, np.uint8)
    for severity, scale in enumerate((0.04, 0.06, 0.08, 0.09, 0.10), 1):
        out = corrupt(grey, "i", Shift(corruption="gaussian-noise", severity=severity), HOW["vision"])
        assert np.std(np.asarray(out, float)) / 255 == pytest.approx(scale, rel=0.02)
    stuck = corrupt(grey, "i", Shift(corruption="impulse-noise", severity=5), HOW["vision"])
    assert np.mean(np.asarray(stuck) != 128) == pytest.approx(0.07, rel=0.05)


def test_severities_share_one_noise() -> None:
    grey = np.full((32, 32, 3), 128, np.uint8)
    one, five = (
        np.asarray(corrupt(grey, "i", Shift(corruption="gaussian-noise", severity=s), HOW["vision"]), float) - 128
        for s in (1, 5)
    )
    assert np.corrcoef(one.ravel(), five.ravel())[0, 1] > 0.99


def test_blurs_keep_the_mean_and_lower_the_variance() -> None:
    picture = _picture(3, (64, 64, 3))
    for name in ("defocus-blur", "motion-blur"):
        out = np.asarray(corrupt(picture, "i", Shift(corruption=name, severity=5), HOW["vision"]), float)
        assert out.mean() == pytest.approx(picture.mean(), rel=0.03)
        assert out.var() < picture.var()


def test_an_encoded_image_is_corrupted_as_the_deployment_decodes_it() -> None:
    buffer = io.BytesIO()
    Image.fromarray(_picture(2)).save(buffer, "PNG")
    shift = Shift(corruption="contrast")
    compressed = HOW["vision"].model_copy(update={"jpeg_quality": 10})  # comes after, in preprocessing
    expected = corrupt(_picture(2), "i", shift, HOW["vision"])
    assert _same(corrupt(buffer.getvalue(), "i", shift, compressed), expected)
    grey = Preprocessing(resize=Resize(size=(32, 32)), color="L")
    assert np.asarray(corrupt(buffer.getvalue(), "i", shift, grey)).shape == (32, 32)
    with pytest.raises(UnreadableItemError, match="Pillow cannot decode it"):
        corrupt(b"no image", "i", shift, HOW["vision"])


def test_another_decoder_is_seen_through_a_corruption() -> None:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG")
    grey = Preprocessing(resize=Resize(size=(32, 32)), color="L")  # OpenCV's grey of a JPEG is not Pillow's
    ways = [grey.model_copy(update={"decoder": decoder}) for decoder in ("pillow", "opencv")]
    one, two = (corrupt(buffer.getvalue(), "i", Shift(corruption="pixelate"), how) for how in ways)
    assert not _same(one, two)


# ---------------------------------------------------------------------------------- text


@pytest.mark.parametrize("name", CORRUPTIONS["text"])
@given(first=st.text(max_size=40), severity=st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_any_text_can_be_corrupted(name: str, first: str, severity: int) -> None:
    out = corrupt(Text(first), "i", Shift(corruption=name, severity=severity), HOW["text"])
    assert isinstance(out, Text)
    assert bool(out.first.split()) == bool(first.split())
    if name in ("keyboard-typos", "swapped-letters", "homoglyphs", "casing"):
        assert len(out.first) == len(first)
        assert [one.isspace() for one in out.first] == [one.isspace() for one in first]


def test_casing_leaves_letters_alone_that_have_no_way_back() -> None:
    text = "ß ﬁ ½ straße ﬁne " * 20
    out = corrupt(Text(text), "i", Shift(corruption="casing", severity=5), HOW["text"])
    assert isinstance(out, Text)
    assert out.first != text
    assert out.first.swapcase().lower() == text.swapcase().lower()
    assert [out.first.count(letter) for letter in "ßﬁ½"] == [text.count(letter) for letter in "ßﬁ½"]


def test_typing_errors_are_the_neighbouring_keys() -> None:
    text = " ".join(WORDS) * 10
    out = corrupt(Text(text), "i", Shift(corruption="keyboard-typos", severity=5), HOW["text"])
    assert isinstance(out, Text)
    typed = [(one, two) for one, two in zip(text, out.first, strict=True) if one != two]
    letters = sum(one.isalpha() for one in text)
    assert len(typed) / letters == pytest.approx(0.25, abs=0.05)
    assert all(two.lower() in NEIGHBOURS[one.lower()] and one.isupper() == two.isupper() for one, two in typed)
    assert set(NEIGHBOURS["s"]) == set("awedxz")
    assert set(NEIGHBOURS["p"]) == set("ol")


def test_both_texts_of_a_pair_are_corrupted_apart() -> None:
    text = " ".join(WORDS)
    out = corrupt(Text(text, text), "i", Shift(corruption="keyboard-typos", severity=5), HOW["text"])
    assert isinstance(out, Text)
    assert out.second is not None
    assert len({text, out.first, out.second}) == 3


@pytest.mark.parametrize("name", CORRUPTIONS["text"])
def test_a_passage_and_its_answers_stay_findable(name: str) -> None:
    raw = Text(" ".join(WORDS), "The answer is forty-two here.", ("forty-two",), 14)
    out = corrupt(raw, "i", Shift(corruption=name, severity=5), HOW["text"])
    assert isinstance(out, Text)
    assert (out.second, out.answers, out.start) == (raw.second, raw.answers, raw.start)
    assert out.first != raw.first


# --------------------------------------------------------------------------------- sound


@pytest.mark.parametrize("name", ["white-noise", "pink-noise", "babble-noise"])
@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100])
def test_noise_is_added_at_the_set_ratio(name: str, rate: int) -> None:
    wave = 0.1 * np.sin(np.arange(rate // 2) * 0.05)
    for severity in (1, 5):
        out = SOUNDS[name].apply(Sound(rate, wave), severity, stream("i", name, 0))
        noise = out.wave - wave
        ratio = 10 * np.log10(np.mean(wave**2) / np.mean(noise**2))
        assert ratio == pytest.approx(SIGNAL_TO_NOISE[severity - 1], abs=1e-6)
        assert np.mean(np.abs(noise) > 0) > 0.9


@pytest.mark.parametrize("name", CORRUPTIONS["audio"])
@pytest.mark.parametrize("wave", [np.zeros(500), np.full(1, 0.5), np.full(3, -0.5)], ids=["silent", "one", "three"])
def test_silent_and_tiny_recordings_stay_recordings(name: str, wave: NDArray[np.float64]) -> None:
    out = corrupt(_wav(wave, 16000), "i", Shift(corruption=name, severity=5), HOW["audio"])
    assert isinstance(out, bytes)
    rate, after = read_wav(out)
    assert (rate, len(after)) == (16000, len(wave))
    assert wave.any() or not after.any()


def test_reverberation_keeps_power_and_outlasts_the_sound() -> None:
    wave = np.zeros(RATE)
    wave[:800] = np.sin(np.arange(800) * 0.3)
    for severity in (1, 5):
        out = SOUNDS["reverberation"].apply(Sound(RATE, wave), severity, stream("i", "reverberation", 0)).wave
        assert np.mean(out**2) == pytest.approx(np.mean(wave**2))
        assert np.mean(out[1200:2000] ** 2) > 0


def test_lost_packets_are_silent_and_whole_and_stay_lost() -> None:
    wave = np.ones(RATE)
    lost = []
    for severity in range(1, 6):
        out = SOUNDS["packet-loss"].apply(Sound(RATE, wave), severity, stream("i", "packet-loss", 0)).wave
        packets = out.reshape(-1, RATE // 50)
        assert set(packets.mean(axis=1).tolist()) <= {0.0, 1.0}
        lost.append(set(np.flatnonzero(packets[:, 0] == 0).tolist()))
    assert all(one <= two for one, two in pairwise(lost))
    assert len(lost[4]) > len(lost[0])


def test_a_recording_that_cannot_be_read_says_so() -> None:
    with pytest.raises(UnreadableItemError, match="scipy cannot read it as WAV"):
        corrupt(b"RIFF", "i", Shift(corruption="clipping"), HOW["audio"])


# ------------------------------------------------------------------------------- control


def test_physics_alone_changes_and_by_the_factor() -> None:
    episode = draw_episodes("mountaincar", 1, 0)[0]
    for name, parameter, factor in (("gravity", "gravity", 2.0), ("weak-actuator", "force", 0.5)):
        out = corrupt(episode, "i", Shift(corruption=name), HOW["control"])
        assert isinstance(out, Episode)
        assert (out.task, out.state, out.seed) == (episode.task, episode.state, episode.seed)
        expected = {key: value * (factor if key == parameter else 1) for key, value in episode.physics}
        assert dict(out.physics) == pytest.approx(expected)


def test_all_parameters_but_the_noises_go_up_or_down_at_once() -> None:
    episode = draw_episodes("cartpole", 1, 0)[0]
    out = corrupt(episode, "i", Shift(corruption="physics", severity=5), HOW["control"])
    assert isinstance(out, Episode)
    ratios = {name: value / dict(episode.physics)[name] for name, value in out.physics}
    assert {ratios.pop("actuator_noise"), ratios.pop("sensor_noise")} == {1.0}
    assert all(ratio == pytest.approx(1.75) or ratio == pytest.approx(1 / 1.75) for ratio in ratios.values())


def test_physics_that_a_task_has_not_are_not_applicable() -> None:
    episode = draw_episodes("mountaincar", 1, 0)[0]
    with pytest.raises(
        NotApplicableError,
        match=r"^shift\.corruption = heavy-cart changes masscart, which mountaincar has not; it has force, gravity, ",
    ):
        corrupt(episode, "i", Shift(corruption="heavy-cart"), HOW["control"])


# -------------------------------------------------------------------------- without effect


def test_a_corruption_that_no_input_shows_is_silent() -> None:
    vocabulary = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *(word.lower() for word in WORDS))
    small = TextPreprocessing(vocabulary=tuple(dict.fromkeys(vocabulary)))
    cased = small.model_copy(update={"lowercase": False})
    data, casing = _data("text", 5), Shift(corruption="casing", severity=5)
    assert is_silent(data, casing, small)
    assert not is_silent(data, casing, cased)
    assert not is_silent(data, Shift(corruption="keyboard-typos", severity=5), small)
    assert not is_silent(_data("control", 3), Shift(corruption="gravity"), HOW["control"])


def test_items_that_cannot_be_read_do_not_make_a_corruption_silent() -> None:
    torn = InMemory("torn", ("a", "b"), [Item("i", 0)], [b"torn"], "audio")
    assert not is_silent(torn, Shift(corruption="clipping"), HOW["audio"])
