"""Labels in another order: which reading of a model's answers would be the trusted one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from gapshift.envs.layers.candidates import Candidate
from gapshift.schema import Contract

Order = tuple[int, ...]
"""``order[k]`` is the label that answer ``k`` stands for."""
_LEAST_GAIN = 2
"""Labels change places only where that many screening items gain by it."""
_NAMED = 4


def relabelled(
    contract: Contract, predictions: NDArray[np.int32], wanted: NDArray[np.int32], known: Order | None = None
) -> tuple[Candidate, ...]:
    """The orders to try: the one that is ``known`` to be another's, the best exchange of two labels, and the best order
    of all (the assignment that maximises agreement, by ``scipy.optimize.linear_sum_assignment``).

    ``predictions`` and ``wanted`` (n,) are answers and trusted answers to the screening items, negative where there is
    none. Nothing for a model whose answers are no classes.
    """
    labels = contract.model.labels
    if contract.model.output_kind not in ("logits", "probabilities"):
        return ()
    confusion = np.zeros((len(labels), len(labels)), dtype=np.int64)
    both = (predictions >= 0) & (wanted >= 0) & (wanted < len(labels))
    np.add.at(confusion, (predictions[both], wanted[both]), 1)
    orders = {known: "labels-of-the-other"} if known else {}
    for name, order in (("labels-exchanged", _exchange(confusion)), ("labels-reordered", _best(confusion))):
        orders.setdefault(order, name)
    orders.pop(tuple(range(len(labels))), None)
    return tuple(
        Candidate(
            name,
            order_words(labels, order),
            contract.preprocessing,
            relabel=order,
            settings={"model.labels": [labels[stands] for stands in order]},
        )
        for order, name in orders.items()
    )


def _exchange(confusion: NDArray[np.int64]) -> Order:
    """The two labels whose exchange gains most; as they are where none gains."""
    own = np.diag(confusion)
    gain = np.triu(confusion + confusion.T - own[:, None] - own[None, :], 1)
    one, other = (int(place) for place in np.unravel_index(gain.argmax(), gain.shape))
    order = list(range(len(own)))
    if gain[one, other] >= _LEAST_GAIN:
        order[one], order[other] = other, one
    return tuple(order)


def _best(confusion: NDArray[np.int64]) -> Order:
    """The order that agrees most; of equals the one that moves fewest, and no cycle that gains next to nothing."""
    size = len(confusion)
    _, assigned = linear_sum_assignment(confusion + np.eye(size) / (2 * size), maximize=True)
    order = [int(place) for place in assigned]
    for cycle in cycles(order):
        if sum(int(confusion[k, order[k]] - confusion[k, k]) for k in cycle) < _LEAST_GAIN:
            for k in cycle:
                order[k] = k
    return tuple(order)


def cycles(order: Sequence[int]) -> Iterator[list[int]]:
    """Each set of labels that change places among themselves.

    >>> list(cycles((1, 0, 2, 4, 5, 3)))
    [[0, 1], [3, 4, 5]]
    """
    moves, seen = list(order), set[int]()
    for start in range(len(moves)):
        cycle, at = [], start
        while at not in seen:
            seen.add(at)
            cycle.append(at)
            at = moves[at]
        if len(cycle) > 1:
            yield cycle


def order_words(labels: Sequence[str], order: Order) -> str:
    """Which labels stand in another's place.

    >>> order_words(("cat", "dog", "eel"), (1, 0, 2)), order_words(("a", "b", "c"), (1, 2, 0))
    ("'cat' and 'dog' are exchanged", "'a' stands for 'b', 'b' for 'c', 'c' for 'a'")
    """
    said = []
    for cycle in cycles(order):
        if len(cycle) == 2:
            said.append(f"'{labels[cycle[0]]}' and '{labels[cycle[1]]}' are exchanged")
        else:
            first, *others = (
                f"'{labels[k]}'" + " stands" * (k == cycle[0]) + f" for '{labels[order[k]]}'" for k in cycle
            )
            more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
            said.append(", ".join([first, *others[:_NAMED]]) + more)
    return "; ".join(said)


def order_of(own: Sequence[str], other: Sequence[str]) -> Order | None:
    """Where each of the other's labels stands in one's own; None where they are not the same names.

    >>> order_of(("cat", "dog"), ("dog", "cat")), order_of(("cat", "dog"), ("cat", "eel"))
    ((1, 0), None)
    """
    if sorted(own) != sorted(other):
        return None
    places = {label: place for place, label in enumerate(own)}
    return tuple(places[label] for label in other)
