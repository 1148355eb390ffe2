"""The file from which an interrupted training goes on, to the bit."""

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

#: The share of the training's time that writing checkpoints may take. A light network's is written after every round;
#: HRNet's gigabyte, after rounds of a few seconds, is not.
SHARE = 0.05
#: Bytes per second that a disk is expected to take before the first checkpoint has been timed.
ASSUMED_BYTES_PER_S = 2e8


class Checkpoint:
    """Where one run's training state lies between its rounds.

    A run that goes on from a checkpoint ends with the same weights as one that was never interrupted, so that leaving
    one out costs time and changes nothing.
    """

    def __init__(self, file: Path, key: str) -> None:
        """Name the file and the key of the run that it must belong to."""
        self.file, self.key = file, key
        self._last = time.perf_counter()
        self._cost: float | None = None

    def steps(self) -> int | None:
        """Return after how many optimiser steps the state was saved, without reading its tensors."""
        state = self.load(mapped=True)
        return None if state is None else int(state["steps"])

    def load(self, *, mapped: bool = False) -> dict[str, Any] | None:
        """Return the state that was saved last, or ``None`` where there is none of this run.

        Only tensors and plain data are read, so a hostile file cannot run code.

        Args:
            mapped: leave tensors on the disk until they are used, which must be before the file is replaced.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch warns of pickles that are not its own before it refuses them
                found = torch.load(self.file, map_location="cpu", weights_only=True, mmap=mapped)
        except FileNotFoundError:
            return None
        except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError):
            return None  # damaged, or not ours: the run starts anew, and its next checkpoint replaces the file
        if not isinstance(found, dict) or found.get("key") != self.key or not isinstance(found.get("state"), dict):
            return None
        state: dict[str, Any] = found["state"]
        return state

    def due(self, state_bytes: int) -> bool:
        """Tell whether a checkpoint of a size is worth its time now."""
        cost = state_bytes / ASSUMED_BYTES_PER_S if self._cost is None else self._cost
        return cost <= SHARE * (time.perf_counter() - self._last)

    def save(self, state: dict[str, Any]) -> None:
        """Replace the file; where the disk is full, the training goes on without.

        Args:
            state: tensors and plain data: dicts, lists, numbers, strings, ``None``.
        """
        started = time.perf_counter()
        content = io.BytesIO()
        torch.save({"key": self.key, "state": state}, content)
        try:
            write_atomically(self.file, content.getvalue())
        except UserError as error:
            print(f"no checkpoint this time: {error}", flush=True)  # into the run's log
        self._last = time.perf_counter()
        self._cost = self._last - started
