"""Services before a model: what befalls requests, what the model is given then, and what is reported of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom

from gapshift.domains.answering import Asked, answer
from gapshift.domains.base import Dataset, InMemory, Text, rank
from gapshift.domains.control.items import draw_episodes
from gapshift.domains.control.sensors import Sensors
from gapshift.domains.control.served import account
from gapshift.domains.services import Served, ServedRows, default_input, fates, serve
from gapshift.domains.text import prepare
from gapshift.envs.cells import TaskItems
from gapshift.envs.runner import Matrix, evaluate
from gapshift.records import ITEM_SCHEMA, Records, write_items
from gapshift.reports.judge import judge
from gapshift.schema import (
    AudioPreprocessing,
    Bundle,
    CellInfo,
    ControlPreprocessing,
    DataSource,
    Environment,
    Item,
    ModelInterface,
    Preprocessing,
    Resize,
    RunPlan,
    Service,
    TaskPlan,
    TextPreprocessing,
)
from gapshift.workspace import Workspace

MANY = [f"item-{n:05d}" for n in range(4000)]
VISION = Preprocessing(resize=Resize(size=(4, 4)))
RATE = st.floats(1e-6, 1)


def _served(service: Service, ids: list[str] = MANY) -> Served:
    return serve(service, ids, np.ones(len(ids), dtype=bool))


def _within(count: int, n: int, p: float) -> bool:
    """Whether a count is one of the middle ones of a binomial, but for one chance in a million."""
    low, high = binom.ppf([5e-7, 1 - 5e-7], n, p)
    return bool(low <= count <= high)


def _order(service: Service, ids: list[str]) -> list[int]:
    return sorted(range(len(ids)), key=lambda row: rank(ids[row], service.seed))


def _rows(values: NDArray[Any], served: Served, how: Any = VISION) -> NDArray[Any]:
    return ServedRows(values, served, how)[np.arange(len(values))]


# ------------------------------------------------------------------------------- requests


def test_rates_are_met() -> None:
    found = _served(Service(error_rate=0.2, stale_rate=0.1, corruption_rate=0.05, fallback="default")).fates
    answered = int((~found.failed).sum())
    assert _within(int(found.failed.sum()), len(MANY), 0.2)
    assert _within(int(found.stale.sum()), answered, 0.1)
    assert _within(int(found.corrupted.sum()), answered, 0.05)


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_all_attempts_fail_with_the_power_of_their_number(retries: int) -> None:
    found = _served(Service(error_rate=0.4, retries=retries, fallback="default")).fates
    assert _within(int(found.failed.sum()), len(MANY), 0.4 ** (retries + 1))


def test_a_median_latency_at_the_limit_misses_it_half_the_time_and_takes_no_longer() -> None:
    found = _served(Service(latency_ms=50, timeout_ms=50, fallback="default")).fates
    assert _within(int(found.timeouts.sum()), len(MANY), 0.5)
    assert found.ms.max() == 50
    assert (found.ms[found.timeouts == 1] == 50).all()


def test_latency_is_log_normal() -> None:
    found = _served(Service(latency_ms=40, latency_spread=0.3, timeout_ms=1e9)).fates
    logs = np.log(found.ms)
    assert np.exp(logs.mean()) == pytest.approx(40, rel=0.03)
    assert logs.std() == pytest.approx(0.3, rel=0.05)


def test_an_endless_latency_always_times_out_and_warns_of_nothing() -> None:
    tally = _served(Service(latency_ms=1, latency_spread=1e6, timeout_ms=5, fallback="default")).tally(
        np.arange(len(MANY))
    )
    assert tally is not None
    assert _within(tally.timeouts, len(MANY), 0.5)
    assert np.isfinite([tally.latency_ms_median, tally.latency_ms_p95]).all()


@given(RATE, RATE, st.integers(0, 3), st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_a_higher_error_rate_hits_a_superset_and_more_retries_a_subset(
    one: float, two: float, retries: int, seed: int
) -> None:
    low, high = sorted((one, two))
    drawn = np.random.default_rng(seed).random((200, 10))
    fewer, more = (fates(Service(error_rate=rate, retries=3), drawn).failed for rate in (low, high))
    assert not (fewer & ~more).any()
    first = fates(Service(error_rate=high, retries=retries), drawn[:, : 4 + 2 * retries]).failed
    assert not (more & ~first).any()


@given(RATE, RATE, st.sampled_from(["stale", "corrupted"]))
@settings(max_examples=20, deadline=None)
def test_a_higher_rate_of_wrong_answers_hits_a_superset(one: float, two: float, what: str) -> None:
    key = {"stale": "stale_rate", "corrupted": "corruption_rate"}[what]
    few, many = (getattr(_served(Service(**{key: r}), MANY[:60]).fates, what) for r in sorted((one, two)))
    assert not (few & ~many).any()


@given(st.permutations(MANY[:40]), st.integers(1, 40), st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_an_item_s_fate_is_the_same_in_any_company_and_order(ids: list[str], n: int, seed: int) -> None:
    service = Service(error_rate=0.4, corruption_rate=0.4, latency_ms=9, timeout_ms=10, retries=1, seed=seed)
    whole, some = _served(service, MANY[:40]), _served(service, ids[:n])
    rows = [MANY.index(name) for name in ids[:n]]
    for name in ("failed", "corrupted", "attempts", "timeouts", "errors", "ms"):
        assert getattr(some.fates, name).tolist() == getattr(whole.fates, name)[rows].tolist()


def test_another_seed_is_another_day() -> None:
    one, two = (_served(Service(error_rate=0.5, seed=seed)).fates.failed for seed in (0, 1))
    assert _within(int((one == two).sum()), len(MANY), 0.5)


def test_the_tally_adds_up() -> None:
    service = Service(error_rate=0.2, latency_ms=30, timeout_ms=45, stale_rate=0.1, corruption_rate=0.1, retries=2)
    rows = np.arange(0, len(MANY), 3)
    served = _served(service)
    tally = served.tally(rows)
    assert tally is not None
    assert tally.requests == len(rows)
    assert tally.attempts == tally.requests - tally.fallbacks + tally.timeouts + tally.errors
    assert tally.fallbacks == served.withheld[rows].sum() > 0
    assert 0 < tally.latency_ms_median < tally.latency_ms_p95 <= 3 * 45


# ----------------------------------------------------------------------------------- inputs


def test_a_stale_answer_is_precisely_the_request_before_s() -> None:
    ids, values = MANY[:50], np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    service = Service(stale_rate=1.0, seed=4)
    order = _order(service, ids)
    given_ = _rows(values, _served(service, ids))
    np.testing.assert_array_equal(given_[order[1:]], values[order[:-1]])
    np.testing.assert_array_equal(given_[order[0]], values[order[0]])  # there is none before it


def test_the_last_value_is_what_the_latest_answer_brought() -> None:
    ids, values = MANY[:200], np.arange(200, dtype=np.float32)[:, None] + 1
    service = Service(error_rate=0.5, stale_rate=0.3, fallback="last")
    served = _served(service, ids)
    given_, got = _rows(values, served), 0.0
    fell_back_twice = False
    order = _order(service, ids)
    for place, row in enumerate(order):
        if not served.fates.failed[row]:
            got = float(values[order[place - 1] if served.fates.stale[row] else row, 0])
        fell_back_twice |= place > 0 and bool(served.fates.failed[row] and served.fates.failed[order[place - 1]])
        assert given_[row, 0] == got  # zeros, the default, until there is one
    assert fell_back_twice


def test_a_last_value_is_as_garbled_as_it_came() -> None:
    ids, values = MANY[:200], np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    service = Service(error_rate=0.5, corruption_rate=1.0, fallback="last")
    served = _served(service, ids)
    given_, order = _rows(values, served), _order(service, ids)
    pairs = [(a, b) for a, b in pairwise(order) if served.fates.failed[b]]
    assert len(pairs) > 20
    for before, row in pairs:
        np.testing.assert_array_equal(given_[row], given_[before])


def test_the_default_is_the_mean_or_an_empty_text() -> None:
    service = Service(error_rate=1.0, fallback="default")
    values = np.ones((3, 2, 2), dtype=np.float16)
    assert (_rows(values, _served(service, MANY[:3])) == 0).all()
    how = TextPreprocessing(vocabulary=("[PAD]", "[UNK]", "[CLS]", "[SEP]", "good"), max_length=6)
    assert default_input((6,), np.dtype(np.int64), how).tolist() == [2, 0, 0, 0, 0, 0]
    tokens = np.stack([prepare(Text("good good"), how)] * 3)
    assert _rows(tokens, _served(service, MANY[:3]), how).tolist() == [[2, 0, 0, 0, 0, 0]] * 3


@pytest.mark.parametrize("kind", ["float32", "float16", "uint8", "tokens"])
def test_garbling_overwrites_one_part_with_values_that_nothing_refuses(kind: str) -> None:
    words = tuple(f"w{n}" for n in range(96))
    text = TextPreprocessing(vocabulary=("[PAD]", "[UNK]", "[CLS]", "[SEP]", *words), max_length=50)
    rng = np.random.default_rng(0)
    values = rng.integers(0, 100, (30, 50)) if kind == "tokens" else rng.uniform(0, 200, (30, 50)).astype(kind)
    before = values.copy()
    found = _rows(values, _served(Service(corruption_rate=1.0), MANY[:30]), text if kind == "tokens" else VISION)
    np.testing.assert_array_equal(values, before)
    assert found.dtype == values.dtype
    lengths = []
    for old, new in zip(values, found, strict=True):
        changed = np.flatnonzero(old != new)
        lengths.append(len(changed))
        assert changed[-1] - changed[0] + 1 <= 50
        assert new.min() >= 0
        assert new.max() <= (99 if kind == "tokens" else 255 if kind == "uint8" else old.max())
    assert min(lengths) >= 1
    assert max(lengths) > 30 > min(lengths)


def test_a_blank_payload_is_garbled_too() -> None:
    blank = np.zeros((5, 9), dtype=np.float32)
    assert (_rows(blank, _served(Service(corruption_rate=1.0), MANY[:5])) != 0).any(axis=1).all()


def test_inputs_depend_on_no_batch() -> None:
    service = Service(error_rate=0.3, stale_rate=0.3, corruption_rate=0.3, fallback="last")
    values = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    rows = ServedRows(values, _served(service, MANY[:60]), VISION)
    whole = rows[np.arange(60)]
    for batch in (1, 7):
        parts = [rows[np.arange(60)[::-1][s : s + batch]] for s in range(0, 60, batch)]
        np.testing.assert_array_equal(np.concatenate(parts)[::-1], whole)


# ---------------------------------------------------------------------------------- answers


def _data(n: int) -> Dataset:
    items = [Item(name, row % 2) for row, name in enumerate(MANY[:n])]
    return InMemory("d", ("no", "yes"), items, [b"x"] * n, "audio")


def _answers(service: Service, n: int = 200, readable: NDArray[np.bool_] | None = None) -> tuple[Any, NDArray[Any]]:
    """A model that repeats its input, (n, 2) logits of the right class; rows asked in another order."""
    labels = np.arange(n) % 2
    inputs = np.eye(2, dtype=np.float32)[labels]
    rows = np.random.default_rng(1).permutation(n)
    asked = Asked(
        _data(n),
        rows,
        AudioPreprocessing(),
        16,
        inputs,
        np.ones(n, dtype=bool) if readable is None else readable,
        service=service,
    )
    return answer(asked, lambda batch: batch, ModelInterface(input="i", output="o", labels=("no", "yes"))), rows


def test_a_skipped_item_has_no_answer_and_is_wrong() -> None:
    found, rows = _answers(Service(error_rate=0.3, fallback="skip"))
    failed = _served(Service(error_rate=0.3), MANY[:200]).fates.failed[rows]
    records = found.records
    assert records.item_id.tolist() == [MANY[row] for row in rows]
    assert (records.status == np.where(failed, "no_answer", "ok")).all()
    assert (records.correct == ~failed).all()
    assert (records.prediction[failed] == -1).all()
    assert np.isnan(records.confidence[failed]).all()
    assert found.service.fallbacks == failed.sum() > 30


def test_a_fallback_s_answer_counts_as_any_other() -> None:
    found, _ = _answers(Service(error_rate=0.3, fallback="default"))
    records, fell_back = found.records, found.records.status == "fallback"
    assert fell_back.sum() == found.service.fallbacks
    assert set(records.status[~fell_back].tolist()) == {"ok"}
    assert set(records.prediction[fell_back].tolist()) == {0}  # zeros for both classes
    assert (records.correct[fell_back] == (records.label[fell_back] == 0)).all()


def test_unreadable_items_stay_so_and_request_nothing() -> None:
    readable = np.arange(200) % 4 > 0
    found, rows = _answers(Service(error_rate=1.0, fallback="skip"), readable=readable)
    assert (found.records.status == np.where(readable[rows], "no_answer", "unreadable")).all()
    assert found.service.requests == 150


def test_without_a_service_nothing_is_tallied() -> None:
    assert _answers(Service())[0].service is None


# ---------------------------------------------------------------------------------- control

PLAIN = ControlPreprocessing(window=2, offset=(0.0, 0.0), scale=(1.0, 1.0))
EPISODES = draw_episodes("mountaincar", 12, 0)


def _read(service: Service, how: ControlPreprocessing = PLAIN, episodes: Any = EPISODES) -> NDArray[np.float32]:
    """The newest reading at each step (steps, n, 2), of observations that count steps."""
    steps = np.arange(1, 61, dtype=np.float32)
    seen = np.broadcast_to(steps[:, None, None], (60, len(episodes), 2))
    sensors = Sensors(episodes, seen, how, service)
    return np.stack([sensors.window(np.arange(len(episodes)), t)[:, -1] for t in range(60)])


def test_a_stale_reading_is_that_of_the_step_before() -> None:
    found = _read(Service(stale_rate=1.0))[:, 0, 0]
    assert found.tolist() == [1.0, *np.arange(1.0, 60.0)]


def test_a_missing_reading_is_the_mean_or_the_one_before() -> None:
    plain = _read(Service())
    default, last = (_read(Service(error_rate=0.4, fallback=name)) for name in ("default", "last"))  # type: ignore[arg-type]
    gone = (default == 0).all(axis=2)
    assert _within(int(gone[1:].sum()), 59 * 12, 0.4)
    assert not gone[0].any()  # an episode starts with its first reading in hand
    np.testing.assert_array_equal(default[~gone], plain[~gone])
    np.testing.assert_array_equal(last[~gone], plain[~gone])
    np.testing.assert_array_equal(last[1:][gone[1:]], last[:-1][gone[1:]])


def test_a_garbled_reading_is_off_and_finite() -> None:
    plain, found = _read(Service()), _read(Service(corruption_rate=0.3))
    off = (plain != found).any(axis=2)
    assert _within(int(off[1:].sum()), 59 * 12, 0.3)
    assert (np.abs(found[off & ~(plain[..., 0] == found[..., 0])][:, 0]) <= 3).all()


def test_an_episode_s_readings_depend_on_no_other_episode() -> None:
    service = Service(error_rate=0.2, stale_rate=0.2, corruption_rate=0.2, retries=1, fallback="last")
    whole, some = _read(service), _read(service, episodes=[EPISODES[7], EPISODES[2]])
    np.testing.assert_array_equal(some, whole[:, [7, 2]])


def test_more_retries_lose_a_subset_of_the_readings() -> None:
    lost = [(_read(Service(error_rate=0.5, retries=r, fallback="default")) == 0).all(axis=2) for r in (0, 1)]
    assert not (lost[1] & ~lost[0]).any()
    assert 0 < lost[1].sum() < lost[0].sum()


def test_the_steps_of_episodes_are_tallied() -> None:
    service = Service(error_rate=0.3, fallback="last")
    seen = np.arange(1, 13) * 5
    found, met = account(service, EPISODES, seen)
    assert found is not None
    assert found.requests == (seen - 1).sum()
    assert found.attempts == found.requests - found.fallbacks + found.errors
    one, _ = account(service, EPISODES[:1], np.array([1]))
    assert one is None  # its only reading was there
    assert met[-1]
    default = (_read(Service(error_rate=0.3, fallback="default")) == 0).all(axis=2)
    assert met.tolist() == [bool(default[:n, row].any()) for row, n in enumerate(seen)]


# ----------------------------------------------------------------------- evaluated and judged


def _environment(name: str, **service: Any) -> Environment:
    return Environment(
        name=name, kind="stress", summary="s", deviations={f"service.{key}": value for key, value in service.items()}
    )


ENVIRONMENTS = (
    _environment("skipping", error_rate=0.3),
    _environment("default", error_rate=0.3, fallback="default"),
    _environment("stale", stale_rate=0.5),
    _environment("slow", latency_ms=40, timeout_ms=45, retries=1, fallback="last"),
    _environment("rare", error_rate=1e-9),
)


def _run(small: Callable[..., Any], folder: Path, task: str, n: int, *environments: Environment) -> Workspace:
    made = small(task, folder, n=n)
    workspace = Workspace(folder / "run")
    level = {item.id: 1 + row % 5 for row, item in enumerate(made.judged.items)}
    evaluate(workspace, Matrix((made.bundle,), environments, {task: TaskItems(made.judged, None, level)}))
    _plan(workspace, made.bundle, environments, made.judged, level)
    return workspace


def _plan(
    workspace: Workspace, bundle: Bundle, environments: tuple[Environment, ...], data: Dataset, level: dict[str, int]
) -> None:
    source = DataSource(source="d")
    plan = RunPlan(
        command="check",
        tasks=(TaskPlan(name=bundle.task, data=source, items=data.digest()),),
        bundles=(bundle,),
        environments=environments,
        deployments=("skipping",) if any(each.name == "skipping" for each in environments) else (),
    )
    workspace.write_plan(plan)
    n = len(data)
    columns: dict[str, list[Any]] = {
        "id": [item.id for item in data.items],
        "task": [bundle.task] * n,
        "split": ["test"] * n,
        "label": [item.label for item in data.items],
        "group": [None] * n,
        **{name: [None] * n for name in ("b", "a", "c", "se_b", "level_abs", "proportion_correct", "chance")},
        "level": [level[item.id] for item in data.items],
    }
    write_items(workspace.items_path, pa.table({name: columns[name] for name in ITEM_SCHEMA.names}), ())


def _cell(workspace: Workspace, task: str, name: str) -> tuple[CellInfo, Records]:
    found = workspace.read_cell(task, name)
    assert found is not None
    return found


def test_services_are_evaluated_and_judged(small: Callable[..., Any], tmp_path: Path) -> None:
    workspace = _run(small, tmp_path, "vision", 120, *ENVIRONMENTS)
    summary = judge(workspace)
    assert summary == judge(workspace)
    cells = {cell["environment"]: cell for cell in summary["cells"]}
    info, records = _cell(workspace, "vision", "default")
    assert info.service is not None
    assert info.service.fallbacks == (records.status == "fallback").sum() > 20
    share = cells["default"]["fallback_share"]
    assert share["all"]["estimate"] == pytest.approx(info.service.fallbacks / 120)
    assert share["3"]["low"] < share["3"]["estimate"] < share["3"]["high"]
    assert cells["default"]["no_answer_share"]["all"]["estimate"] == 0
    assert cells["default"]["service"] == info.service.model_dump()
    assert f"{share['all']['estimate']:.1%} came from a fallback" in cells["default"]["remarks"][-1]
    assert cells["skipping"]["no_answer_share"]["all"]["estimate"] > 0.2
    assert cells["skipping"]["verdict"] != "PASS"
    assert "got no answer" in cells["skipping"]["reason"]
    assert cells["stale"]["fallback_share"]["all"]["estimate"] == 0
    assert "were stale" in cells["stale"]["remarks"][-1]
    assert "; median " in cells["slow"]["remarks"][-1]
    assert cells["rare"]["status"] == "not_applicable"
    assert cells["rare"]["fallback_share"] is None
    assert (
        "service.error_rate = 1e-09: 120 requests for these items, and every one gets its own answer"
        in cells["rare"]["reason"]
    )


@pytest.mark.parametrize("task", ["text", "spans", "audio", "control"])
def test_services_stand_before_every_domain(small: Callable[..., Any], tmp_path: Path, task: str) -> None:
    workspace = _run(small, tmp_path, task, 20, *ENVIRONMENTS[:4])
    for environment in ENVIRONMENTS[:4]:
        info, records = _cell(workspace, task, environment.name)
        assert (info.status, info.reason) == ("ok", "")
        assert info.service is not None
        word = "no_answer" if environment.name == "skipping" and task != "control" else "fallback"
        assert set(records.status.tolist()) <= {"ok", word}
        assert (word in records.status) == (environment.name != "stale")
        assert task == "control" or info.service.requests == 20
        assert np.isin(records.correct, (0, 1)).all()
    if task == "control":
        cells = {cell["environment"]: cell for cell in judge(workspace)["cells"]}
        assert "of the episodes met a fallback" in cells["default"]["remarks"][-1]
        assert "readings from a service" in cells["stale"]["remarks"][-1]


def test_a_service_in_vain_beside_something_else_is_said(small: Callable[..., Any], tmp_path: Path) -> None:
    both = Environment(
        name="both", kind="stress", summary="s", deviations={"service.error_rate": 1e-9, "runtime.batch_size": 1}
    )
    info, _ = _cell(_run(small, tmp_path, "vision", 6, both), "vision", "both")
    assert info.status == "ok"
    assert info.reason == "its service changes no item: 6 requests for these items, and every one gets its own answer"


def test_an_answer_that_was_never_given_is_never_right(small: Callable[..., Any], tmp_path: Path) -> None:
    workspace = _run(small, tmp_path, "vision", 40, ENVIRONMENTS[0])
    info, records = _cell(workspace, "vision", "skipping")
    workspace.write_cell(info, replace(records, correct=np.ones(40)))
    cell = next(cell for cell in judge(workspace)["cells"] if cell["environment"] == "skipping")
    assert cell["verdict"] == "ERROR"
    assert "items are unscored" in cell["reason"]
