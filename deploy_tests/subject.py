"""The model that is tested and the items that judge it, for tests that look at more than the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from gapshift.deploy_tests.results import GapshiftRun
    from gapshift.domains.base import Dataset
    from gapshift.schema import Bundle, Contract


@final
@dataclass(frozen=True, eq=False)
class GapshiftModel:
    """One of the run's models: what the fixture ``gapshift_model`` gives. ``path`` is its ONNX file."""

    bundle: Bundle
    path: Path

    @property
    def name(self) -> str:
        return self.bundle.name

    @property
    def contract(self) -> Contract:
        return self.bundle.contract


def model_of(run: GapshiftRun, name: str | None = None) -> GapshiftModel:
    """A model of the run; without a name the only one, or the first. Raises WorkspaceError."""
    from gapshift.workspace import Workspace

    workspace = Workspace(run.folder)
    bundles = {bundle.name: bundle for bundle in workspace.read_plan().bundles}
    bundle = bundles[name if name is not None else run.bundles[0]]
    return GapshiftModel(bundle, workspace.bundle_path(bundle.path))


def items_of(run: GapshiftRun, model: GapshiftModel) -> Dataset:
    """The items that judge a model. Raises DataError where the run's data is gone, WorkspaceError."""
    from gapshift.flows.again import only, with_items
    from gapshift.workspace import Workspace

    workspace = Workspace(run.folder)
    _, sets = with_items(only(workspace.read_plan(), (model.name,)), workspace)
    return sets[model.bundle.task].judged
