"""Defines the rows of a run's ``history.csv``, one per validation round."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from benchmark.records.packed_study import read_stored
from benchmark.utils.files import TooLargeError

HISTORY = "history.csv"
#: The most bytes that a history may hold; ten thousand rounds have less.
HISTORY_BYTES = 4 << 20


@dataclass(frozen=True)
class Round:
    """One validation round; a round follows each epoch, or a number of steps if the protocol counts steps."""

    round: int  # counted from 1
    steps: int  # optimiser steps so far
    train_loss: float  # mean over the round's steps
    validation_loss: float | None  # mean over the validation images; None without images
    lr: float  # learning rate at the round's first step
    seconds: float  # of its steps, without the validation
    images_per_second: float  # within these seconds


def read_rounds(folder: Path) -> list[Round]:
    """Return the rounds of a run so far; none if the file is missing or broken."""
    try:
        text = read_stored(folder / HISTORY, HISTORY_BYTES).decode()
        return [
            Round(
                int(row["round"]),
                int(row["steps"]),
                float(row["train_loss"]),
                float(row["validation_loss"]) if row["validation_loss"] else None,
                *(float(row[name]) for name in ("lr", "seconds", "images_per_second")),
            )
            for row in csv.DictReader(io.StringIO(text, newline=""))
        ]
    except (OSError, ValueError, KeyError, TypeError, csv.Error, TooLargeError):
        return []


def history_csv(history: Sequence[Round]) -> bytes:
    """Return the content of ``history.csv`` for at least one round."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(history[0])], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in history)
    return text.getvalue().encode()
