"""What notices: one test for each thing that a deployment logs.

Labels: the exact one-sided binomial test of the accuracy. Without labels, confidences (whole or rounded): the two-sided
z test of their mean; the predicted classes alone: the chi-square test of their frequencies, and an alarm at the first
answer that the reference never gives. The baseline is the reference on the judged items, taken as known.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from gapshift.reports.load import Bools, Floats
from gapshift.reports.statistics import monitoring
from gapshift.reports.statistics.monitoring import Integers
from gapshift.reports.streams import Stream
from gapshift.schema import LoggingPolicy


@dataclass(frozen=True, eq=False)
class Logged:
    """The distinct values (k,) that a monitor sees, and how often it sees each without the drop and with it.

    ``share_before`` and ``share_after`` of all requests bring it a value, were all of them logged.
    """

    values: Floats
    before: Floats
    after: Floats
    share_before: float
    share_after: float


class Monitor(ABC):
    """One test over logged values."""

    test: ClassVar[str]

    @final
    def logged(self, stream: Stream, level: int | None) -> Logged | str:
        """What the monitor sees of a stream, of one level's requests or of all; or why it sees nothing."""
        if stream.shape == "unknown" and not self.knows_right:
            return "nothing goes from right to wrong there, so the records do not show what such a drop looks like"
        values = self.values(stream)
        seen = np.isfinite(values) if level is None else np.isfinite(values) & (stream.level == level)
        shares = float(stream.before[seen].sum()), float(stream.after[seen].sum())
        if min(shares) <= 0:
            return "no answer carries a confidence"
        distinct, code = np.unique(values[seen], return_inverse=True)
        before, after = (
            np.bincount(code, weights=weights[seen] / share, minlength=len(distinct)).astype(np.float64)
            for weights, share in zip((stream.before, stream.after), shares, strict=True)
        )
        return Logged(distinct, before, after, *shares)

    knows_right: ClassVar[bool] = False
    """Whether it sees right and wrong, for which the records need not show what is answered instead."""

    @abstractmethod
    def values(self, stream: Stream) -> Floats:
        """What it sees of each answer, shape (2n,); NaN where there is nothing to see."""

    @abstractmethod
    def needed(self, logged: Logged, alpha: float, power: float) -> float:
        """Logged values until it notices, infinite where there is nothing to notice."""

    @abstractmethod
    def alarms(self, logged: Logged, counts: Integers, alpha: float) -> Bools:
        """Whether it alarms at each row of ``counts`` (m, k) of the values."""

    @abstractmethod
    def beyond_noise(self, stream: Stream, alpha: float) -> bool:
        """Whether the records themselves tell the change of these values from none."""


class LabelsMonitor(Monitor):
    """Accuracy, from labels."""

    test = "exact one-sided binomial test of accuracy"
    knows_right = True

    def values(self, stream: Stream) -> Floats:
        return stream.right.astype(np.float64)

    def needed(self, logged: Logged, alpha: float, power: float) -> float:
        p0, p1 = (_accuracy(logged, shares) for shares in (logged.before, logged.after))
        return monitoring.requests_by_labels(p0, p1, alpha, power)

    def alarms(self, logged: Logged, counts: Integers, alpha: float) -> Bools:
        right = counts[:, logged.values == 1].sum(axis=1)
        return monitoring.labels_alarm(right, counts.sum(axis=1), _accuracy(logged, logged.before), alpha)

    def beyond_noise(self, stream: Stream, alpha: float) -> bool:  # noqa: ARG002
        return True  # the drop is given, not estimated


def _accuracy(logged: Logged, shares: Floats) -> float:
    """Exactly 1 where nothing is wrong."""
    return min(1.0, max(0.0, 1.0 - float(shares[logged.values == 0].sum())))


@dataclass(frozen=True)
class ConfidenceMonitor(Monitor):
    """The mean confidence; rounded to ``decimals`` places, or whole with None."""

    decimals: int | None = None
    test = "two-sided z test of the mean confidence"

    def values(self, stream: Stream) -> Floats:
        return stream.confidence if self.decimals is None else np.round(stream.confidence, self.decimals)

    def needed(self, logged: Logged, alpha: float, power: float) -> float:
        (mean0, sd0), (mean1, sd1) = (_moments(logged.values, shares) for shares in (logged.before, logged.after))
        return monitoring.requests_by_mean(mean0, sd0, mean1, sd1, alpha, power)

    def alarms(self, logged: Logged, counts: Integers, alpha: float) -> Bools:
        mean, sd = _moments(logged.values, logged.before)
        return monitoring.mean_alarm(counts @ logged.values, counts.sum(axis=1), mean, sd, alpha)

    def beyond_noise(self, stream: Stream, alpha: float) -> bool:
        values, n = self.values(stream), len(stream.before) // 2
        before, after = values[stream.removed], values[n + stream.changed]
        if stream.shape == "extrapolated":
            return monitoring.mean_p(before[np.isfinite(before)], after[np.isfinite(after)]) < alpha
        both = np.isfinite(before) & np.isfinite(after)
        return monitoring.paired_mean_p(before[both], after[both]) < alpha


def _moments(values: Floats, shares: Floats) -> tuple[float, float]:
    mean = float(values @ shares)
    return mean, float(np.sqrt(((values - mean) ** 2) @ shares))


class PredictionsMonitor(Monitor):
    """How often each class is predicted; no prediction at all is one more."""

    test = "chi-square test of the predictions' frequencies"

    def values(self, stream: Stream) -> Floats:
        return stream.prediction.astype(np.float64)

    def needed(self, logged: Logged, alpha: float, power: float) -> float:
        unseen = float(logged.after[logged.before == 0].sum())
        return min(
            monitoring.requests_by_frequencies(logged.before, logged.after, alpha, power),
            monitoring.requests_until_first(unseen, power),
        )

    def alarms(self, logged: Logged, counts: Integers, alpha: float) -> Bools:
        return monitoring.frequencies_alarm(counts, logged.before, alpha)

    def beyond_noise(self, stream: Stream, alpha: float) -> bool:
        answers, n = stream.prediction.astype(np.int64), len(stream.before) // 2
        return monitoring.paired_frequencies_p(answers[stream.changed], answers[n + stream.changed]) < alpha


def monitor_of(policy: LoggingPolicy, output_kind: str, without_confidence: bool) -> Monitor | str:
    """The test that a policy allows, or why it allows none.

    ``output_kind`` is the model's (spans and episodes have no classes); ``without_confidence`` says that no answer has
    a confidence.
    """
    if policy.labels:
        return LabelsMonitor()
    if policy.outputs == "top-1":
        return NO_CLASSES.get(output_kind) or PredictionsMonitor()
    if without_confidence:
        return "no answer carries a confidence"
    return ConfidenceMonitor(policy.decimals if policy.outputs == "rounded-confidence" else None)


NO_CLASSES = {
    "spans": "an answer is a passage of its own text: predictions have no frequencies",
    "actions": "an episode's recorded answer is its outcome, which only a label tells",
}
"""Why models of these outputs have no distribution of predicted classes."""
