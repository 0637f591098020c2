"""Which deviations are players by themselves, and which only together."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapshift.errors import SettingsError, UnknownNameError
from gapshift.flows.players import joined, players_of
from gapshift.reports.combinations import united
from gapshift.schema import Deployment, Preprocessing, Resize, TextPreprocessing

VISION = Deployment(preprocessing=Preprocessing(resize=Resize(size=(8, 8))))
TEXT = Deployment(domain="text", preprocessing=TextPreprocessing())

NEAREST, INT8 = ("preprocessing.resize.interpolation", "nearest"), ("precision.format", "int8-dynamic")
OPENCV = {"preprocessing.resize.library": "opencv", "preprocessing.resize.antialias": False}
SLOW = {"service.latency_ms": 80.0, "service.timeout_ms": 50.0}


def parts(reference, deviations):
    return [tuple(player.deviations) for player in players_of(reference, deviations).players]


def test_deviations_that_can_stand_alone_are_players():
    found = players_of(VISION, dict([NEAREST, INT8]))
    assert [player.name for player in found.players] == [
        "resize.interpolation = nearest",
        "precision.format = int8-dynamic",
    ]
    assert not any(player.why for player in found.players)
    assert found.idle == ()


@pytest.mark.parametrize(
    ("deviations", "expected"),
    [
        ({"shift.severity": 5, "shift.corruption": "fog"}, [("shift.severity", "shift.corruption")]),
        (
            {"precision.format": "int8-qdq", "runtime.batch_size": 1, "precision.calibrator": "entropy"},
            [("precision.format", "precision.calibrator"), ("runtime.batch_size",)],
        ),
        (SLOW, [tuple(SLOW)]),
        (SLOW | {"service.fallback": "default"}, [(*SLOW, "service.fallback")]),
        (OPENCV | dict([INT8]), [tuple(OPENCV), ("precision.format",)]),
        (
            {"service.retries": 2, "service.error_rate": 0.3, "service.stale_rate": 0.1},
            [("service.retries", "service.error_rate"), ("service.stale_rate",)],
        ),
    ],
)
def test_those_that_cannot_are_players_together(deviations, expected):
    assert parts(VISION, deviations) == expected


def test_why_they_are_together_is_said():
    (player,) = players_of(VISION, OPENCV).players
    assert player.name == "resize.library = opencv with resize.antialias = false"
    assert "does not antialias" in player.why


def test_what_the_reference_has_already_is_no_deviation():
    found = players_of(VISION, {"runtime.intra_op_threads": 2, "preprocessing.resize.library": "pillow"} | dict([INT8]))
    assert found.idle == ("runtime.intra_op_threads", "preprocessing.resize.library")
    assert [tuple(player.deviations) for player in found.players] == [("precision.format",)]
    assert players_of(VISION, {"runtime.batch_size": 16}).players == ()


def test_a_default_value_beside_its_key_is_idle():
    found = players_of(VISION, {"shift.corruption": "fog", "shift.severity": 3})
    assert (parts(VISION, {"shift.corruption": "fog"}), found.idle) == ([("shift.corruption",)], ("shift.severity",))


def test_what_contradicts_the_contract_as_a_whole_is_an_error():
    with pytest.raises(SettingsError, match="does not antialias"):
        players_of(VISION, {"preprocessing.resize.library": "opencv"})
    with pytest.raises(UnknownNameError, match=r"preprocessing\.resize\.library"):
        players_of(TEXT, OPENCV)


POOL = {
    **OPENCV,
    **dict([INT8]),
    **SLOW,
    "service.fallback": "last",
    "shift.corruption": "fog",
    "shift.severity": 5,
    "preprocessing.color": "BGR",
    "preprocessing.jpeg_quality": 50,
    "runtime.batch_size": 1,
}


@settings(max_examples=60, deadline=None)
@given(st.sets(st.sampled_from(sorted(POOL)), min_size=1))
def test_every_combination_of_players_can_be(keys):
    deviations = {key: POOL[key] for key in POOL if key in keys}
    try:
        VISION.deviate(deviations)
    except SettingsError:
        return
    found = players_of(VISION, deviations)
    assert united(found.players) | set(found.idle) == keys
    assert sum(len(player.keys) for player in found.players) + len(found.idle) == len(keys)
    for size in range(1, len(found.players) + 1) if len(found.players) <= 8 else (1, 2, len(found.players) - 1):
        for some in combinations(found.players, size):
            VISION.deviate({key: deviations[key] for key in deviations if key in united(some)})


def test_two_players_become_one_in_the_place_of_the_first():
    players = players_of(VISION, dict([NEAREST, INT8, ("runtime.batch_size", 1)])).players
    now = joined(players, players[2], players[0], "because")
    assert [tuple(player.deviations) for player in now] == [
        ("runtime.batch_size", "preprocessing.resize.interpolation"),
        ("precision.format",),
    ]
    assert now[0].why == "because"
