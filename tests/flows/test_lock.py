"""A run's lock, and its repetition."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from gapshift.cli import main
from gapshift.errors import SettingsError, WorkspaceError
from gapshift.flows.lock import BOUND_PP, compare_locks
from gapshift.flows.study import reproduce

Lock = dict[str, Any]


def _lock(run: Path) -> Lock:
    found: Lock = json.loads((run / "lock.json").read_text(encoding="utf-8"))
    return found


def _run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    out, err = capsys.readouterr()
    return int(stopped.value.code or 0), out, err


@pytest.fixture(scope="module")
def repeated(small_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small study again, by the command line, with no responders from before."""
    folder = tmp_path_factory.mktemp("repeated")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("GAPSHIFT_CACHE", str(folder / "cache"))
        with pytest.raises(SystemExit) as stopped:
            main(["study", "--reproduce", str(small_study), "--out", str(folder / "again")])
    assert stopped.value.code == 0
    return folder / "again"


def test_a_lock_holds_what_the_result_depends_on_and_the_result(small_study: Path) -> None:
    lock = _lock(small_study)
    assert lock["settings"] == json.loads((small_study / "study.json").read_text(encoding="utf-8"))
    assert {"torch", "numpy", "onnxruntime", "gymnasium"} <= set(lock["versions"])
    assert {"device", "threads"} <= set(lock["machine"])
    assert set(lock["gapshift"]) == {"version", "commit"}
    assert set(lock["data"]) == {"words"}
    regimes = ("hard-only", "random", "iid")
    assert set(lock["models"]) == {f"words-gru-{regime}-s{seed}" for regime in regimes for seed in range(3)}
    assert set(lock["files"]) == {name for name in lock["models"] if "iid" not in name}
    assert all(0 <= model["accuracy"] <= 1 for model in lock["models"].values())


def test_a_repetition_on_the_cpu_with_one_thread_is_the_same_bit_for_bit(small_study: Path, repeated: Path) -> None:
    found = compare_locks(_lock(small_study), _lock(repeated))
    assert (found.identical, found.within_bounds, found.largest_pp, found.differences) == (True, True, 0.0, ())
    weights = [
        {path.name: json.loads(path.read_text(encoding="utf-8"))["weights"] for path in logs}
        for logs in ((run / "checkpoints").glob("*.json") for run in (small_study, repeated))
    ]
    assert weights[0] == weights[1]
    assert len(weights[0]) == 9


def test_data_that_was_published_elsewhere_is_in_the_lock_by_file(small_study: Path, four_study: Path) -> None:
    assert _lock(small_study)["data"]["words"]["files"] == {}  # generated: the package's version settles it
    assert set(_lock(four_study)["data"]) == {"digits", "sentiment", "keywords", "cartpole"}


def _version(lock: Lock) -> None:
    lock["versions"]["torch"] = "1.0"


def _commit(lock: Lock) -> None:
    lock["gapshift"]["commit"] = "0" * 40


def _data(lock: Lock) -> None:
    lock["data"]["words"]["items"] = "0" * 64


def _levels(lock: Lock) -> None:
    lock["levels"] = "0" * 64


def _answer(lock: Lock) -> None:
    lock["models"]["words-gru-random-s1"]["answers"] = "0" * 64


def _lost(lock: Lock) -> None:
    del lock["models"]["words-gru-random-s1"]


def _file(lock: Lock) -> None:
    lock["files"]["words-gru-random-s1"] = "0" * 64


def _settings(lock: Lock) -> None:
    lock["settings"]["training"]["steps"] = 13


@pytest.mark.parametrize(
    ("change", "identical", "within", "text"),
    [
        (_version, True, True, "versions.torch: '1.0' then"),
        (_commit, True, True, "gapshift.commit: '0000"),
        (_data, True, True, "data.words: {'items': '0000"),
        (_settings, True, True, "settings.training"),
        (_levels, False, True, "the levels of some items"),
        (_answer, False, True, "the answers of words-gru-random-s1, whose accuracy moved by 0.00 pp"),
        (_file, True, True, "the ONNX file of words-gru-random-s1"),
        (_lost, False, False, "the model words-gru-random-s1 is in one of the two alone"),
    ],
)
def test_what_differs_is_said(
    small_study: Path, change: Callable[[Lock], None], identical: bool, within: bool, text: str
) -> None:
    old = _lock(small_study)
    new = deepcopy(old)
    change(old)
    found = compare_locks(old, new)
    assert (found.identical, found.within_bounds) == (identical, within)
    assert len(found.differences) == 1
    assert found.differences[0].startswith(text)


@pytest.mark.parametrize(("moved_pp", "within"), [(BOUND_PP - 0.1, True), (BOUND_PP + 0.1, False)])
def test_accuracies_may_move_by_the_bound_and_no_more(small_study: Path, moved_pp: float, within: bool) -> None:
    old = _lock(small_study)
    new = deepcopy(old)
    new["models"]["words-gru-random-s1"] = {
        "answers": "other",
        "accuracy": old["models"]["words-gru-random-s1"]["accuracy"] + moved_pp / 100,
    }
    found = compare_locks(old, new)
    assert not found.identical
    assert found.within_bounds is within
    assert found.largest_pp == pytest.approx(moved_pp)


@pytest.mark.parametrize("accuracy", [float("nan"), None])
def test_an_accuracy_that_is_no_number_is_beyond_the_bound(small_study: Path, accuracy: float | None) -> None:
    old = _lock(small_study)
    new = deepcopy(old)
    old["models"]["words-gru-hard-only-s0"] = {"answers": "other", "accuracy": 0.5}
    new["models"]["words-gru-random-s1"] = {"answers": "other", "accuracy": accuracy}
    found = compare_locks(old, new)
    assert not found.within_bounds
    assert found.largest_pp is None
    assert "whose accuracy is no number in one of the two" in found.differences[-1]


def test_a_repetition_beyond_the_bound_exits_4(
    capsys: pytest.CaptureFixture[str], small_study: Path, repeated: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(small_study, run)
    lock = _lock(run)
    lock["models"]["words-gru-random-s1"] = {"answers": "other", "accuracy": 2.0}
    (run / "lock.json").write_text(json.dumps(lock), encoding="utf-8")
    code, out, _ = _run(capsys, "study", "--reproduce", str(run), "--out", str(repeated))
    assert code == 4
    lines = out.rstrip().splitlines()
    assert "BEYOND the stated bound of 3 pp" in lines[0]
    assert lines[-1] == lines[0]
    assert lines[1].startswith("  differs: ")
    assert "differs: the answers of words-gru-random-s1" in out


def test_json_of_a_repetition_ends_with_what_differs(
    capsys: pytest.CaptureFixture[str], small_study: Path, repeated: Path
) -> None:
    code, out, _ = _run(capsys, "study", "--reproduce", str(small_study), "--out", str(repeated), "--json")
    assert code == 0
    assert json.loads(out.splitlines()[-1])["repetition"] == {
        "identical": True,
        "within_bounds": True,
        "largest_pp": 0.0,
        "differences": [],
    }


def test_a_run_without_a_lock_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match=r"has no lock\.json: only finished studies have one"):
        reproduce(tmp_path, tmp_path / "again")


@pytest.mark.parametrize("text", ["no json", "[]", '{"schema_version": 9}', '{"schema_version": 1}'])
def test_a_lock_that_is_none_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "lock.json").write_text(text, encoding="utf-8")
    with pytest.raises((WorkspaceError, SettingsError), match=r"lock\.json"):
        reproduce(tmp_path, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_run_is_not_repeated_in_its_own_folder(small_study: Path) -> None:
    with pytest.raises(WorkspaceError, match=r"is the run that would be repeated\. Give another folder with --out"):
        reproduce(small_study, small_study)


def test_a_repetition_overwrites_nothing(small_study: Path, tiny_study: Path) -> None:
    with pytest.raises(WorkspaceError, match="holds a study with other settings"):
        reproduce(small_study, tiny_study)


def test_a_study_file_and_a_run_to_repeat_are_one_too_many(
    capsys: pytest.CaptureFixture[str], small_study: Path
) -> None:
    code, _, err = _run(capsys, "study", "study.toml", "--reproduce", str(small_study))
    assert code == 2
    assert "Give either a study file or --reproduce RUN" in err
