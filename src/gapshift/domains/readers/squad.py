"""SQuAD v1.1 (Rajpurkar et al., 2016) as its JSON files: questions answered by a span of a paragraph."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gapshift.domains.base import Dataset, InMemory, Text
from gapshift.domains.readers.reader import Reader
from gapshift.errors import DataError
from gapshift.schema import OUTCOMES, Item

_FILES = {"train-v1.1.json": "train", "dev-v1.1.json": "validation"}


def read_squad(source: Path) -> Dataset:
    """Every question with its paragraph and accepted answers; ids are SQuAD's own.

    ``source`` is one file or the folder of both. A paragraph's group is its article and a
    digest of its text, the same in every file. Raises DataError for a file that is cut short
    or of another version, and for an answer that does not stand at its ``answer_start``.
    """
    files = [source] if source.is_file() else [source / name for name in _FILES if (source / name).is_file()]
    items: list[Item] = []
    texts: list[Text] = []
    for path in files:
        for title, paragraph in _paragraphs(path):
            context = _entry(path, paragraph, "context", str)
            group = f"{title}/{hashlib.sha256(context.encode()).hexdigest()[:16]}"
            for question in _entry(path, paragraph, "qas", list):
                item_id = str(_entry(path, question, "id", str))
                items.append(Item(id=item_id, label=1, split=_FILES.get(path.name, "all"), group=group))
                texts.append(_text(path, item_id, question, context))
    return InMemory("squad-v1.1", OUTCOMES, items, texts, "text", "spans")


def _paragraphs(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    content = _load(path)
    version = str(content.get("version", "1.1"))
    if version != "1.1":
        raise DataError(f"{path} is SQuAD version {version!r}. Valid: 1.1, in which every question has an answer.")
    for article in _entry(path, content, "data", list):
        for paragraph in _entry(path, article, "paragraphs", list):
            yield str(article.get("title", "")), paragraph


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no whole JSON file ({error}). It may be cut short: get it again.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a {type(content).__name__}, not SQuAD's object with version and data.")
    return content


def _entry(path: Path, node: Any, key: str, kind: type) -> Any:
    value = node.get(key) if isinstance(node, dict) else None
    if not isinstance(value, kind):
        near = f" (id {node['id']!r})" if isinstance(node, dict) and "id" in node else ""
        raise DataError(f"{path}: an entry{near} has no {key!r} that is a {kind.__name__}. Give the file as published.")
    return value


def _text(path: Path, item_id: str, question: dict[str, Any], context: str) -> Text:
    answers = _entry(path, question, "answers", list)
    if not answers:
        raise DataError(f"{path}: question {item_id!r} has no answer. SQuAD v1.1 answers every question.")
    for answer in answers:
        text, start = _entry(path, answer, "text", str), _entry(path, answer, "answer_start", int)
        if not text or start < 0 or context[start : start + len(text)] != text:
            raise DataError(
                f"{path}: question {item_id!r}: the answer {text!r} does not stand at answer_start {start}; there is "
                f"{context[max(start, 0) : max(start, 0) + len(text)]!r}. Correct the file or get it again."
            )
    accepted = tuple(dict.fromkeys(str(answer["text"]) for answer in answers))
    return Text(str(_entry(path, question, "question", str)), context, accepted, int(answers[0]["answer_start"]))


def _is_squad(source: str) -> bool:
    path = Path(source)
    if path.is_dir():
        return any((path / name).is_file() for name in _FILES)
    return path.suffix.lower() == ".json" and path.is_file()


READER = Reader(
    name="SQuAD",
    layout="SQuAD v1.1's JSON file, or a folder with train-v1.1.json and dev-v1.1.json",
    accepts=_is_squad,
    read=lambda source, _: read_squad(Path(source)),
)
