"""``gapshift check`` on somebody's own texts: one TSV file with a header."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gapshift.cli import main
from gapshift.domains.base import Text
from gapshift.domains.open import open_dataset


def test_a_model_is_checked_on_a_tsv_of_texts(small_study: Path, tmp_path: Path) -> None:
    sentiment = open_dataset("sentiment")
    lines = ["text\tlabel\tlevel"]
    for index, item in enumerate(sentiment.items[:100]):
        raw = sentiment.raw(index)
        assert isinstance(raw, Text)
        lines.append(f"{raw.first}\t{sentiment.classes[item.label]}\t{index % 5 + 1}")
    data = tmp_path / "own.tsv"
    data.write_text("\n".join(lines) + "\n", encoding="utf-8")
    model = next(iter(sorted((small_study / "bundles").glob("*.onnx"))))
    with pytest.raises(SystemExit) as stopped:
        main(["check", str(model), "--data", str(data), "-e", "int8-dynamic", "--out", str(tmp_path / "run")])
    assert stopped.value.code in (1, 3)  # a hundred items certify nothing
    (cell,) = json.loads((tmp_path / "run/summary.json").read_text(encoding="utf-8"))["cells"]
    assert (cell["environment"], cell["status"], cell["gated"]) == ("int8-dynamic", "ok", True)
