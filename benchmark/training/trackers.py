"""Writes TensorBoard event files of a run, from the facts of its record."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
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
    """Writes the event file of a running training; an error is one line of the log, and the run continues.

    It replaces the files of an earlier session and writes that session's rounds again, so every round appears once.

    Args:
        name: ``None`` writes nothing.
        run: the run's folder.
    """

    def __init__(self, name: TrackerName | None, run: Path) -> None:
        self._file: BinaryIO | None = None
        self._writer: RecordWriter | None = None
        self._rounds_written = 0
        if name is not None:
            with self._harmless():
                from tensorboard.summary.writer.record_writer import RecordWriter

                folder = run / FOLDER
                if folder.exists():
                    shutil.rmtree(folder)
                folder.mkdir(parents=True)
                # SummaryWriter would put the machine's name into the file name; no file of a study names a machine.
                self._file = (folder / f"events.out.tfevents.{int(time.time())}.run.{os.getpid()}.0").open("wb")
                self._writer = RecordWriter(self._file)
                self._write(file_version="brain.Event:2")  # the first event of every file

    def __enter__(self) -> Tracker:
        """Return the tracker."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the event file."""
        if self._writer is not None:
            with self._harmless():
                self._writer.close()

    def rounds(self, history: Sequence[Round]) -> None:
        """Write the new rounds of ``history`` as scalars at their numbers of optimiser steps."""
        for row in history[self._rounds_written :] if self._writer else ():
            names = ("train_loss", "validation_loss", "lr", "images_per_second")
            self._scalars(row.steps, {name: getattr(row, name) for name in names})
        self._rounds_written = len(history)

    def result(self, record: Record, protocol: Protocol, steps: int) -> None:
        """Write a run's metrics, and its settings for TensorBoard's table of runs.

        Args:
            record: of the run.
            protocol: its settings.
            steps: optimiser steps of the tested weights.
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
        self._scalars(steps, metrics)

    def _scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        if self._writer is None:
            return
        with self._harmless():
            from torch.utils.tensorboard.summary import scalar

            for name, value in values.items():
                if value is not None:
                    self._write(step=step, summary=scalar(name, value))  # type: ignore[no-untyped-call]  # as above
            self._writer.flush()

    def _write(self, **fields: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        assert self._writer is not None
        self._writer.write(Event(wall_time=time.time(), **fields).SerializeToString())

    @contextlib.contextmanager
    def _harmless(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # such as a full disk or another version of the package
            self._writer = None
            if self._file is not None:
                with contextlib.suppress(OSError):
                    self._file.close()
            print(f"tracker: {type(error).__name__}: {error}; the run goes on without it", flush=True)
