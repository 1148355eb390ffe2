"""Rows of a run's ``history.csv``, one per validation round."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True)
class Round:
    """One validation round, a row of ``history.csv``; it comes after each epoch unless steps are counted.

    Attributes:
        round: counted from 1.
        steps: optimiser steps so far.
        train_loss: mean over the round's steps.
        validation_loss: mean over the validation images; ``None`` without any.
        lr: learning rate at the round's first step.
        seconds: of its steps, without the validation.
        images_per_second: in these seconds.
    """

    round: int
    steps: int
    train_loss: float
    validation_loss: float | None
    lr: float
    seconds: float
    images_per_second: float


def history_csv(history: Sequence[Round]) -> bytes:
    """Return the content of ``history.csv``; ``history`` has at least one round."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(history[0])], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in history)
    return text.getvalue().encode()
