"""Composing environments of a family until one fails, and making that one as small as it gets.

hypothesis draws and shrinks (MacIver & Donaldson 2020, "Test-case reduction via test-case generation"); a last pass
goes through the members next below what it found, so that *smallest* is checked and not hoped for.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random

from hypothesis import HealthCheck, Phase, Verbosity, find, reject, settings
from hypothesis.errors import NoSuchExample, Unsatisfiable

from gapshift.errors import NotApplicableError, SettingsError
from gapshift.flows.composing import environments
from gapshift.reports.verdicts import JudgedCell
from gapshift.schema import Environment, listing
from gapshift.schema.family import Deviations, Family

Judge = Callable[[Environment], JudgedCell]
KEPT = 4
"""One in so many examples is kept for making a failing one smaller."""
_DRAWS = 20
"""hypothesis may draw so many times the examples: of a small family most draws are known already."""

_ASKED = 3
"""So many times the examples are asked at most, those that turn out to change no item among them."""


@dataclass(frozen=True)
class Smallest:
    """A failing environment. ``settled``: every member next below was judged or rejected, and none of them fails."""

    environment: Environment
    settled: bool


class _Stopped(BaseException):
    """Ends a search at once: hypothesis takes every other exception for a failure to be made smaller."""


class Search:
    """One search of a family. Each member is asked once, until ``examples`` of them have answered.

    ``resolve`` raises NotApplicableError for a member that contradicts itself or the contract; ``judge`` answers and
    judges any other. What was found stands in ``judged`` and ``rejected`` (name to reason), in the order of asking,
    and ``composed`` has the environments of both; ``alone`` are those that ``interactions`` left out.
    """

    def __init__(
        self,
        family: Family,
        resolve: Callable[[Environment], object],
        judge: Judge,
        examples: int,
        subsample: bool = False,
    ) -> None:
        self.family = family
        self.judged: dict[str, JudgedCell] = {}
        self.rejected: dict[str, str] = {}
        self.composed: dict[str, Environment] = {}
        self.alone: list[JudgedCell] = []
        self._resolve, self._judge = resolve, judge
        self._examples, self._subsample = examples, subsample
        self._kept = 0

    def run(self, seed: int, interactions: bool = False) -> Smallest | None:
        """The smallest failing member that was found; None where no member failed.

        With ``interactions`` every deviation is asked alone first, and those that fail alone leave the family. Raises
        SettingsError where these are more than the examples, or where nothing is left to compose.
        """
        if interactions:
            self._leave_out_what_fails_alone()
        self._kept = self._left // KEPT
        try:
            self._find(seed)
        except _Stopped as stopped:
            if stopped.__cause__ is not None:
                raise stopped.__cause__ from None
        failing = [cell.measured.environment for cell in self.failing()]
        return self._settle(min(failing, key=lambda each: self.family.size(each.deviations))) if failing else None

    def failing(self) -> list[JudgedCell]:
        """The members of the family that fail, in the order of asking."""
        return [cell for cell in self.judged.values() if _fails(cell) and cell not in self.alone]

    def below(self, found: Environment) -> list[JudgedCell]:
        """What was judged of the members that are a part of one, or the same with milder values; smaller ones first."""
        judged = [cell for cell in self.judged.values() if cell not in self.alone]
        within = [cell for cell in judged if self.family.is_below(_deviations(cell), found.deviations)]
        return sorted(within, key=lambda cell: self.family.size(_deviations(cell)))

    @property
    def _left(self) -> int:
        """How many more environments may be asked: those without answers are no tests, and are not unlimited either."""
        tests = sum(answered(cell) for cell in self.judged.values())
        return min(self._examples - tests, _ASKED * self._examples - len(self.judged))

    def _leave_out_what_fails_alone(self) -> None:
        members = [self.family.environment(each, self._subsample) for each in self.family.alone()]
        if len(members) + KEPT > self._examples:
            raise SettingsError(
                f"The family has {len(members)} deviations, which --interactions runs alone first, and only "
                f"{self._examples} environments may be judged. Give more --examples, or a smaller family."
            )
        for member in members:
            self._ask(member)
        self.alone = self.failing()
        gone = self.family.without(_deviations(cell) for cell in self.alone)
        if len(self.family.parts(gone)) < 2:
            names = ", ".join(listing(_deviations(cell)) for cell in self.alone)
            raise SettingsError(
                f"Too little of the family holds alone to be composed; these fail alone: {names}. Choose another one."
            )
        self.family = Family(deviations=gone, most=self.family.most)

    def _find(self, seed: int) -> None:
        how = settings(
            max_examples=_DRAWS * self._examples,
            database=None,
            deadline=None,
            derandomize=False,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
            verbosity=Verbosity.quiet,
        )
        with suppress(NoSuchExample, Unsatisfiable):
            find(environments(self.family, self._subsample), self._drawn, settings=how, random=Random(seed))

    def _drawn(self, environment: Environment) -> bool:
        """Whether a drawn member fails; one that cannot be is rejected."""
        try:
            if self._is_new(environment) and self._left <= (0 if self.failing() else self._kept):
                raise _Stopped
            cell = self._ask(environment)
        except Exception as error:
            raise _Stopped from error
        return _fails(cell) if cell is not None and answered(cell) else reject()

    def _is_new(self, environment: Environment) -> bool:
        """Whether the member can be and was not judged yet."""
        return environment.name not in self.judged and self._can_be(environment)

    def _can_be(self, environment: Environment) -> bool:
        if environment.name in self.rejected:
            return False
        self.composed[environment.name] = environment
        try:
            self._resolve(environment)
        except NotApplicableError as error:
            self.rejected[environment.name] = str(error)
        if (part := self._failing_alone(environment)) is not None:
            self.rejected[environment.name] = f"{listing(part)} fails alone"
        return environment.name not in self.rejected

    def _failing_alone(self, environment: Environment) -> Deviations | None:
        """A part of the member that fails alone and was left out for it."""
        alone = (_deviations(cell) for cell in self.alone)
        return next((part for part in alone if part.items() <= environment.deviations.items()), None)

    def _ask(self, environment: Environment) -> JudgedCell | None:
        """The member's verdict; None where it contradicts itself or the contract, or a part of it is left out."""
        if self._is_new(environment):
            self.judged[environment.name] = self._judge(environment)
        return None if self._failing_alone(environment) is not None else self.judged.get(environment.name)

    def _settle(self, found: Environment) -> Smallest:
        """Below what fails, down to a member below which nothing does, or to the last example."""
        below = [self.family.environment(each, self._subsample) for each in self.family.smaller(found.deviations)]
        for member in below:
            if self._is_new(member) and not self._left:
                return Smallest(found, settled=False)
            cell = self._ask(member)
            if cell is not None and _fails(cell):
                return self._settle(member)
        return Smallest(found, settled=True)


def answered(cell: JudgedCell) -> bool:
    """Whether the cell has answers: an environment that changes no item, say, has none."""
    return cell.measured.info is not None and cell.measured.info.status == "ok"


def _deviations(cell: JudgedCell) -> Deviations:
    return cell.measured.environment.deviations


def _fails(cell: JudgedCell) -> bool:
    return cell.verdict == "FAIL"
