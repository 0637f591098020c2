"""Does the gate find what is planted, and how often does it cry wolf? Known faults through evaluation and judge.

    python benchmarks/detection.py [one-level|faults] [--run RUN]... [--seeds N] [--items N,...] [--quick] [--json]

Without ``--run`` a small study is trained first. Its models answer the judged items once in every faulty environment;
then each seed draws an evaluation set from these answers (items of each level, with replacement), the model it is of
(in turn) and the requests that meet the fault. The set is written as a run folder and judged by the gate's own rule.

**one-level**: answers at level 5 that were right are made wrong with a probability that costs the margin and 0 to 5 pp
more, on top of a conversion's churn with its direction drawn anew, so that nothing else is lost. The measured rate of
FAIL stands beside the one that ``gapshift plan`` reckons with; and the same with nothing planted.

**faults**: fault × strength × level. *Detected* is said in three ways. FAIL: the gate proves a drop beyond the margin.
Not PASS: it does not certify the margin. Change: mid-p McNemar at 0.05 says that right and wrong answers are not
exchanged evenly. What is planted, and how much of it, was fixed before anything was measured.
"""

from __future__ import annotations

import argparse
import colorsys
import datetime
import json
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from detection_faults import NOTHING, faults
from detection_level import one_level
from detection_sets import Size, tasks_of

from gapshift.domains.open import open_dataset
from gapshift.envs.machine import fingerprint, versions
from gapshift.flows.reporting import ConsoleReporter
from gapshift.flows.study import save_settings, study
from gapshift.flows.study_settings import StudySettings
from gapshift.settings import validate
from gapshift.workspace import Workspace

QUICK = Size(seeds=4, whole=2, items=(200,))
REGIME = "random"
"""Faults are planted in models of this regime, where a run has several: the usual way to train."""
PARTS = {"one-level": (one_level, ""), "faults": (faults, REGIME)}

STUDY = """
name = "detection"
regimes = ["random"]

[tasks.digits]
data = { source = "digits", train_fraction = 0.4 }
preprocessing = { color = "L", mean = [0.3], std = [0.35], resize = { size = [16, 16] } }

[tasks.painted]
data = { source = "painted.npz", train_fraction = 0.4 }
preprocessing = { mean = [0.6], std = [0.3], resize = { size = [16, 16] } }

[tasks.sentiment]
domain = "text"
data = { source = "sentiment", train_fraction = 0.6, train_per_class = 1000, test_per_class = 600 }

[tasks.keywords]
domain = "audio"
data = { source = "keywords", train_fraction = 0.5, test_per_class = 150 }
preprocessing = { duration = 0.8 }

[tasks.cartpole]
domain = "control"
data = { source = "cartpole", train_fraction = 0.45 }

[training]
width = 16
steps = 300

[evaluation]
environments = ["onnxruntime-unoptimized"]
"""
"""Five tasks, one regime, three seeds. Painted digits have an ink whose hue hints at the digit: colour to lose."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Plant, judge, and print tables and one line of JSON (``--json``: that line alone)."""
    options = _options(arguments)
    size = QUICK if options.quick else Size(options.seeds, options.whole, options.items)
    parts = [options.part] if options.part else list(PARTS)
    found: dict[str, list[dict[str, Any]]] = {part: [] for part in PARTS}
    with tempfile.TemporaryDirectory() as place:
        runs = options.run or [trained(options.study or Path(place) / "study")]
        for part in parts:
            for run in runs:
                found[part] += _planted(part, run, options.task, size, Path(place))
    if not options.json:
        for line in (*_level_lines(found["one-level"]), *_fault_lines(found["faults"])):
            print(line)
    about = {"machine": fingerprint() | versions("onnxruntime", "numpy", "gapshift"), "size": asdict(size)}
    print(json.dumps(found | about | {"date": datetime.datetime.now(datetime.UTC).date().isoformat()}))


def _planted(part: str, run: Path, only: Sequence[str] | None, size: Size, place: Path) -> Iterator[dict[str, Any]]:
    """The rows of every task of a run."""
    plant, regime = PARTS[part]
    for task in tasks_of(run, regime):
        if only is None or task.name in only:
            print(f"{part}: {task.name}", file=sys.stderr)
            yield from plant(task, size, Path(tempfile.mkdtemp(dir=place)))


def trained(folder: Path) -> Path:
    """The benchmark's own study, finished in ``folder``; one that is there goes on where it stopped."""
    workspace = Workspace(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paint(folder / "painted.npz")
    tree = tomllib.loads(STUDY)
    tree["tasks"]["painted"]["data"]["source"] = str((folder / "painted.npz").resolve())
    save_settings(workspace, validate(StudySettings, tree, "the benchmark's study"))
    study(workspace, ConsoleReporter(sys.stderr))
    return folder


def paint(path: Path, seed: int = 0) -> None:
    """scikit-learn's digits in coloured ink on white: the hue is the digit's tenth of the circle, give or take one."""
    digits, rng = open_dataset("digits"), np.random.default_rng(seed)
    images = []
    for index, item in enumerate(digits.items):
        ink = 1.0 - np.asarray(colorsys.hsv_to_rgb((item.label / 10 + rng.normal(0.0, 0.1)) % 1.0, 1.0, 1.0))
        raw = np.asarray(digits.raw(index), dtype=np.float64).reshape(8, 8, 1) / 255
        images.append(255 * (1.0 - raw * ink))
    labels = np.array([item.label for item in digits.items])
    np.savez(path, images=np.rint(images).astype(np.uint8), labels=labels)


# ---------------------------------------------------------------------------------------- output


def _level_lines(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for task in found:
        if "left_out" in task:
            yield f"\n{task['task']}: {task['left_out']}"
            continue
        yield (
            f"\n{task['task']}: a drop at level 5 alone, {task['items']} items there, margin {task['margin_pp']:g} pp, "
            f"{task['family']} tests, planted in {len(task['planted_in'])} of {task['models']} models in turn\n"
        )
        yield from _table(
            ("beyond the margin", "seeds", "FAIL: predicted", "measured", "not PASS: predicted", "measured", "named"),
            [
                (
                    f"{row['excess_pp']:g} pp",
                    row["seeds"],
                    f"{row['predicted_fail']:.1%}",
                    _share(row["fail"]),
                    f"{row['predicted_not_pass']:.1%}",
                    _share(row["not_pass"]),
                    f"{row['level_5_named']}, another level {row['another_level_fails']}",
                )
                for row in task["curve"]
            ],
        )
        yield f"\nthe whole run, all {task['models']} models, through `judge`\n"
        yield from _table(
            ("planted", "seeds", "FAIL: predicted", "measured", "not PASS: predicted", "measured", "named"),
            [_whole(row, task["stated"]) for row in task["whole"]],
        )


def _whole(row: Mapping[str, Any], stated: Mapping[str, Any]) -> tuple[object, ...]:
    if row["excess_pp"] is None:
        planted, fail, not_pass, named = "nothing", _share(stated["false_fail"]), _share(stated["not_pass"]), ""
    else:
        planted, fail, not_pass = f"margin + {row['excess_pp']:g} pp", f"{row['predicted_fail']:.1%}", ""
        named = row["level_5_named"]
    return planted, row["seeds"], fail, _share(row["fail"]), not_pass, _share(row["not_pass"]), named


def _fault_lines(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    rows = [row for row in found if "left_out" not in row]
    levels = [f"level {level}" for level in range(1, 6)]
    for items in dict.fromkeys(row["items"] for row in rows):
        own = [row for row in rows if row["items"] == items]
        planted = [row for row in own if row["fault"] != NOTHING]
        yield f"\n{items or 'all'} items a level: FAIL · not PASS · change, % of {own[0]['seeds']} seeds\n"
        yield from _table((*_WHAT, *levels, "cell", "FAIL of 240"), [_detected(row) for row in planted])
        yield f"\nmean drop over the seeds, pp ({items or 'all'} items a level)\n"
        yield from _table((*_WHAT, *levels, "all"), [_cost(row) for row in planted])
        yield f"\nfalse alarms of a cell ({items or 'all'} items a level)\n"
        head = ("task", "nothing planted", "FAIL", "FAIL of 240", "not PASS", "change", "any answer changed")
        yield from _table(head, [_alarm(row) for row in own if row["fault"] == NOTHING])
    for row in found:
        if "left_out" in row:
            yield f"left out: {row['fault']} ({row['strength']}) in {row['task']}: {row['left_out']}"


_WHAT = ("task", "planted", "strength")


def _detected(row: Mapping[str, Any]) -> tuple[str, ...]:
    levels = (_three(row["levels"].get(key)) for key in (*"12345", "cell"))
    return row["task"], row["fault"], row["strength"], *levels, f"{100 * row['fail_in_wide_family']['estimate']:.0f}"


def _alarm(row: Mapping[str, Any]) -> tuple[str, ...]:
    cell = row["levels"]["cell"]
    seen = (cell["fail"], row["fail_in_wide_family"], cell["not_pass"], cell["change"], cell["any_change"])
    return row["task"], row["strength"], *map(_share, seen)


def _three(level: Mapping[str, Any] | None) -> str:
    """FAIL, not PASS and change of a level; nothing of one without items."""
    names = ("fail", "not_pass", "change") if level else ()
    return " · ".join(f"{100 * level[name]['estimate']:.0f}" for name in names) if level else ""


def _cost(row: Mapping[str, Any]) -> tuple[str, ...]:
    drops = (row["levels"].get(key) for key in (*"12345", "cell"))
    return row["task"], row["fault"], row["strength"], *("" if d is None else f"{d['drop_pp']:.1f}" for d in drops)


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    for row in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(map(str, row))} |"


def _share(rate: Mapping[str, float] | None) -> str:
    """A rate with its Monte Carlo interval."""
    return "none" if rate is None else f"{rate['estimate']:.1%} ({rate['low']:.1%}–{rate['high']:.1%})"


def _items(text: str) -> tuple[int | None, ...]:
    """Numbers of items a level; ``all``: as many as it has."""
    return tuple(None if word == "all" else int(word) for word in text.split(","))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=tuple(PARTS), help="one part alone")
    parser.add_argument("--run", type=Path, action="append", metavar="RUN", help="a finished run; repeatable")
    parser.add_argument("--study", type=Path, metavar="FOLDER", help="where the own study is kept (else: nowhere)")
    parser.add_argument("--task", action="append", metavar="NAME", help="a task of the runs alone; repeatable")
    parser.add_argument("--seeds", type=int, default=Size().seeds, help="of each rate (%(default)s)")
    parser.add_argument("--whole", type=int, default=Size().whole, help="of a whole run with a drop (%(default)s)")
    parser.add_argument("--items", type=_items, default=Size().items, metavar="N,...", help="a level; all: its own")
    parser.add_argument("--quick", action="store_true", help="4 seeds, 200 items")
    parser.add_argument("--json", action="store_true", help="print the last line alone")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
