"""Mistakes between an item and a model, done to prepared inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gapshift.domains.mistakes import Mistake, mistakes
from gapshift.domains.vision import prepare_batch
from gapshift.schema import (
    SPECIAL_TOKENS,
    AudioPreprocessing,
    ControlPreprocessing,
    Preprocessing,
    Resize,
    TextPreprocessing,
)

PIXELS = np.random.default_rng(1).integers(0, 256, size=(6, 8, 8, 3)).astype(np.uint8)


def _contract(**settings: Any) -> Preprocessing:
    given: dict[str, Any] = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.3)} | settings
    return Preprocessing(resize=Resize(size=(8, 8)), **given)


def _prepared(contract: Preprocessing) -> NDArray[Any]:
    return prepare_batch(list(PIXELS), contract)


def _named(contract: Any, sample: NDArray[Any] | None = None) -> dict[str, Mistake]:
    return {each.name: each for each in mistakes(contract, sample)}


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("scale-times-255", {"scale": 1.0}),
        ("scale-by-255", {"scale": 1 / 255**2}),
        ("no-statistics", {"mean": (0.0,), "std": (1.0,)}),
        ("no-mean", {"mean": (0.0,)}),
        ("no-deviation", {"std": (1.0,)}),
        ("cifar-10-statistics", {"mean": (0.4914, 0.4822, 0.4465), "std": (0.247, 0.2435, 0.2616)}),
        ("statistics-reversed", {"mean": (0.6, 0.5, 0.4), "std": (0.3, 0.25, 0.2)}),
        ("mean-added", {"mean": (-0.4, -0.5, -0.6)}),
    ],
)
def test_a_mistake_is_what_preparing_so_gives(layout: str, name: str, settings: dict[str, Any]) -> None:
    made = _named(_contract(layout=layout))[name].apply(_prepared(_contract(layout=layout)))
    assert np.allclose(made, _prepared(_contract(layout=layout, **settings)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_turned_pictures_are_those_of_turned_pixels(layout: str) -> None:
    contract, known = _contract(layout=layout), _named(_contract(layout=layout))
    x = _prepared(contract)
    for name, turned in (
        ("rotation-90", np.rot90(PIXELS, 1, (1, 2))),
        ("rotation-180", np.rot90(PIXELS, 2, (1, 2))),
        ("flip-horizontal", PIXELS[:, :, ::-1]),
        ("flip-vertical", PIXELS[:, ::-1]),
        ("transposed", PIXELS.transpose(0, 2, 1, 3)),
    ):
        expected = prepare_batch([np.ascontiguousarray(each) for each in turned], contract)
        assert np.array_equal(known[name].apply(x), expected), name


@pytest.mark.parametrize(("layout", "other"), [("NCHW", "NHWC-as-NCHW"), ("NHWC", "NCHW-as-NHWC")])
def test_a_misread_layout_is_the_contract_s_own_word_for_it(layout: str, other: str) -> None:
    known = _named(_contract(layout=layout))
    x, misread = _prepared(_contract(layout=layout)), _prepared(_contract(layout=other))
    assert np.array_equal(known["layout-misread"].apply(x), misread)
    assert np.array_equal(known["layout-undone"].apply(misread), x)


def test_the_data_s_own_statistics_make_them_zero_and_one() -> None:
    x = _prepared(_contract())
    made = _named(_contract(), x)["data-statistics"].apply(x)
    assert np.allclose(made.mean(axis=(0, 2, 3)), 0, atol=1e-5)
    assert np.allclose(made.std(axis=(0, 2, 3)), 1, atol=1e-4)


def test_statistics_for_pixels_of_0_to_255_are_scaled() -> None:
    contract = _contract(scale=1.0, mean=(127.0,), std=(60.0,))
    made = _named(contract)["imagenet-statistics"].apply(_prepared(contract))
    expected = _prepared(_contract(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)))
    assert np.allclose(made, expected, atol=1e-4)


@pytest.mark.parametrize(
    "contract",
    [
        _contract(),
        _contract(dtype="float16"),
        _contract(mean=(0.0,), std=(1.0,)),
        _contract(dtype="uint8", mean=(0.0,), std=(1.0,), scale=1.0),
        _contract(color="L", mean=(0.3,), std=(0.35,)),
    ],
)
def test_every_mistake_keeps_shape_and_type_and_changes_something(contract: Preprocessing) -> None:
    x = _prepared(contract)
    before = x.copy()
    for each in mistakes(contract, x):
        made = each.apply(x)
        assert (made.shape, made.dtype) == (x.shape, x.dtype), each.name
        assert not np.array_equal(made, x), each.name
        assert np.array_equal(x, before), each.name


def test_a_picture_that_is_not_square_is_not_turned_into_another_shape() -> None:
    contract = Preprocessing(resize=Resize(size=(8, 6)))
    x = _prepared(contract)
    known = _named(contract)
    assert known["rotation-90"].apply(x).shape == x.shape
    assert known["transposed"].apply(x).shape == x.shape


def test_token_ids_off_by_one_stay_in_the_vocabulary() -> None:
    contract = TextPreprocessing(vocabulary=(*SPECIAL_TOKENS, "a", "b", "c"), max_length=6)
    ids = np.array([[2, 4, 5, 6, 0, 0]])
    known = _named(contract)
    assert known["token-ids-plus-1"].apply(ids).tolist() == [[3, 5, 6, 6, 1, 1]]
    assert known["token-ids-minus-1"].apply(ids).tolist() == [[1, 3, 4, 5, 0, 0]]
    assert known["word-ids-plus-1"].apply(ids).tolist() == [[2, 5, 6, 6, 0, 0]]
    assert known["word-ids-minus-1"].apply(ids).tolist() == [[2, 4, 4, 5, 0, 0]]
    assert known["tokens-one-later"].apply(ids).tolist() == [[0, 2, 4, 5, 6, 0]]
    assert known["tokens-one-earlier"].apply(ids).tolist() == [[4, 5, 6, 0, 0, 0]]
    assert known["tokens-reversed"].apply(ids).tolist() == [[0, 0, 6, 5, 4, 2]]


def test_sounds_have_mistakes_of_bands_and_frames_and_control_has_none() -> None:
    x = np.random.default_rng(0).normal(2, 3, size=(4, 5, 7)).astype(np.float32)
    known = _named(AudioPreprocessing(mean=0.0, std=1.0), x)
    assert np.array_equal(known["bands-reversed"].apply(x), x[:, ::-1])
    assert np.array_equal(known["frames-one-later"].apply(x)[..., 1:], x[..., :-1])
    assert known["data-statistics"].apply(x).mean() == pytest.approx(0, abs=1e-5)
    for each in known.values():
        assert each.apply(x).shape == x.shape
    assert mistakes(ControlPreprocessing()) == ()
