"""Writes and reads the state from which an interrupted training continues bit for bit."""

from __future__ import annotations

import io
import pickle
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from benchmark.utils.errors import UserError
from benchmark.utils.files import write_atomically

#: Largest share of the training's time for writing checkpoints: light networks write after every round, HRNet (1 GB)
#: skips rounds of a few seconds.
SHARE = 0.05
#: Assumed speed of the disk, bytes per second, until the first checkpoint is timed.
ASSUMED_BYTES_PER_S = 2e8


class Checkpoint:
    """The file of a run's training state; the run's weights in the end do not depend on its interruptions.

    Args:
        file: replaced after rounds.
        key: of the run that the file must belong to.
    """

    def __init__(self, file: Path, key: str) -> None:
        self.file, self.key = file, key
        self._last = time.perf_counter()
        self._cost: float | None = None

    def steps(self) -> int | None:
        """Return the saved state's number of optimiser steps, without reading its tensors."""
        state = self.load(mapped=True)
        return None if state is None else int(state["steps"])

    def load(self, *, mapped: bool = False) -> dict[str, Any] | None:
        """Return the last saved state of this run, if any; only tensors and plain data, so no code of a file runs.

        Args:
            mapped: leave tensors on the disk until their use, which must come before the file is replaced.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch warns of foreign pickles before it refuses them
                content = torch.load(self.file, map_location="cpu", weights_only=True, mmap=mapped)
        except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError):
            return None  # missing, damaged or foreign: the run starts anew, and its next checkpoint replaces the file
        state = content.get("state") if isinstance(content, dict) and content.get("key") == self.key else None
        return state if isinstance(state, dict) else None

    def due(self, state_bytes: int) -> bool:
        """Return whether a checkpoint of ``state_bytes`` is worth its time now."""
        cost = state_bytes / ASSUMED_BYTES_PER_S if self._cost is None else self._cost
        return cost <= SHARE * (time.perf_counter() - self._last)

    def save(self, state: dict[str, Any]) -> None:
        """Replace the file by tensors and plain data; on a full disk the training continues without a checkpoint."""
        started = time.perf_counter()
        content = io.BytesIO()
        torch.save({"key": self.key, "state": state}, content)
        try:
            write_atomically(self.file, content.getvalue())
        except UserError as error:
            print(f"no checkpoint this time: {error}", flush=True)  # into the run's log
        self._last = time.perf_counter()
        self._cost = self._last - started
