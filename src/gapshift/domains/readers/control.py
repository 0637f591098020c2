"""The built-in control tasks: gymnasium's CartPole and MountainCar, with physics of each item's own."""

from __future__ import annotations

from gapshift.domains.control.items import episode_data
from gapshift.domains.readers.reader import Reader


def _reader(task: str, what: str) -> Reader:
    return Reader(
        name=task,
        layout=f"the word '{task}': built-in episodes of gymnasium's {what}, each with its own physics",
        accepts=lambda source: source == task,
        read=lambda _, labels: episode_data(task, labels),
    )


CARTPOLE = _reader("cartpole", "CartPole")
MOUNTAINCAR = _reader("mountaincar", "MountainCar")
READERS = (CARTPOLE, MOUNTAINCAR)
