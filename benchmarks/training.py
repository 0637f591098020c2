"""How fast networks train: ``fit`` per regime against a bare loop, and where a whole study's time goes.

    python benchmarks/training.py [--device auto|cpu|cuda] [--study FILE] [--quick] [--json]

The bare loop has the same network, data, batches, layout, number format and optimiser, and nothing
else: no schedule, no record of the losses, no look at them, no checkpoints. A ratio of 1 means that
``fit`` costs nothing on top. Every repeat trains all regimes and the bare loop in turn, with the order
rotated; a ratio is taken within a repeat, and its median and range are printed. On the CPU the loops are
timed in CPU-seconds of one thread, which neighbours disturb less than wall time; on CUDA in wall time
between synchronisations, under bfloat16 autocast, with the data on the device.

Measured on one core of a busy shared two-core machine (x86-64, AVX-512) on 2026-11-21, one run of
``--quick`` (20 steps, 3 repeats), width 16, batch 64; the five regimes' median ratios, least to most:

===========================  ============  =============
network                      ratio         items/s (iid)
===========================  ============  =============
cnn, 16x16 grey              1.016-1.083           9,248
cnn, 32x32 colour            0.982-1.058           7,833
text-transformer, 24 tokens  0.963-1.004          25,035
lstm, 24 tokens              0.972-0.989          41,919
audio-cnn, 40 mels x 81      1.005-1.013          27,749
controller, window 4 x 4     0.969-0.974          45,896
===========================  ============  =============

Above 1 is noise and, for large inputs, index_select, by which ``fit`` gathers rows (4 times faster than indexing).
The small study, whole, took 179 s once at a load of about 7: calibrate 27%, train 26%, export 43%, the rest 5%.
Not measured on CUDA yet.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import resource
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from gapshift.flows.reporting import ConsoleReporter
from gapshift.flows.study import save_settings, study
from gapshift.flows.study_settings import StudySettings, read_study
from gapshift.settings import validate
from gapshift.train.data import choose_device, intra_op_threads
from gapshift.train.loop import fit
from gapshift.train.models import ModelSpec, build_spec
from gapshift.train.regimes import sampler
from gapshift.train.settings import TrainingSettings
from gapshift.train.sources import Tensors
from gapshift.workspace import Workspace

REGIMES = ("easy-only", "hard-only", "curriculum", "random", "iid")
AIM = 0.95
"""The least share of the bare loop's speed that ``fit`` should have."""
ITEMS = 2_000

SMALL_STUDY = """
name = "benchmark"

[tasks.digits]
data = { source = "digits", train_fraction = 0.4 }
preprocessing = { color = "L", mean = [0.3], std = [0.35], resize = { size = [16, 16] } }

[training]
width = 8
steps = 150

[calibration.ladder]
capacities = [8, 16]
epochs = 3.0

[evaluation]
environments = ["onnxruntime-unoptimized", "int8-dynamic", "resize-nearest"]
"""
"""Four regimes, three seeds and their ``iid`` controls on scikit-learn's digits, with their responders."""


@dataclass(frozen=True)
class Case:
    """A network and what it is trained on."""

    name: str
    spec: ModelSpec

    def data(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Inputs (ITEMS, *shape) and classes (ITEMS,), random: speed does not ask what they mean."""
        generator = torch.Generator().manual_seed(0)
        shape = (ITEMS, *self.spec.shape)
        inputs = (
            torch.randint(1, self.spec.vocabulary, shape, generator=generator)
            if self.spec.vocabulary
            else torch.randn(shape, generator=generator)
        )
        classes = torch.randint(0, self.spec.classes, (ITEMS,), generator=generator)
        return inputs.to(device), classes.to(device)


def _case(name: str, family: str, shape: tuple[int, ...], classes: int, vocabulary: int = 0) -> Case:
    return Case(name, ModelSpec(family=family, shape=shape, classes=classes, width=16, vocabulary=vocabulary))


CASES = (
    _case("cnn, 16x16 grey", "cnn", (1, 16, 16), 10),
    _case("cnn, 32x32 colour", "cnn", (3, 32, 32), 10),
    _case("text-transformer, 24 tokens", "text-transformer", (24,), 2, 300),
    _case("lstm, 24 tokens", "lstm", (24,), 2, 300),
    _case("audio-cnn, 40 mels x 81", "audio-cnn", (40, 81), 10),
    _case("controller, window 4 x 4", "controller", (4, 4), 2),
)


@dataclass(frozen=True)
class Budget:
    """How much is measured: steps a training, repeats, items a batch."""

    steps: int = 100
    repeats: int = 7
    batch: int = 64


QUICK = Budget(steps=20, repeats=3)


@dataclass(frozen=True)
class Speed:
    """One regime of one case: items/s of ``fit`` (median), and its ratio to the bare loop's (median, least, most)."""

    case: str
    regime: str
    items_per_second: float
    ratio: float
    least: float
    most: float
    repeats: int


# ----------------------------------------------------------------------------------- loops


def speeds(case: Case, device: torch.device, budget: Budget) -> list[Speed]:
    """Every regime of one case against the bare loop."""
    inputs, classes = case.data(device)
    config = TrainingSettings(
        family=case.spec.family, width=case.spec.width, steps=budget.steps, batch_size=budget.batch
    )
    levels = np.arange(ITEMS) % 5 + 1
    draws = {
        name: sampler(name, levels, steps=budget.steps, batch=budget.batch, seed=0, open_by=config.curriculum_open_by)
        for name in REGIMES
    }
    loops: dict[str, Callable[[], object]] = {"bare": lambda: _bare(case, inputs, classes, draws["iid"], config)}
    for name in REGIMES:
        loops[name] = _fitting(case, Tensors(inputs, classes), draws[name], config, device)
    seconds = _in_turn(loops, device, budget.repeats)
    return [_speed(case.name, name, seconds, budget) for name in REGIMES]


def _fitting(
    case: Case, source: Tensors, draws: NDArray[np.int64], config: TrainingSettings, device: torch.device
) -> Callable[[], object]:
    return lambda: fit(build_spec(case.spec), source, draws, config, device.type)


def _bare(case: Case, inputs: Tensor, classes: Tensor, draws: NDArray[np.int64], config: TrainingSettings) -> None:
    device = inputs.device
    model = build_spec(case.spec).to(device).train()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stub
    # Two groups, as weight decay is usually kept from norms and biases: the optimiser's cost goes by groups.
    parameters = list(model.parameters())
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim >= 2]},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
    for rows in torch.from_numpy(draws).to(device):
        batch = inputs[rows]
        if batch.ndim == 4:
            batch = batch.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cuda", torch.bfloat16, enabled=device.type == "cuda"):
            outputs = model(batch)
        loss = F.cross_entropy(outputs.float(), classes[rows])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()


def _in_turn(
    loops: Mapping[str, Callable[[], object]], device: torch.device, repeats: int
) -> dict[str, NDArray[np.float64]]:
    """Seconds of each loop in each repeat, after one unmeasured round; each repeat begins with another loop."""
    names = list(loops)
    seconds = {name: np.zeros(repeats) for name in names}
    with intra_op_threads(1):
        for name in names:
            loops[name]()
        for repeat in range(repeats):
            first = repeat % len(names)
            for name in names[first:] + names[:first]:
                seconds[name][repeat] = _timed(loops[name], device)
    return seconds


def _timed(loop: Callable[[], object], device: torch.device) -> float:
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    start = clock()
    loop()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def _speed(case: str, regime: str, seconds: Mapping[str, NDArray[np.float64]], budget: Budget) -> Speed:
    ratios = seconds["bare"] / seconds[regime]
    items = budget.steps * budget.batch / float(np.median(seconds[regime]))
    return Speed(
        case, regime, items, float(np.median(ratios)), float(ratios.min()), float(ratios.max()), budget.repeats
    )


# ----------------------------------------------------------------------------------- study


@dataclass(frozen=True)
class StudyTime:
    """A whole study: its wall time in seconds, and that of each stage in the order of the journal.

    ``other`` is what no stage has: reading and preparing the data, planning, the lock.
    """

    name: str
    seconds: float
    stages: dict[str, float]

    def share(self, stage: str) -> float:
        """Of the wall time, in [0, 1]."""
        return self.stages[stage] / self.seconds


def timed_study(settings: StudySettings, folder: Path) -> StudyTime:
    """Run the study in the new ``folder``; the stages' times are those of its journal."""
    workspace = Workspace(folder)
    start = time.perf_counter()
    save_settings(workspace, settings)
    study(workspace, ConsoleReporter(sys.stderr))
    seconds = time.perf_counter() - start
    events = [event for event in workspace.journal() if event["event"] == "timing"]
    stages = {event["stage"]: event["seconds"] for event in events}
    return StudyTime(settings.name, seconds, {**stages, "other": seconds - sum(stages.values())})


def small_study() -> StudySettings:
    """The study that is timed unless another is named."""
    return validate(StudySettings, tomllib.loads(SMALL_STUDY), "the benchmark's study")


# ---------------------------------------------------------------------------------- memory


def peak_memory(device: torch.device) -> dict[str, float]:
    """MiB: the process's highest resident set so far and, on CUDA, the most that torch had allocated."""
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss counts bytes there, KiB elsewhere
    found = {"process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20}
    if device.type == "cuda":
        found["device"] = torch.cuda.max_memory_allocated() / 2**20
    return found


def machine(device: torch.device) -> dict[str, str]:
    """What was measured on, and when (UTC)."""
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {platform.machine()}, one thread"
    capability = torch.backends.cpu.get_cpu_capability() if device.type == "cpu" else "bfloat16 autocast"
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {"device": name, "arithmetic": capability, "torch": torch.__version__, "date": date}


# ---------------------------------------------------------------------------------- output


def measure(device: torch.device, budget: Budget, cases: Sequence[Case], tell: Callable[[str], None]) -> dict[str, Any]:
    """The loops' figures, told line by line as they come and returned as plain data."""
    about = machine(device)
    tell(", ".join(about.values()))
    found: list[Speed] = []
    for case in cases:
        found += speeds(case, device, budget)
        for line in _lines(case.name, found[-len(REGIMES) :], budget):
            tell(line)
    memory = peak_memory(device)
    tell("peak memory of the loops, MiB: " + ", ".join(f"{name} {size:.0f}" for name, size in memory.items()))
    return {"machine": about, "speeds": [asdict(speed) for speed in found], "loop_memory_mib": memory}


def _lines(case: str, found: Sequence[Speed], budget: Budget) -> Iterator[str]:
    yield f"\n{case}, batch {budget.batch}, {budget.steps} steps: items/s of fit, ratio to the bare loop [range]"
    for speed in found:
        verdict = "within" if speed.ratio >= AIM else "BELOW"
        yield (
            f"  {speed.regime:<11} {speed.items_per_second:10,.0f}  {speed.ratio:.3f} "
            f"[{speed.least:.3f}, {speed.most:.3f}]  ({speed.repeats} repeats, {verdict} the aim of {AIM})"
        )


def _study_figures(settings: StudySettings, device: torch.device, tell: Callable[[str], None]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        timed = timed_study(settings, Path(folder) / "run")
    memory = peak_memory(device)
    tell(f"\nstudy {timed.name!r}, whole, once: {timed.seconds:.1f} s")
    for stage, seconds in timed.stages.items():
        tell(f"  {stage:<10} {seconds:7.1f} s  {timed.share(stage):6.1%}")
    tell("peak memory with the study, MiB: " + ", ".join(f"{name} {size:.0f}" for name, size in memory.items()))
    return {"study": asdict(timed), "memory_mib": memory}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda, for the loops; a study takes auto")
    parser.add_argument("--study", type=Path, metavar="FILE", help="time this study instead of the small one")
    parser.add_argument("--quick", action="store_true", help="fewer steps and repeats, no study unless one is named")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    options = parser.parse_args(arguments)
    tell = (lambda _line: None) if options.json else (lambda line: print(line, flush=True))
    device = choose_device(options.device)
    found = measure(device, QUICK if options.quick else Budget(), CASES, tell)
    if options.study or not options.quick:
        settings = read_study(options.study) if options.study else small_study()
        found |= _study_figures(settings, device, tell)
    if options.json:
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
