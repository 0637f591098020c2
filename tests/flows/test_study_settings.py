"""What a study file may not say: every text names the key, the value and what is valid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gapshift.errors import DataError, GapshiftError
from gapshift.flows.study import save_settings
from gapshift.flows.study_settings import read_study
from gapshift.workspace import Workspace

STUDY = """
name = "x"
{top}
[tasks.{task}]
domain = "text"
data = {{ source = "sentiment"{data} }}
{keys}
"""


def _file(folder: Path, *, top: str = "", task: str = "words", data: str = "", keys: str = "") -> Path:
    path = folder / "study.toml"
    path.write_text(STUDY.format(top=top, task=task, data=data, keys=keys), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({"keys": 'famlies = ["gru"]'}, r"tasks\.words\.famlies.*Did you mean 'tasks.words.families'"),
        ({"keys": 'families = ["cnn"]'}, r"families: Unknown model family 'cnn'.*gru.*lstm.*text-transformer"),
        ({"keys": "families = []"}, r"families: name at least one family.*\(got \[\]\)"),
        ({"keys": 'families = ["gru", "gru"]'}, r"families: .*'gru' twice"),
        ({"keys": "preprocessing = { resize = { size = [8, 8] } }"}, r"preprocessing.*resize.*max_length"),
        (
            {"keys": "preprocessing = { max_lenght = 9 }"},
            r"max_lenght.*Did you mean 'tasks\.words\.preprocessing\.max_length'",
        ),
        ({"keys": "preprocessing = { max_length = 1 }"}, r"max_length.*greater than or equal to 4"),
        ({"keys": "vocabulary_size = 3"}, r"vocabulary_size: .*greater than or equal to 10 \(got 3\)"),
        ({"keys": "training = { stepz = 3 }"}, r"tasks\.words.*training.*stepz.*Did you mean 'steps'"),
        ({"keys": "training = { steps = 0 }"}, r"tasks\.words.*training.*steps.*greater than or equal to 1"),
        ({"keys": "training = { steps = 0 }"}, r"equal to 1 \(got 0\)\.$"),
        ({"top": "training = { learning_rate = inf }"}, r"training\.learning_rate: .*finite number \(got inf\)"),
        ({"top": "training = { weight_decay = nan }"}, r"training\.weight_decay: .*"),
        ({"top": "training = { family = 'lstm' }"}, r"training\.family is not taken .*tasks\.words\.families"),
        ({"keys": "training = { family = 'lstm' }"}, r"training\.family is not taken .*tasks\.words\.families"),
        ({"keys": "training = { decay_fraction = 0.9 }"}, r"tasks\.words.*decay_fraction 0\.9"),
        ({"data": ", train_per_klass = 3"}, r"train_per_klass.*Did you mean 'tasks\.words\.data\.train_per_class'"),
        ({"task": "Words"}, r"tasks.*'Words' names files: lower-case letters"),
        ({"task": "'a--b'"}, r"tasks.*'a--b' names files.*single '-'"),
        ({"task": "'a/b'"}, r"tasks.*'a/b' names files"),
        ({"task": '"a\\n"'}, r"tasks.*'a\\n' names files"),
        ({"top": 'regimes = ["random", "random"]'}, r"regimes: .*'random' twice"),
        ({"top": "comparisons = { widths = [0] }"}, r"comparisons\.widths.*greater than or equal to 1 \(got 0\)"),
        ({"top": "comparisons = { widths = [8, 8] }"}, r"comparisons\.widths.* 8 twice"),
        ({"top": "comparisons = { shuffled = 1.5 }"}, r"comparisons\.shuffled.*less than or equal to 1 \(got 1\.5\)"),
        (
            {"top": "comparisons = { transfer = { wdth = 3 } }"},
            r"comparisons\.transfer\.wdth.*Did you mean 'comparisons\.transfer\.width'",
        ),
        ({"top": "comparisons = { control = true }"}, r"comparisons\.control.*Did you mean 'comparisons\.controls'"),
        ({"top": "calibration = { engine = 'irt' }"}, r"calibration\.engine.*'em'.*\(got 'irt'\)"),
    ],
)
def test_a_bad_key_or_value_is_named(tmp_path: Path, parts: dict[str, str], text: str) -> None:
    with pytest.raises(GapshiftError, match=f"(?s){text}"):
        read_study(_file(tmp_path, **parts))


def test_a_domain_that_does_not_exist_is_named_with_the_valid_ones(tmp_path: Path) -> None:
    path = _file(tmp_path)
    path.write_text(path.read_text(encoding="utf-8").replace('"text"', '"speech"'), encoding="utf-8")
    with pytest.raises(GapshiftError, match=r"tasks\.words\.domain: .*'vision', 'text', 'audio' or 'control'"):
        read_study(path)


def test_images_must_be_given_their_preprocessing(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    for line in ("", "preprocessing = {}\n"):
        path.write_text(f'name = "x"\n[tasks.digits]\n{line}data = {{ source = "digits" }}\n', encoding="utf-8")
        with pytest.raises(GapshiftError, match=r"tasks\.digits: preprocessing\.resize is missing") as caught:
            read_study(path)
        assert "`preprocessing = { resize = { size = [32, 32] } }`" in str(caught.value)
        assert '`domain = "text"`, `"audio"` or `"control"`' in str(caught.value)


def test_a_study_without_tasks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text('name = "x"\n', encoding="utf-8")
    with pytest.raises(GapshiftError, match="tasks"):
        read_study(path)


def test_data_of_another_domain_names_both(tmp_path: Path, small: Any) -> None:
    settings = small(tasks={"words": {"data": {"source": "keywords"}}})
    with pytest.raises(DataError, match=r"keywords holds data of domain 'audio' and the task says 'text'"):
        save_settings(Workspace(tmp_path / "run"), settings)
    assert not (tmp_path / "run").exists()


def test_a_task_may_train_otherwise_than_the_study(tmp_path: Path) -> None:
    settings = read_study(_file(tmp_path, keys="training = { steps = 7 }", top="training = { width = 9, steps = 5 }"))
    assert (settings.training_of("words").steps, settings.training_of("words").width) == (7, 9)


def test_published_data_is_looked_for_where_the_command_says(tmp_path: Path) -> None:
    path = _file(tmp_path)
    path.write_text(path.read_text(encoding="utf-8").replace('"sentiment"', '"sst-2"'), encoding="utf-8")
    assert read_study(path, tmp_path / "data").tasks["words"].data.root == str((tmp_path / "data").resolve())
    with pytest.raises(DataError, match="sst-2"):
        save_settings(Workspace(tmp_path / "run"), read_study(path, tmp_path / "data"))
