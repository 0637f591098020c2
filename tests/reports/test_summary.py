"""summary.json on disk."""

import json
import math

import pytest

from gapshift.reports.judge import judge
from gapshift.reports.summary import summary_path, write_summary


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
    assert json.loads(path.read_text(encoding="utf-8")) == summary


def test_not_a_number_is_refused_and_leaves_the_old_file(judged):
    workspace, summary = judged
    path = write_summary(workspace, summary)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_summary(workspace, summary | {"alpha": math.nan})
    assert json.loads(path.read_text(encoding="utf-8")) == summary
