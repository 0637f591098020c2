"""Several networks at once: order, threads, failures."""

from __future__ import annotations

import threading
import weakref
from contextlib import closing

import pytest
import torch

from gapshift.train.models import ModelSpec, build_spec
from gapshift.train.pool import default_workers, in_parallel


def test_results_come_in_the_order_of_the_tasks_and_tasks_run_together() -> None:
    met = threading.Barrier(2, timeout=20)  # passed only where two tasks are under way at once

    def task(value: int) -> int:
        met.wait()
        return value

    assert list(in_parallel([lambda v=v: task(v) for v in range(6)], workers=2)) == [0, 1, 2, 3, 4, 5]
    assert list(in_parallel([], workers=2)) == []


def test_each_task_has_one_torch_thread_and_the_caller_gets_his_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert list(in_parallel([torch.get_num_threads] * 3, workers=2)) == [1, 1, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_result_that_was_taken_is_let_go_of() -> None:
    class Answers:
        """Something that a weak reference can point to."""

    results = in_parallel([Answers] * 3, workers=1)
    first = weakref.ref(next(results))
    next(results)
    assert first() is None
    results.close()


def test_an_exception_comes_in_its_turn_and_drops_the_tasks_behind_it() -> None:
    begun: list[int] = []

    def task(value: int) -> int:
        begun.append(value)
        if value == 1:
            raise ZeroDivisionError("one")
        return value

    results = in_parallel([lambda v=v: task(v) for v in range(50)], workers=1)
    assert next(results) == 0
    with pytest.raises(ZeroDivisionError, match="one"):
        next(results)
    assert begun == [0, 1]
    assert next(results, None) is None


def test_closing_early_drops_what_has_not_begun() -> None:
    go_on, begun = threading.Event(), list[int]()

    def task(value: int) -> int:
        begun.append(value)
        if value:
            go_on.wait(20)
        return value

    with closing(in_parallel([lambda v=v: task(v) for v in range(9)], workers=1)) as results:
        assert next(results) == 0
        threading.Timer(0.05, go_on.set).start()
    assert begun in ([0], [0, 1])  # the second may be under way: it is waited for


def test_networks_built_together_are_those_built_one_by_one() -> None:
    def network(seed: int) -> bytes:
        model = build_spec(ModelSpec(family="cnn", shape=(1, 8, 8), classes=3, width=8), seed=seed)
        return b"".join(value.numpy().tobytes() for value in model.state_dict().values())

    before = torch.random.get_rng_state()
    together = list(in_parallel([lambda s=s: network(s) for s in range(24)], workers=4))
    assert together == [network(seed) for seed in range(24)]
    assert torch.equal(before, torch.random.get_rng_state())


def test_workers_follow_the_cores_and_cuda_gets_one() -> None:
    assert default_workers("cpu") >= 1
    assert default_workers("cuda") == 1
