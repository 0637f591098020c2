"""Several networks at once."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import TypeVar

import torch

from gapshift.train.data import intra_op_threads

T = TypeVar("T")


def in_parallel(tasks: Sequence[Callable[[], T]], workers: int | None = None) -> Generator[T, None, None]:
    """What each task returns, in the tasks' order, as soon as it and all before it are done.

    Tasks run on ``workers`` threads (None: ``default_workers()``) with one torch thread
    each: small networks gain more from a neighbour than from a second thread, and their
    results depend neither on the number of workers nor on that of cores. After a task's
    exception no other begins, and it is raised in its turn. When the iterator is closed
    early, tasks that have not begun are dropped and those under way are waited for; close
    it where it may be left early (``contextlib.closing``), since it holds torch's thread
    count until it ends.
    """
    failed = threading.Event()

    def run(task: Callable[[], T]) -> T:
        if failed.is_set():
            raise CancelledError  # nobody sees it: tasks begin in order, so the failure comes first
        try:
            return task()
        except BaseException:
            failed.set()
            raise

    with intra_op_threads(1):
        pool = ThreadPoolExecutor(default_workers() if workers is None else workers)
        try:
            futures = deque(pool.submit(run, task) for task in tasks)
            while futures:
                yield futures.popleft().result()  # let go of: hundreds of networks and their answers fill the memory
        finally:
            pool.shutdown(cancel_futures=True)


def default_workers(device: str = "auto") -> int:
    """One for every core that this process may use; one in all where networks run on CUDA and share it."""
    if device == "cuda" or (device == "auto" and torch.cuda.is_available()):
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
