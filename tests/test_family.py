"""Families: what is a member, which member is smaller, and the strategy that draws them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gapshift.deploy_tests.strategies import Family, environments, family_of, fitted, read_family
from gapshift.errors import SettingsError, UnknownNameError
from gapshift.schema import Contract, Environment, ModelInterface, Preprocessing, Resize

QUALITY, FORMAT, THREADS = "preprocessing.jpeg_quality", "precision.format", "runtime.intra_op_threads"
FAMILY = Family(deviations={QUALITY: (75, 50, 25), FORMAT: ("int8-dynamic",), THREADS: (1, 4)}, most=2)
CONTRACT = Contract(
    preprocessing=Preprocessing(resize=Resize(size=(8, 8))),
    model=ModelInterface(input="x", output="y", labels=("a", "b")),
)


def _environment(name: str, deviations: dict[str, Any], kind: Any = "lossy") -> Environment:
    return Environment(name=name, kind=kind, summary="s", deviations=deviations)


def test_environments_span_the_family_of_all_their_values() -> None:
    chosen = [
        _environment("a", {QUALITY: 75, THREADS: 1}),
        _environment("b", {QUALITY: 50}),
        _environment("c", {QUALITY: 75, "precision.keep_float32": ["Gemm"]}),
    ]
    family = family_of(chosen, most=4)
    assert family.deviations == {QUALITY: (75, 50), THREADS: (1,), "precision.keep_float32": (["Gemm"],)}
    assert family.most == 4


def test_smaller_is_fewer_deviations_then_milder_values() -> None:
    assert FAMILY.size({THREADS: 4}) < FAMILY.size({QUALITY: 75, FORMAT: "int8-dynamic"})
    assert FAMILY.size({QUALITY: 75}) < FAMILY.size({QUALITY: 50}) < FAMILY.size({FORMAT: "int8-dynamic"})
    assert list(FAMILY.smaller({QUALITY: 25, THREADS: 4})) == [
        {QUALITY: 25},
        {THREADS: 4},
        {QUALITY: 75, THREADS: 4},
        {QUALITY: 50, THREADS: 4},
        {QUALITY: 25, THREADS: 1},
    ]
    assert list(FAMILY.smaller({QUALITY: 75})) == []


def test_without_what_fails_alone() -> None:
    assert FAMILY.without([{QUALITY: 25}, {FORMAT: "int8-dynamic"}]) == {QUALITY: (75, 50), THREADS: (1, 4)}


def test_a_value_stands_once_and_a_key_has_one() -> None:
    with pytest.raises(ValidationError, match="has the value 75 twice"):
        Family(deviations={QUALITY: (75, 50, 75)})
    with pytest.raises(ValidationError, match="at least 1 item"):
        Family(deviations={QUALITY: ()})
    with pytest.raises(SettingsError, match="No environment spans a family"):
        family_of([])
    with pytest.raises(SettingsError, match="At most 0 deviations"):
        family_of([_environment("a", {QUALITY: 75})], most=0)


@given(environments(FAMILY))
def test_every_member_is_of_the_family(environment: Environment) -> None:
    assert 1 <= len(environment.deviations) <= FAMILY.most
    assert all(value in FAMILY.deviations[key] for key, value in environment.deviations.items())
    assert [key for key in FAMILY.deviations if key in environment.deviations] == list(environment.deviations)
    assert environment == FAMILY.environment(dict(reversed(environment.deviations.items())))


@given(st.data())
def test_a_name_stands_for_one_content(data: st.DataObject) -> None:
    one, other = (data.draw(environments(FAMILY)) for _ in range(2))
    assert (one.name == other.name) == (one.deviations == other.deviations)


def test_every_member_is_drawn_sooner_or_later() -> None:
    seen = set()

    @settings(max_examples=400, database=None)
    @given(environments(FAMILY))
    def draw(environment: Environment) -> None:
        seen.add(environment.name)

    draw()
    assert len(seen) == FAMILY.members() == 6 + 3 * 1 + 3 * 2 + 1 * 2  # alone, and every pair of keys


def test_members_shrink_to_few_and_mild() -> None:
    deviations = find(environments(FAMILY), lambda e: FORMAT in e.deviations).deviations
    assert deviations == {FORMAT: "int8-dynamic"}
    deviations = find(environments(FAMILY), lambda e: e.deviations.get(QUALITY, 100) < 75).deviations
    assert deviations == {QUALITY: 50}


# ------------------------------------------------------------------ keys that qualify another

NOISE, SEVERITY, CHANNELS = "shift.corruption", "shift.severity", "precision.per_channel"
NOISY = Family(deviations={NOISE: ("fog", "snow"), SEVERITY: (1, 2), QUALITY: (75,)}, most=2)


def test_a_severity_is_there_exactly_where_its_corruption_is() -> None:
    fog = {NOISE: "fog", SEVERITY: 1}
    assert [*NOISY.alone()][:2] == [fog, {NOISE: "fog", SEVERITY: 2}]
    assert list(NOISY.smaller({**fog, SEVERITY: 2, QUALITY: 75})) == [
        {NOISE: "fog", SEVERITY: 2},
        {QUALITY: 75},
        {**fog, QUALITY: 75},
    ]
    assert list(NOISY.smaller(fog)) == []
    assert NOISY.size(fog)[0] == 1


@given(environments(NOISY))
def test_no_member_leaves_a_severity_to_its_default(environment: Environment) -> None:
    assert (NOISE in environment.deviations) == (SEVERITY in environment.deviations)
    assert len(NOISY.parts(environment.deviations)) <= NOISY.most


def test_what_qualifies_counts_as_no_deviation_of_its_own() -> None:
    assert NOISY.members() == 4 + 1 + 4
    assert find(environments(NOISY), lambda e: NOISE in e.deviations).deviations == {NOISE: "fog", SEVERITY: 1}


def test_a_key_qualifies_only_the_values_that_it_can_stand_beside() -> None:
    family = Family(deviations={FORMAT: ("int4-weights", "int8-dynamic"), CHANNELS: (True,)})
    assert list(family.alone()) == [{FORMAT: "int4-weights"}, {FORMAT: "int8-dynamic", CHANNELS: True}]
    assert list(family.smaller({FORMAT: "int8-dynamic", CHANNELS: True})) == [{FORMAT: "int4-weights"}]
    assert family.members() == 2


def test_a_service_has_all_that_its_latency_needs_and_nothing_without_it() -> None:
    slow, timeout, spread, retries = (
        f"service.{name}" for name in ("latency_ms", "timeout_ms", "latency_spread", "retries")
    )
    family = Family(deviations={retries: (2,), spread: (0.1,), timeout: (100.0,), slow: (50.0,), QUALITY: (75,)})
    whole = {slow: 50.0, timeout: 100.0, spread: 0.1, retries: 2}
    assert list(family.alone()) == [whole, {QUALITY: 75}]
    assert list(family.smaller({**whole, QUALITY: 75})) == [whole, {QUALITY: 75}]


def test_an_environment_that_leaves_a_qualifying_key_out_spans_its_default() -> None:
    chosen = [
        _environment("a", {NOISE: "fog", SEVERITY: 5}),
        _environment("b", {NOISE: "snow"}),
        _environment("c", {QUALITY: 75}),
    ]
    assert fitted(family_of(chosen), CONTRACT)[0].deviations == {
        NOISE: ("fog", "snow"),
        SEVERITY: (3, 5),
        QUALITY: (75,),
    }


def test_of_what_fails_alone_a_milder_form_stays() -> None:
    assert NOISY.without([{NOISE: "fog", SEVERITY: 2}]) == NOISY.deviations
    assert NOISY.without([{NOISE: "fog", SEVERITY: 1}, {NOISE: "fog", SEVERITY: 2}])[NOISE] == ("snow",)
    assert NOISY.without([member for member in NOISY.alone() if NOISE in member]) == {QUALITY: (75,)}


# ------------------------------------------------------------------ what a model can have


def test_values_of_the_contract_and_of_other_domains_are_left_out_and_said() -> None:
    family = Family(
        deviations={
            "preprocessing.resize.interpolation": ("bilinear", "nearest"),
            "preprocessing.lowercase": (False,),
            "shift.corruption": ("white-noise", "contrast"),
        }
    )
    mine, notes = fitted(family, CONTRACT)
    assert mine.deviations == {"preprocessing.resize.interpolation": ("nearest",), "shift.corruption": ("contrast",)}
    assert notes == (
        "not for vision models: preprocessing.lowercase = False, shift.corruption = white-noise",
        "the contract has them anyway: preprocessing.resize.interpolation = bilinear",
    )


def test_numbers_go_by_their_distance_from_the_contracts_own_unless_the_order_is_stated() -> None:
    family = Family(deviations={"runtime.batch_size": (256, 1, 64), QUALITY: (90, 50)})
    assert fitted(family, CONTRACT)[0].deviations == {"runtime.batch_size": (1, 64, 256), QUALITY: (90, 50)}
    assert fitted(family, CONTRACT, stated=True)[0].deviations == family.deviations


def test_a_family_of_nothing_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"Nothing of the family is left .*lowercase = False.* Choose another"):
        fitted(Family(deviations={"preprocessing.lowercase": (False,)}), CONTRACT)


def test_a_stated_family_is_read_and_its_slips_are_named(tmp_path: Path) -> None:
    path = tmp_path / "family.toml"
    path.write_text('most = 2\n[deviations]\n"runtime.batch_size" = [1, 64]\n', encoding="utf-8")
    assert read_family(path) == Family(deviations={"runtime.batch_size": (1, 64)}, most=2)
    path.write_text('most = 0\n[deviations]\n"runtime.batch_size" = [1]\n', encoding="utf-8")
    with pytest.raises(SettingsError, match=r"family.toml: most: .* \(got 0\)"):
        read_family(path)
    with pytest.raises(SettingsError, match=r"The family: preprocessing.yuv.chroma: Input should be '4:4:4' or 'nv12'"):
        fitted(Family(deviations={"preprocessing.yuv.chroma": ("4:2:0",)}), CONTRACT, stated=True)
    with pytest.raises(UnknownNameError, match=r"Did you mean 'runtime.batch_size'"):
        fitted(Family(deviations={"runtime.batch_sise": (1,)}), CONTRACT)


def test_what_needs_another_key_beside_it_stays_in_the_family() -> None:
    family = Family(deviations={"precision.format": ("int8-qdq",), "precision.per_channel": (True,)})
    assert fitted(family, CONTRACT, stated=True)[0] == family
