"""GLUE's tasks (Wang et al., 2018) as its TSV files: SST-2, MRPC, QQP, MNLI, QNLI, RTE and CoLA.

A folder is told by its files' headers; CoLA has none, but four columns. Nothing is quoted:
a tab parts columns, a line feed parts rows, and quotation marks are text. ``train.tsv`` is the
split train, ``dev.tsv`` (MNLI: ``dev_matched.tsv``) validation, and ``test.tsv`` test where it
has labels. GLUE publishes it without, and then it is left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gapshift.domains.base import Dataset, InMemory, Text, listed, listed_classes
from gapshift.domains.readers.labels import resolve_labels
from gapshift.domains.readers.reader import Reader
from gapshift.errors import DataError
from gapshift.schema import Item


@dataclass(frozen=True, slots=True)
class Task:
    """One task's columns. ``words[i]`` is how its files write class ``names[i]``.

    ``shared`` is the column that several items have in common (a premise); it groups them.
    ``broken`` is how many short lines its published file is known to have (questions with a
    line feed inside); so many are left out, more are an error.
    """

    name: str
    first: str
    second: str | None
    label: str
    words: tuple[str, ...]
    names: tuple[str, ...]
    shared: str | None = None
    broken: int = 0

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns of the texts."""
        return (self.first,) if self.second is None else (self.first, self.second)


_NO_YES = ("0", "1")
_ENTAILMENT = ("entailment", "not_entailment")
_NLI = ("entailment", "neutral", "contradiction")
TASKS = (
    Task("sst-2", "sentence", None, "label", _NO_YES, ("negative", "positive")),
    Task("mrpc", "#1 String", "#2 String", "Quality", _NO_YES, ("not_equivalent", "equivalent")),
    Task("qqp", "question1", "question2", "is_duplicate", _NO_YES, ("not_duplicate", "duplicate"), broken=10),
    Task("mnli", "sentence1", "sentence2", "gold_label", _NLI, _NLI, shared="sentence1"),
    Task("qnli", "question", "sentence", "label", _ENTAILMENT, _ENTAILMENT, shared="question"),
    Task("rte", "sentence1", "sentence2", "label", _ENTAILMENT, _ENTAILMENT, shared="sentence1"),
    Task("cola", "sentence", None, "label", _NO_YES, ("unacceptable", "acceptable")),
)
_COLA = TASKS[-1]
_COLA_COLUMNS = ("source", "label", "mark", "sentence")
_FILES = {
    "train.tsv": "train",
    "dev.tsv": "validation",
    "dev_matched.tsv": "validation",
    "test.tsv": "test",
}


@dataclass(frozen=True, slots=True)
class _Rows:
    """One file's rows: its place, split, and per row the line's number and its cells by column."""

    path: Path
    split: str
    rows: list[tuple[int, dict[str, str]]]


def read_glue(root: Path, labels: Sequence[str] | None = None, task: str | None = None) -> Dataset:
    """The labelled rows of a task's folder; ids ``train/00017`` count rows from 0.

    ``labels`` are the names of the task's classes or the words of its files, in a model's
    order. Raises DataError for a header of no task or of another one than ``task``, a line
    cut short (with its number), an unknown label, and splits with different sets of labels.
    """
    found = _task_of(root)
    if task is not None and found.name != task:
        raise DataError(f"{root} holds the files of {found.name}, not of {task}. Give the folder of {task}.")
    files = [rows for name, split in _FILES.items() if (rows := _rows(root / name, split, found)) is not None]
    if not files:
        raise DataError(f"{root} holds no labelled TSV file of {found.name}. Give train.tsv or dev.tsv as published.")
    for rows in files:
        _check_labels(rows, found)
    _check_same_labels(files, found)
    return _dataset(files, found, labels)


def left_out(root: Path) -> list[str]:
    """What of a task's folder is not read, in words: rows of a known defect, files without labels."""
    task = _task_of(root)
    notes = []
    for name in _FILES:
        path = root / name
        if path.is_file() and _columns(path, task) is None:
            notes.append(f"{name} has no labels and is left out")
        elif path.is_file() and (short := sum(1 for _ in _short_lines(path, task))):
            notes.append(f"{short} lines of {name} are cut short, a known defect of the published file, and left out")
    return notes


def _dataset(files: Sequence[_Rows], task: Task, labels: Sequence[str] | None) -> Dataset:
    ids, splits, words, places, texts, groups = [], [], [], [], [], []
    for rows in files:
        for number, (line, cells) in enumerate(rows.rows):
            ids.append(f"{rows.split}/{number:05d}")
            splits.append(rows.split)
            words.append(cells[task.label])
            places.append(f"{rows.path}, line {line}")
            texts.append(Text(cells[task.first], cells[task.second] if task.second else None))
            groups.append(_group(cells[task.shared]) if task.shared else None)
    classes, indexes = resolve_labels(_named(words, task, labels), labels or task.names, lambda row: places[row])
    items = [
        Item(id=item_id, label=int(index), split=split, group=group)
        for item_id, index, split, group in zip(ids, indexes, splits, groups, strict=True)
    ]
    return InMemory(task.name, classes, items, texts, "text")


def _named(words: Sequence[str], task: Task, labels: Sequence[str] | None) -> list[str]:
    """The classes' names; the files' own words where a model's labels do not have the names."""
    if labels is not None and not set(task.names) <= set(labels):
        return list(words)
    name = dict(zip(task.words, task.names, strict=True))
    return [name[word] for word in words]


def _group(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# ------------------------------------------------------------------------------ files


def _task_of(root: Path) -> Task:
    """The task whose labelled header a file of the folder has."""
    for name in _FILES:
        path = root / name
        if path.is_file() and (task := _task_by_header(_header(path))) is not None:
            return task
    present = next(root / name for name in _FILES if (root / name).is_file())
    raise DataError(
        f"{present}: the header {listed(_header(present))} is of no GLUE task. Valid: "
        + "; ".join(f"{task.name} ({', '.join((*task.texts, task.label))})" for task in TASKS[:-1])
        + "; cola (no header, four columns)."
    )


def _task_by_header(header: Sequence[str]) -> Task | None:
    for task in sorted(TASKS[:-1], key=lambda task: -len(task.texts)):  # qnli has sst-2's columns too
        if {*task.texts, task.label} <= set(header):
            return task
    return _COLA if len(header) == len(_COLA_COLUMNS) and header[1] in _COLA.words else None


def _columns(path: Path, task: Task) -> tuple[str, ...] | None:
    """The file's columns; None where it has no labels, which only test files may lack."""
    header = _header(path)
    if task is _COLA and len(header) == len(_COLA_COLUMNS) and header[1] in _COLA.words:
        return _COLA_COLUMNS
    if task is not _COLA and {*task.texts, task.label} <= set(header):
        return tuple(header)
    if path.name == "test.tsv" and set(task.texts) <= set(header):
        return None
    wanted = _COLA_COLUMNS if task is _COLA else (*task.texts, task.label)
    raise DataError(f"{path}: the header is {listed(header)}; {task.name} needs the columns {listed(wanted)}.")


def _header(path: Path) -> list[str]:
    with path.open("rb") as file:
        first = file.readline()
    if not first.strip():
        raise DataError(f"{path} is empty. Give the file as published.")
    return _text(path, first).rstrip("\r\n").split("\t")


def _rows(path: Path, split: str, task: Task) -> _Rows | None:
    if not path.is_file() or (columns := _columns(path, task)) is None:
        return None
    rows = []
    broken = 0
    for number, cells in _lines(path, task):
        if len(cells) == len(columns):
            rows.append((number, dict(zip(columns, cells, strict=True))))
            continue
        broken += 1
        if broken > task.broken or len(cells) > len(columns):
            raise DataError(
                f"{path}, line {number} has {len(cells)} columns; {task.name} has {len(columns)} "
                f"({', '.join(columns)}). The file is cut short or damaged: get it again as published."
            )
    if not rows:
        raise DataError(f"{path} holds no rows below its header. Give the file as published.")
    return _Rows(path, split, rows)


def _short_lines(path: Path, task: Task) -> Iterator[int]:
    columns = _columns(path, task) or ()
    return (number for number, cells in _lines(path, task) if len(cells) < len(columns))


def _lines(path: Path, task: Task) -> Iterator[tuple[int, list[str]]]:
    """Line numbers from 1 and cells, below the header. Line feeds alone part rows."""
    lines = _text(path, path.read_bytes()).split("\n")
    if not lines[-1]:
        lines.pop()
    skipped = 0 if task is _COLA else 1
    return ((number, line.rstrip("\r").split("\t")) for number, line in enumerate(lines[skipped:], skipped + 1))


def _text(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text: byte {error.start} is {content[error.start]:#04x}.") from error


def _check_labels(rows: _Rows, task: Task) -> None:
    for line, cells in rows.rows:
        if cells[task.label] not in task.words:
            raise DataError(
                f"{rows.path}, line {line}, column {task.label}: label {cells[task.label]!r} is none of "
                f"{task.name}'s. Valid: {listed_classes(task.words)}."
            )


def _check_same_labels(files: Sequence[_Rows], task: Task) -> None:
    """A split without one of the other's labels cannot be compared with it."""
    first, *others = [(rows, {cells[task.label] for _, cells in rows.rows}) for rows in files]
    for rows, words in others:
        if words != first[1]:
            raise DataError(
                f"{rows.path} holds the labels {listed(sorted(words))}, {first[0].path} {listed(sorted(first[1]))}. "
                "Splits need the same set of labels: give both files as published."
            )


READER = Reader(
    name="GLUE",
    layout="a folder with train.tsv, dev.tsv or test.tsv of SST-2, MRPC, QQP, MNLI, QNLI, RTE or CoLA",
    accepts=lambda source: any((Path(source) / name).is_file() for name in _FILES),
    read=lambda source, labels: read_glue(Path(source), labels),
)
