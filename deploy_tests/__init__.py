"""The pytest suite and plugin that users run on their models: ``pytest deploy_tests --model M.onnx --data DIR``.

A suite of one's own imports ``assert_level_drop`` from here; the fixtures come with the plugin.
"""

from gapshift.deploy_tests.asserting import assert_level_drop
from gapshift.deploy_tests.results import GapshiftCell, GapshiftLevel, GapshiftRun
from gapshift.deploy_tests.words import InconclusiveWarning

__all__ = ["GapshiftCell", "GapshiftLevel", "GapshiftRun", "InconclusiveWarning", "assert_level_drop"]
