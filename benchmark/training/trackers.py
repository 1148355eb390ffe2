"""Writes TensorBoard event files of a run, from the facts of its record."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

if TYPE_CHECKING:
    from tensorboard.summary.writer.record_writer import RecordWriter

    from benchmark.config.protocol import Protocol
    from benchmark.records.history import Round
    from benchmark.records.run_record import Record

TrackerName = Literal["tensorboard"]
FOLDER = "tensorboard"


class Tracker:
    """Reports a training while it runs; an error here becomes one line of the log, and the run goes on.

    The files of an earlier session are replaced: its rounds are written again from the history that the training goes
    on with, so that each round is there once.
    """

    def __init__(self, name: TrackerName | None, run: Path) -> None:
        """Open the event file; without a name, nothing is written.

        Args:
            name: which tracker.
            run: the run's folder.
        """
        self._file: BinaryIO | None = None
        self._writer: RecordWriter | None = None
        self._rounds_written = 0
        if name is not None:
            with self._harmless():
                from tensorboard.summary.writer.record_writer import RecordWriter

                self._file = _open(run / FOLDER)
                self._writer = RecordWriter(self._file)
                self._write(file_version="brain.Event:2")  # the first event of every file

    def __enter__(self) -> Tracker:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the event file."""
        if self._writer is not None:
            with self._harmless():
                self._writer.close()

    def rounds(self, history: Sequence[Round]) -> None:
        """Write the rounds that are new in ``history``, as scalars at the number of optimiser steps."""
        for row in history[self._rounds_written :] if self._writer else ():
            self._scalars(
                row.steps,
                train_loss=row.train_loss,
                validation_loss=row.validation_loss,
                lr=row.lr,
                images_per_second=row.images_per_second,
            )
        self._rounds_written = len(history)

    def result(self, record: Record, protocol: Protocol, steps: int) -> None:
        """Write a run's metrics, and the settings that TensorBoard's table of runs compares.

        Args:
            record: of the run.
            protocol: its settings.
            steps: after which the tested weights were taken.
        """
        metrics = {
            f"{test}/{reduction}/{name}": value
            for test, reductions in record.metrics.items()
            for reduction, values in reductions.items()
            for name, value in values.items()
        }
        if self._writer is None:
            return
        with self._harmless():
            from torch.utils.tensorboard.summary import hparams

            settings = {"model": record.model, "train": "+".join(record.train), "repeat": record.repeat}
            settings |= {
                name: value
                for name, value in protocol.training.model_dump().items()
                if isinstance(value, bool | int | float | str)
            }
            for summary in hparams(settings, metrics):  # type: ignore[no-untyped-call]  # torch leaves it unannotated
                self._write(summary=summary)
        self._scalars(steps, **metrics)

    def _scalars(self, step: int, **values: float | None) -> None:
        if self._writer is None:
            return
        with self._harmless():
            from torch.utils.tensorboard.summary import scalar

            for name, value in values.items():
                if value is not None:
                    self._write(step=step, summary=scalar(name, value))  # type: ignore[no-untyped-call]  # and this
            self._writer.flush()

    def _write(self, **fields: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        assert self._writer is not None
        self._writer.write(Event(wall_time=time.time(), **fields).SerializeToString())

    @contextlib.contextmanager
    def _harmless(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # a full disk, a package of another version
            self._writer = None
            if self._file is not None:
                with contextlib.suppress(OSError):
                    self._file.close()
            print(f"tracker: {type(error).__name__}: {error}; the run goes on without it", flush=True)


def _open(folder: Path) -> BinaryIO:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    # SummaryWriter would put the machine's name into the file name; no file of a study names a machine.
    return (folder / f"events.out.tfevents.{int(time.time())}.run.{os.getpid()}.0").open("wb")
