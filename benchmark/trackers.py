"""TensorBoard's event files of a run, written beside its record from the same facts; nothing leaves the machine."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from benchmark.protocol import Protocol
    from benchmark.records import Record
    from benchmark.training import Round

TrackerName = Literal["tensorboard"]
FOLDER = "tensorboard"


class Tracker:
    """Tells what a training does, while it does it; whatever goes wrong here is a line of the log and no more.

    The files of an earlier session are replaced: the rounds that it had got to are told again from the history that
    the training goes on with, so that each is there once.
    """

    def __init__(self, name: TrackerName | None, run: Path) -> None:
        """Begin; without a name, nothing is written.

        Args:
            name: which tracker.
            run: the run's folder.
        """
        self._writer: SummaryWriter | None = None
        self._told = 0
        if name is not None:
            with self._harmless():
                self._writer = _open(run / FOLDER)

    def __enter__(self) -> Tracker:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Write what is not written yet."""
        if self._writer is not None:
            with self._harmless():
                self._writer.close()

    def rounds(self, history: Sequence[Round]) -> None:
        """Tell the rounds that were not told before, as scalars at the number of optimiser steps."""
        for row in history[self._told :] if self._writer else ():
            self._scalars(
                row.steps,
                train_loss=row.train_loss,
                validation_loss=row.validation_loss,
                lr=row.lr,
                images_per_second=row.images_per_second,
            )
        self._told = len(history)

    def result(self, record: Record, protocol: Protocol, steps: int) -> None:
        """Tell a run's metrics, and the settings that TensorBoard's table of runs compares.

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
            file = self._writer._get_file_writer()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
            for summary in hparams(settings, metrics):  # type: ignore[no-untyped-call]  # and this
                file.add_summary(summary)
        self._scalars(steps, **metrics)

    def _scalars(self, step: int, **values: float | None) -> None:
        if self._writer is None:
            return
        with self._harmless():
            for name, value in values.items():
                if value is not None:
                    self._writer.add_scalar(name, value, step)
            self._writer.flush()

    @contextlib.contextmanager
    def _harmless(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # a full disk, a package of another version
            self._writer = None
            print(f"tracker: {type(error).__name__}: {error}; the run goes on without it", flush=True)


def _open(folder: Path) -> SummaryWriter:
    from unittest import mock

    from torch.utils.tensorboard import SummaryWriter

    if folder.exists():
        shutil.rmtree(folder)
    # TensorBoard calls its files after the machine, whose name no file of a study has.
    with mock.patch("socket.gethostname", return_value="run"):
        return SummaryWriter(str(folder))
