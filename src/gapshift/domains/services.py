"""A preprocessing or feature service between items and a model, in simulated time: late, down, stale or wrong.

``schema.Service`` says what a service does; here it is done to a data set's inputs. What befalls an item follows from
its id and the service's seed alone, by draws that rates and limits only compare with a threshold: whatever fails at
one error rate fails at every higher one. ``control.served`` does the same to the readings of an episode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray

from gapshift.domains import text
from gapshift.domains.base import Text, rank
from gapshift.domains.corruptions.base import stream
from gapshift.records import Records
from gapshift.schema import AnyPreprocessing, Service, ServiceTally, TextPreprocessing

Bools = NDArray[np.bool_]
Indices = NDArray[np.intp]
Floats = NDArray[np.float64]

NO_SERVICE = Service()
SHORTEST_GARBLE = 0.1
"""A garbled answer has at least this share of its values overwritten, and at most all of them."""
_NONE = -1


class Rows(Protocol):
    """Inputs (n, ...) that are read row by row: an array, or a file of them."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __getitem__(self, rows: Indices, /) -> NDArray[Any]: ...


# --------------------------------------------------------------------------- one request


@dataclass(frozen=True, eq=False)
class Fates:
    """What befell requests; arrays of one shape.

    ``failed``: every attempt did. ``stale`` and ``corrupted`` are of answers, so of none that failed. ``attempts``,
    of which ``timeouts`` and ``errors`` failed, took ``ms`` in all.
    """

    failed: Bools
    stale: Bools
    corrupted: Bools
    attempts: NDArray[np.int64]
    timeouts: NDArray[np.int64]
    errors: NDArray[np.int64]
    ms: Floats

    def take(self, where: NDArray[Any]) -> Fates:
        """Those at an index or a mask."""
        return Fates(**{field.name: getattr(self, field.name)[where] for field in fields(self)})


def draws_per_request(service: Service) -> int:
    """How many uniform numbers decide one request: two for its answer, two for each attempt."""
    return 2 + 2 * (service.retries + 1)


def fates(service: Service, draws: Floats) -> Fates:
    """What befalls requests, whose draws have the shape (..., ``draws_per_request``), uniform in [0, 1).

    An attempt's latency is log-normal: ``latency_ms * exp(latency_spread * z)``, z the standard normal quantile of its
    draw. One that runs out of time takes ``timeout_ms``, and whether it would have been an error stays unknown.
    """
    latency = _latency(service, draws[..., 2::2])
    limit = np.inf if service.timeout_ms is None else service.timeout_ms
    late = latency > limit
    wrong = ~late & (draws[..., 3::2] < service.error_rate)
    bad = late | wrong
    made = np.ones_like(bad)
    made[..., 1:] = np.logical_and.accumulate(bad, axis=-1)[..., :-1]  # the next one, where all before it failed
    failed: Bools = np.asarray(bad.all(axis=-1))
    return Fates(
        failed=failed,
        stale=~failed & (draws[..., 0] < service.stale_rate),
        corrupted=~failed & (draws[..., 1] < service.corruption_rate),
        attempts=made.sum(axis=-1),
        timeouts=(late & made).sum(axis=-1),
        errors=(wrong & made).sum(axis=-1),
        ms=np.where(made, np.minimum(latency, limit), 0.0).sum(axis=-1),
    )


def _latency(service: Service, draws: Floats) -> Floats:
    from scipy.special import ndtri

    if not service.latency_ms:
        return np.zeros_like(draws)
    with np.errstate(over="ignore"):  # a spread beyond all measure: it never comes
        latency: Floats = service.latency_ms * np.exp(service.latency_spread * ndtri(draws))
    return latency


def tally(found: Fates) -> ServiceTally | None:
    """What requests came to; None where there were none."""
    if not found.failed.size:
        return None
    median, p95 = np.quantile(found.ms, (0.5, 0.95))
    return ServiceTally(
        requests=found.failed.size,
        attempts=int(found.attempts.sum()),
        timeouts=int(found.timeouts.sum()),
        errors=int(found.errors.sum()),
        stale=int(found.stale.sum()),
        corrupted=int(found.corrupted.sum()),
        fallbacks=int(found.failed.sum()),
        latency_ms_median=float(median),
        latency_ms_p95=float(p95),
    )


# -------------------------------------------------------------------- a data set's requests


@dataclass(frozen=True, eq=False)
class Served:
    """What a deployment gets of a service for each item of a data set, arrays of shape (n,).

    ``requested``: unreadable items never are. ``source`` is the item whose input comes, ``garbler`` the one on whose
    request it was garbled (-1: on none); where ``default``, the default input comes instead. ``withheld`` items get
    none at all.
    """

    service: Service
    ids: Sequence[str]
    requested: Bools
    fates: Fates
    source: Indices
    garbler: Indices
    default: Bools

    @property
    def withheld(self) -> Bools:
        """Items that the deployment skips."""
        return self.fates.failed & (self.service.fallback == "skip")

    def tally(self, rows: Indices) -> ServiceTally | None:
        """What the requests for these items came to."""
        return tally(self.fates.take(rows[self.requested[rows]]))

    def marked(self, records: Records, rows: Indices) -> Records:
        """``records`` of these items, with the status of those that were answered from a fallback."""
        fell_back = self.fates.failed[rows] & (records.status == "ok")
        return replace(records, status=np.where(fell_back, "fallback", records.status))


def serve(service: Service, ids: Sequence[str], readable: Bools) -> Served:
    """A data set's requests, one for each readable item, in an order drawn by the service's seed.

    Stale is the input of the request before, and the ``last`` value what the latest request before that was answered
    had brought, stale or garbled as it was; where there is none before, answers are fresh, and ``last`` is the default.
    """
    order = _in_order(service, ids, readable)
    m = len(order)
    drawn = [stream(ids[row], "service", service.seed).random(draws_per_request(service)) for row in order.tolist()]
    found = fates(service, np.array(drawn).reshape(m, -1) if m else np.empty((0, draws_per_request(service))))
    found.stale[:1] = False
    place = np.arange(m)
    giver = np.where(found.failed, _NONE, place) if service.fallback == "last" else place
    giver = np.maximum.accumulate(giver)
    default = found.failed & ((giver < 0) | (service.fallback == "default"))
    giver = np.maximum(giver, 0)
    return Served(
        service=service,
        ids=ids,
        requested=readable,
        fates=_spread(found, order, len(ids)),
        source=_placed(order[giver - found.stale[giver]], order, len(ids)),
        garbler=_placed(np.where(found.corrupted[giver], order[giver], _NONE), order, len(ids), _NONE),
        default=_placed(default, order, len(ids)),
    )


def _in_order(service: Service, ids: Sequence[str], readable: Bools) -> Indices:
    asked = np.flatnonzero(readable)
    places = np.array([int(rank(ids[row], service.seed)[:16], 16) for row in asked.tolist()], dtype=np.uint64)
    return asked[np.argsort(places, kind="stable")]


def _placed(values: NDArray[Any], at: Indices, n: int, otherwise: int = 0) -> NDArray[Any]:
    """Values at their items, ``otherwise`` at those that have none."""
    whole = np.full(n, otherwise, dtype=values.dtype)
    whole[at] = values
    return whole


def _spread(found: Fates, at: Indices, n: int) -> Fates:
    return Fates(**{field.name: _placed(getattr(found, field.name), at, n) for field in fields(found)})


# ---------------------------------------------------------------------------- their inputs


@final
class ServedRows:
    """The inputs that reach the model, made when they are asked for: there is no second copy of the tensor."""

    def __init__(self, tensor: Rows, served: Served, preprocessing: AnyPreprocessing) -> None:
        self._tensor = tensor
        self._served = served
        self._preprocessing = preprocessing

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the tensor."""
        return self._tensor.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the tensor."""
        return self._tensor.dtype

    def __getitem__(self, rows: Indices, /) -> NDArray[Any]:
        inputs = self._tensor[self._served.source[rows]]
        garblers, default = self._served.garbler[rows], self._served.default[rows]
        for place in np.flatnonzero(~default & (garblers != _NONE)):
            rng = stream(self._served.ids[int(garblers[place])], "garbled", self._served.service.seed)
            inputs[place] = garbled(inputs[place], self._preprocessing, rng)
        if default.any():
            inputs[default] = default_input(inputs.shape[1:], inputs.dtype, self._preprocessing)
        return inputs


def default_input(shape: tuple[int, ...], dtype: np.dtype[Any], preprocessing: AnyPreprocessing) -> NDArray[Any]:
    """The input that stands for no input: an empty text; else zeros, the mean where the contract normalises."""
    if isinstance(preprocessing, TextPreprocessing):
        return text.prepare(Text(""), preprocessing)
    return np.zeros(shape, dtype=dtype)


def garbled(payload: NDArray[Any], preprocessing: AnyPreprocessing, rng: np.random.Generator) -> NDArray[Any]:
    """A copy with a contiguous part, of random place and length, overwritten by noise that nothing refuses.

    Tokens stay in the vocabulary, bytes are any, and other values lie between the payload's own least and greatest:
    all stay finite. The part is ``SHORTEST_GARBLE`` of the payload or more.
    """
    flat = payload.reshape(-1).copy()
    length = max(1, round(flat.size * rng.uniform(SHORTEST_GARBLE, 1)))
    start = int(rng.integers(flat.size - length + 1))
    flat[start : start + length] = _noise(flat, preprocessing, length, rng)
    return flat.reshape(payload.shape)


def _noise(flat: NDArray[Any], preprocessing: AnyPreprocessing, length: int, rng: np.random.Generator) -> NDArray[Any]:
    if isinstance(preprocessing, TextPreprocessing):
        return rng.integers(len(preprocessing.vocabulary), size=length)
    if flat.dtype == np.uint8:
        return rng.integers(256, size=length)
    low, high = float(flat.min()), float(flat.max())
    return rng.uniform(low, high if high > low else low + 1, size=length)  # even a blank picture is changed
