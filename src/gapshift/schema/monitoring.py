"""What a deployment logs of its requests, and so what its monitoring can see."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gapshift.schema.base import Frozen

LoggedAnswer = Literal["top-1", "confidence", "rounded-confidence"]
"""What is kept of an answer: the predicted class alone, or beside it the probability, whole or rounded."""


class LoggingPolicy(Frozen):
    """What a deployment logs.

    ``sample_rate`` is the share of requests that are logged. ``labels`` says that the right answer of each logged
    request becomes known, ``label_delay`` requests later. ``decimals`` are those that a rounded confidence keeps.
    """

    name: Annotated[str, Field(min_length=1)]
    outputs: LoggedAnswer = "top-1"
    labels: bool = False
    label_delay: Annotated[int, Field(ge=0)] = 0
    sample_rate: Annotated[float, Field(gt=0, le=1)] = 1.0
    decimals: Annotated[int, Field(ge=0, le=6)] = 1


LOGGING_POLICIES: dict[str, LoggingPolicy] = {
    policy.name: policy
    for policy in (
        LoggingPolicy(name="full-with-labels", outputs="confidence", labels=True),
        LoggingPolicy(name="top-1-with-labels", labels=True),
        LoggingPolicy(name="late-labels", labels=True, label_delay=10_000),
        LoggingPolicy(name="sampled-1%", labels=True, sample_rate=0.01),
        LoggingPolicy(name="no-labels-confidence", outputs="confidence"),
        LoggingPolicy(name="no-labels-rounded", outputs="rounded-confidence"),
        LoggingPolicy(name="no-labels-top-1"),
    )
}
"""Policies that deployments commonly have, by name."""
