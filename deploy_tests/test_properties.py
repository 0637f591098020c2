"""What has to hold of any model: tried on its reference session, and between the cells that the run has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from gapshift.deploy_tests.findings import HARM, ORDER, Subject, findings_of, planned_subjects
from gapshift.deploy_tests.results import GapshiftRun
from gapshift.deploy_tests.state import cells_of, settings_of
from gapshift.deploy_tests.subject import GapshiftModel
from gapshift.errors import GapshiftError, NotApplicableError, SkippedError

if TYPE_CHECKING:
    from gapshift.deploy_tests.probe import Probe
    from gapshift.deploy_tests.settings import Limits
    from gapshift.domains.base import Dataset
    from gapshift.reports.properties import Finding

pytestmark = pytest.mark.gapshift


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test per bundle and environment, or corruption, that the run plans and a property is about."""
    for kind, name in ((ORDER, "ordered"), (HARM, "harmed")):
        if name in metafunc.fixturenames:
            cells = cells_of(metafunc.config)
            subjects = [each for each in planned_subjects(settings_of(metafunc.config), cells) if each[0] == kind]
            several = len({bundle for bundle, _ in cells}) > 1
            ids = [f"{bundle}-" * several + subject for _, bundle, subject in subjects]
            metafunc.parametrize(name, subjects, ids=ids)


@pytest.fixture(scope="session")
def limits(request: pytest.FixtureRequest) -> Limits:
    """What the properties demand."""
    return settings_of(request.config).properties


@pytest.fixture(scope="session")
def probe(gapshift_model: GapshiftModel, gapshift_items: Dataset, limits: Limits) -> Iterator[Probe]:
    """The model's reference session with some of its items."""
    from gapshift.deploy_tests.probe import probing

    with ExitStack() as stack:
        opened, problem = None, ""
        try:
            opened = stack.enter_context(
                probing(gapshift_model.path, gapshift_model.contract, gapshift_items, tolerance=limits.tolerance)
            )
        except GapshiftError as error:
            problem = str(error)
        if opened is None:
            pytest.fail(problem, pytrace=False)
        yield opened


@pytest.fixture(scope="session")
def findings(request: pytest.FixtureRequest, gapshift_run: GapshiftRun) -> Mapping[Subject, Finding]:
    """What the run's records say of the properties between its cells."""
    return findings_of(gapshift_run, settings_of(request.config))


# ---------------------------------------------------------------------- of the model itself


def test_batch_invariance(probe: Probe, limits: Limits) -> None:
    """An item is answered as it is alone, whoever shares its batch."""
    from gapshift.deploy_tests.properties import batch_invariance

    _holds(batch_invariance, probe, limits)


def test_order_invariance(probe: Probe, limits: Limits) -> None:
    """Items in another order get the same answers in that order."""
    from gapshift.deploy_tests.properties import order_invariance

    _holds(order_invariance, probe, limits)


def test_finite_outputs(probe: Probe, limits: Limits, request: pytest.FixtureRequest) -> None:
    """Finite inputs of the data's size, and up to ten times it, give finite outputs; how far beyond is recorded."""
    from gapshift.deploy_tests.properties import finite_outputs, finite_up_to

    if (reached := finite_up_to(probe)) is not None:
        request.node.user_properties.append(("finite_up_to_scale", reached))
    _holds(finite_outputs, probe, limits)


def test_denormal_inputs(probe: Probe, limits: Limits) -> None:
    """Inputs too small for a normal number are answered as zeros are."""
    from gapshift.deploy_tests.properties import denormal_inputs

    _holds(denormal_inputs, probe, limits)


def test_flush_to_zero(probe: Probe, limits: Limits) -> None:
    """Flushing denormal numbers to zero, as many servers do, changes no answer."""
    from gapshift.deploy_tests.properties import flush_to_zero

    _holds(flush_to_zero, probe, limits)


def _holds(claim: Callable[[Probe, Limits], None], probe: Probe, limits: Limits) -> None:
    problem = ""
    try:
        claim(probe, limits)
    except (NotApplicableError, SkippedError) as error:
        pytest.skip(str(error))
    except GapshiftError as error:
        problem = f"It could not be tried: {error}"
    except AssertionError as error:
        problem = str(error)
    if problem:
        pytest.fail(problem, pytrace=False)


# --------------------------------------------------------------------- between the run's cells


def test_confidence_order(
    ordered: Subject, findings: Mapping[Subject, Finding], request: pytest.FixtureRequest
) -> None:
    """Where the number format is deployed, what the reference is clearly surer of stays what the model is surer of."""
    found = findings[ordered]
    _record(request, found)
    if found.outcome == "violated" and not found.gated:
        pytest.skip(f"reported, not gated: {found.reason}")
    _judged(found)


def test_monotone_harm(harmed: Subject, findings: Mapping[Subject, Finding], request: pytest.FixtureRequest) -> None:
    """More of a corruption does not make the model better."""
    found = findings[harmed]
    _record(request, found)
    _judged(found)


def _record(request: pytest.FixtureRequest, found: Finding) -> None:
    numbers = {"outcome": found.outcome, "reason": found.reason, **found.numbers}
    request.node.user_properties.extend(numbers.items())


def _judged(found: Finding) -> None:
    if found.outcome == "unjudged":
        pytest.skip(found.reason)
    if found.outcome != "holds":
        pytest.fail(found.reason, pytrace=False)
