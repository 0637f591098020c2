"""summary.json on disk."""

import json
import math

import pytest

from gapshift.errors import WorkspaceError
from gapshift.reports.judge import judge
from gapshift.reports.summary import read_summary, summary_path, summary_text, write_summary


@pytest.fixture
def judged(builder):
    builder.environment("off")
    builder.cell("reference", builder.answers())
    builder.cell("off", builder.answers())
    workspace = builder.finish()
    return workspace, judge(workspace)


def test_written_and_read_again(judged):
    workspace, summary = judged
    path = write_summary(workspace, summary)
    assert path == summary_path(workspace)
    assert read_summary(workspace) == summary == json.loads(path.read_text())


def test_not_a_number_is_refused_and_leaves_the_old_file(judged):
    workspace, summary = judged
    write_summary(workspace, summary)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_summary(workspace, summary | {"alpha": math.nan})
    assert read_summary(workspace) == summary


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"verdict": "FINE"}, "verdict 'FINE'; valid: 1, and PASS, FAIL, INCONCLUSIVE, ERROR, NO DATA"),
        ({"schema_version": 9}, "schema version 9"),
    ],
)
def test_unknown_words_are_refused(judged, change, text):
    workspace, summary = judged
    write_summary(workspace, summary | change)
    with pytest.raises(WorkspaceError, match=text):
        read_summary(workspace)


@pytest.mark.parametrize("text", ["", "[]", "{}", summary_text({"verdict": "PASS"})])
def test_what_is_no_summary_is_refused_with_the_next_step(judged, text):
    workspace, _ = judged
    summary_path(workspace).write_text(text)
    with pytest.raises(WorkspaceError, match="Make it again with `gapshift report"):
        read_summary(workspace)


def test_none_there_is_refused(judged):
    with pytest.raises(WorkspaceError, match="Cannot read"):
        read_summary(judged[0])
