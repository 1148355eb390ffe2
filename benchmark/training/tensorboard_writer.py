"""Writes a run as TensorBoard's event file."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.summary import hparams, scalar

if TYPE_CHECKING:
    from benchmark.training.trackers import Setting


class TensorBoardWriter:
    """Writes scalars, and settings for TensorBoard's table of runs."""

    def __init__(self, folder: Path, study: str, run: str) -> None:
        # SummaryWriter would put the machine's name into the file name; no file of a study names a machine.
        path = folder / f"events.out.tfevents.{int(time.time())}.run.{os.getpid()}.0"
        with contextlib.ExitStack() as opened:
            self._records = RecordWriter(opened.enter_context(path.open("wb")))
            self._write(file_version="brain.Event:2")  # the first event of every file
            self._opened = opened.pop_all()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write an event for each number."""
        for name, value in values.items():
            self._write(step=step, summary=scalar(name, value))  # type: ignore[no-untyped-call]  # torch's
        self._records.flush()

    def settings(self, values: Mapping[str, Setting], metrics: Collection[str]) -> None:
        """Write the settings (HPARAMS); TensorBoard wants the names of the metrics there too."""
        for summary in hparams(dict(values), dict.fromkeys(metrics)):  # type: ignore[no-untyped-call]  # torch's
            self._write(summary=summary)

    def close(self) -> None:
        """Close the event file."""
        with self._opened:
            self._records.close()

    def _write(self, **fields: Any) -> None:
        self._records.write(Event(wall_time=time.time(), **fields).SerializeToString())
