"""Arrays and their bookkeeping: devices, folds, digests, augmentation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from gapshift.errors import TrainingError


def choose_device(name: str) -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU; else the device of that name.

    Raises TrainingError for a device that this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise TrainingError(f"Unknown device {name!r}. Valid: auto, cpu, cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise TrainingError("No CUDA device on this machine. Use device = 'auto' or 'cpu'.")
    return torch.device(name)


@contextmanager
def intra_op_threads(count: int) -> Iterator[None]:
    """torch's threads inside the block; put back afterwards. Nothing is touched where they fit already."""
    before = torch.get_num_threads()
    if before == count:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def id_order(item_ids: Sequence[str], salt: str = "") -> NDArray[np.int64]:
    """Positions sorted by the SHA-256 of salt and id: a shuffle that every machine repeats."""
    keys = [hashlib.sha256(f"{salt}\0{item_id}".encode()).digest() for item_id in item_ids]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)


def two_folds(item_ids: Sequence[str], labels: NDArray[np.integer], salt: str = "") -> NDArray[np.int64]:
    """Fold 0 or 1 per item, shape (n,), balanced within every label, by the hashes of salt and id.

    Items of one label alternate between the folds; so do the labels' odd items. Another
    ``salt`` is another partition.
    """
    order = id_order(item_ids, salt)
    by_label = order[np.argsort(np.asarray(labels)[order], kind="stable")]
    folds = np.empty(len(by_label), dtype=np.int64)
    folds[by_label] = np.arange(len(by_label)) % 2
    return folds


def array_digest(*arrays: NDArray[np.generic]) -> str:
    """SHA-256 (hex) over shapes, types and bytes."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(f"{array.dtype.str}{array.shape}".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def augment(batch: Tensor, kind: str, generator: torch.Generator) -> Tensor:
    """``batch`` (N, C, H, W) shifted by up to an eighth of the side, and mirrored with ``shift-flip``."""
    if kind == "none":
        return batch
    n, _, height, width = batch.shape
    reach = max(1, min(height, width) // 8)
    padded = F.pad(batch, (reach,) * 4, mode="reflect")
    down, right = torch.randint(0, 2 * reach + 1, (2, n), generator=generator).to(batch.device)
    rows = down[:, None] + torch.arange(height, device=batch.device)
    columns = right[:, None] + torch.arange(width, device=batch.device)
    if kind == "shift-flip":
        flip = (torch.rand(n, generator=generator) < 0.5).to(batch.device)
        columns = torch.where(flip[:, None], columns.flip(1), columns)
    item = torch.arange(n, device=batch.device)[:, None, None]
    return padded[item, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
