"""How fast ``evaluate`` answers against a bare loop of ``session.run``, and how its memory grows with the items.

    python benchmarks/evaluate.py [--items N] [--repeats N] [--memory N,N,...] [--quick] [--json]

**Speed.** The bare loop has a session with the reference's settings and all prepared batches in memory, and keeps
nothing but the scores. ``evaluate`` runs the same batches through as many cells as the loop makes passes: it
checks what each environment changes, reads the inputs from its file, opens the sessions, finds out what really runs,
and writes records. Preparing the inputs is timed apart, since the loop gets them prepared. Both run in this process
in alternating pairs, the order swapped each time; a ratio is taken within a pair, and the median and range are printed.
A ratio of 1 means that ``evaluate`` costs nothing on top.

**Memory.** Each size runs in processes of its own: one that only loops, with nothing but NumPy and ONNX Runtime,
reading one batch at a time, and one that evaluates. What is compared is the highest resident memory (Linux: ``VmHWM``,
which unlike ``ru_maxrss`` begins anew in a child); the items are generated as they are read.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from gapshift.domains.base import Dataset, RawImage
from gapshift.envs.cells import TaskItems
from gapshift.envs.machine import fingerprint, versions
from gapshift.envs.prepare import Preparer
from gapshift.envs.runner import Matrix, evaluate
from gapshift.export.model_file import sha256
from gapshift.schema import Bundle, Contract, Environment, Item, ModelInterface, Preprocessing, Resize, Runtime
from gapshift.workspace import Workspace

AIM = 0.95
"""The least share of the bare loop's speed that ``evaluate`` should have."""
MEMORY_AIM_MIB = 100
"""The most memory above the bare loop's that ``evaluate`` should need."""
CELLS = 4
"""Cells that share their preprocessing: the reference, under several names."""
SIDE, CLASSES, BATCH = 32, 10, Runtime().batch_size
WIDTHS = (24, 64)
"""Of the networks that are timed: the image study's own, and one of the usual cost of a small deployed CNN. The ratio
that is reported first is the latter's; what evaluating costs an item is the same for both."""
QUICK: tuple[int, int, tuple[int, ...]] = (2_000, 3, (1_000, 5_000))
"""Items, repeats and memory's sizes of ``--quick``."""
CONTRACT = Contract(
    preprocessing=Preprocessing(resize=Resize(size=(SIDE, SIDE)), mean=(0.5,), std=(0.25,)),
    model=ModelInterface(input="input", output="logits", labels=tuple("abcdefghij")),
)


@final
class Generated(Dataset):
    """Images (32, 32, 3) that are made as they are read: what memory they take is not the data's."""

    def __init__(self, count: int) -> None:
        super().__init__("generated", CONTRACT.model.labels, [Item(f"{n:06d}", n % CLASSES) for n in range(count)])
        self._pool = np.random.default_rng(0).integers(0, 256, (64, SIDE, SIDE, 3), dtype=np.uint8)

    @property
    def encoded(self) -> bool:
        return False

    def _raw(self, index: int) -> RawImage:
        image: RawImage = np.roll(self._pool[index % 64], index // 64, axis=1)
        return image


@dataclass(frozen=True)
class Speed:
    """Items a second of both, and their ratio in each pair: median, least and most. ``seconds`` are those of
    evaluate's steps, all cells, a mean."""

    width: int
    items: int
    cells: int
    bare: float
    evaluate: float
    ratio: float
    least: float
    most: float
    seconds: dict[str, float]


@dataclass(frozen=True)
class Memory:
    """The highest resident memory (MiB) of a process that loops and of one that evaluates."""

    items: int
    bare_mib: float
    evaluate_mib: float

    @property
    def above_mib(self) -> float:
        """What evaluating needs beyond looping."""
        return self.evaluate_mib - self.bare_mib


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print tables and one line of JSON (``--json``: that line alone)."""
    options = _options(arguments)
    if options.child:
        _child(options.child, options.items, options.width, Path(options.model))
        return
    with tempfile.TemporaryDirectory() as folder:
        models = {width: Path(folder) / f"model-{width}.onnx" for width in WIDTHS}
        for width, model in models.items():
            command = [sys.executable, __file__, "--child", "model", "--width", str(width), "--model", str(model)]
            subprocess.run(command, check=True)
        speeds = [measure_speed(width, models[width], options.items, options.repeats) for width in WIDTHS]
        memory = [measure_memory(models[WIDTHS[0]], size) for size in options.memory]
    if not options.json:
        _print(speeds, memory)
    found = {
        "ratio": round(speeds[-1].ratio, 4),
        "speeds": [asdict(speed) for speed in speeds],
        "memory": [asdict(size) | {"above_mib": round(size.above_mib, 1)} for size in memory],
        "machine": fingerprint() | versions("onnxruntime", "numpy", "gapshift"),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    print(json.dumps(found))


# ------------------------------------------------------------------------------ speed


def measure_speed(width: int, model: Path, items: int, repeats: int) -> Speed:
    """Alternating pairs of the bare loop and ``evaluate``."""
    data, session, folder = Generated(items), _session(model), model.with_suffix("")
    data.digest()  # a run's data is hashed once, however many cells it has
    with Preparer(data, folder / "prepared", CONTRACT.preprocessing) as preparer:
        tensor = preparer.prepared(CONTRACT.preprocessing).tensor[:]
    batches = [tensor[start : start + BATCH] for start in range(0, items, BATCH)]
    runs: dict[str, Callable[[], tuple[float, dict[str, float]]]] = {
        "bare": lambda: _loop(session, batches),
        "evaluate": lambda: _evaluate(model, data, folder / "run"),
    }
    _pair(runs, 0)  # warms up
    pairs, spent = [], Counter[str]()
    for repeat in range(repeats):
        seconds, steps = _pair(runs, repeat)
        pairs.append(seconds)
        spent.update(steps)
    return _speed(width, items, pairs, {step: round(seconds / repeats, 4) for step, seconds in spent.items()})


def _pair(
    runs: dict[str, Callable[[], tuple[float, dict[str, float]]]], repeat: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of each run, in turn, and the steps of ``evaluate``."""
    found = {name: runs[name]() for name in sorted(runs, reverse=repeat % 2 == 1)}
    return {name: seconds for name, (seconds, _) in found.items()}, found["evaluate"][1]


def _speed(width: int, items: int, pairs: Sequence[dict[str, float]], spent: dict[str, float]) -> Speed:
    ratios = [pair["bare"] / pair["evaluate"] for pair in pairs]
    rates = {name: items * CELLS / statistics.median(pair[name] for pair in pairs) for name in ("bare", "evaluate")}
    return Speed(
        width,
        items,
        CELLS,
        **rates,
        ratio=statistics.median(ratios),
        least=min(ratios),
        most=max(ratios),
        seconds=spent,
    )


def _loop(session: Any, batches: Sequence[NDArray[np.float32]]) -> tuple[float, dict[str, float]]:
    """Seconds of as many passes as there are cells."""
    began = time.perf_counter()
    for _ in range(CELLS):
        np.concatenate([session.run(None, {"input": batch})[0] for batch in batches])
    return time.perf_counter() - began, {}


def _evaluate(model: Path, data: Dataset, folder: Path) -> tuple[float, dict[str, float]]:
    """Seconds of a whole run without those of preparing, and of its steps by the run's own journal."""
    shutil.rmtree(folder, ignore_errors=True)
    workspace = Workspace(folder)
    began = time.perf_counter()
    evaluate(workspace, _matrix(model, data), debug=True)
    total = time.perf_counter() - began
    events = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    cells = [event for event in events if event["event"] == "cell"]
    assert [cell["status"] for cell in cells] == ["ok"] * CELLS, cells
    steps = Counter[str]()
    for cell in cells:
        steps.update(cell["seconds"])
    between = total - steps.total()
    inference = sum(workspace.read_cell(cell["bundle"], cell["environment"])[0].seconds for cell in cells)
    return total - steps["prepare"], {**steps, "of answer: inference": inference, "between cells": between}


def _session(model: Path) -> Any:
    """Settings of the reference."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = Runtime().intra_op_threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def _matrix(model: Path, data: Dataset) -> Matrix:
    bundle = Bundle(name="model", path=str(model), sha256=sha256(model), contract=CONTRACT)
    environments = tuple(Environment(name=f"again-{n}", kind="equivalent", summary="") for n in range(1, CELLS))
    return Matrix(bundles=(bundle,), environments=environments, tasks={"task": TaskItems(data)})


# ----------------------------------------------------------------------------- memory

_BARE = f"""
import re, sys
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
scores = []
with open(sys.argv[2], "rb") as file:
    while len(batch := np.fromfile(file, np.float32, {BATCH} * 3 * {SIDE} * {SIDE})):
        scores.append(session.run(None, {{"input": batch.reshape(-1, 3, {SIDE}, {SIDE})}})[0])
print(re.search("VmHWM:\\\\s+([0-9]+)", open("/proc/self/status").read())[1])
"""


def measure_memory(model: Path, items: int) -> Memory:
    """The highest resident memory of a process each."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows"
        with rows.open("wb") as file:
            file.truncate(items * 3 * SIDE * SIDE * 4)  # zeros: memory does not ask what they are
        bare = _peak([sys.executable, "-c", _BARE, str(model), str(rows)])
    ours = _peak([sys.executable, __file__, "--child", "evaluate", "--items", str(items), "--model", str(model)])
    return Memory(items, bare, ours)


def _peak(command: list[str]) -> float:
    """MiB, from the KiB that a child process prints last."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1]) / 1024


def _child(kind: str, items: int, width: int, model: Path) -> None:
    """What runs in a process of its own: making the model (torch is large), or evaluating."""
    if kind == "model":
        write_model(model, width)
        return
    with tempfile.TemporaryDirectory() as folder:
        evaluate(Workspace(Path(folder) / "run"), _matrix(model, Generated(items)), debug=True)
    peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert peak is not None
    print(peak[1])


def write_model(path: Path, width: int) -> None:
    """A convolutional network of this project's own family, with random weights."""
    import torch

    from gapshift.export.torch_onnx import to_onnx
    from gapshift.train.models import ModelSpec, build_spec

    shape = (3, SIDE, SIDE)
    spec = ModelSpec(family="cnn", shape=shape, classes=CLASSES, width=width)
    to_onnx(build_spec(spec, seed=0), torch.zeros(1, *shape), path)


# ----------------------------------------------------------------------------- output


def _print(speeds: Sequence[Speed], memory: Sequence[Memory]) -> None:
    for speed in speeds:
        print(f"CNN of width {speed.width}, {speed.items:,} items, {speed.cells} cells, batches of {BATCH}: items/s")
        print(f"  bare loop {speed.bare:>10,.0f}\n  evaluate  {speed.evaluate:>10,.0f}")
        print(f"  ratio     {speed.ratio:>10.3f}  ({speed.least:.3f} to {speed.most:.3f}; aim {AIM})")
        print("  seconds of evaluate's steps, all cells, mean of the repeats")
        for step, seconds in sorted(speed.seconds.items(), key=lambda entry: -entry[1]):
            print(f"    {step:<22} {seconds:8.3f}")
    print(f"highest resident memory, MiB (aim: at most {MEMORY_AIM_MIB} above, and flat)")
    for size in memory:
        print(
            f"  {size.items:>8,} items: bare loop {size.bare_mib:6.0f}, evaluate {size.evaluate_mib:6.0f}, "
            f"above {size.above_mib:6.0f}"
        )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory", type=_sizes, default=(1_000, 10_000, 50_000), metavar="N,N,...")
    parser.add_argument("--quick", action="store_true", help="2,000 items, 3 repeats, memory at 1,000 and 5,000")
    parser.add_argument("--json", action="store_true", help="print the last line alone")
    parser.add_argument("--child", choices=("model", "evaluate"), help=argparse.SUPPRESS)
    parser.add_argument("--width", type=int, default=WIDTHS[0], help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.quick:
        options.items, options.repeats, options.memory = QUICK
    return options


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(size) for size in text.split(","))


if __name__ == "__main__":
    main()
