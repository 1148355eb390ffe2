"""Reports a training to TensorBoard, MLflow or W&B, in files of the run's folder."""

from __future__ import annotations

import contextlib
import shutil
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from benchmark.config.protocol import Protocol
    from benchmark.records.history import Round
    from benchmark.records.run_record import Record

TrackerName = Literal["tensorboard", "mlflow", "wandb"]  # also the names of the packages and of the folders
Setting: TypeAlias = bool | int | float | str


class Writer(typing.Protocol):
    """Writes files for one tool; the constructor takes an empty folder, the study's name and the run's."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write numbers at a number of optimiser steps, which may be lower than the one before."""

    def settings(self, values: Mapping[str, Setting], metrics: Collection[str]) -> None:
        """Write a run's settings and the names of its metrics; called at most once."""

    def close(self) -> None:
        """Write everything that is left, and free what the writer holds."""


class Tracker:
    """Writes the files of a running training; an error is one line of the log, and the run continues.

    It replaces the files of an earlier session and writes that session's rounds again, so every round appears once.

    Args:
        name: ``None`` writes nothing.
        run: the run's folder.
        study: the study's name.
    """

    def __init__(self, name: TrackerName | None, run: Path, study: str) -> None:
        self._writer: Writer | None = None
        self._rounds_written = 0
        if name is not None:
            with self._harmless():
                folder = run / name
                if folder.exists():
                    shutil.rmtree(folder)
                folder.mkdir(parents=True)
                self._writer = _writer(name, folder, study, "/".join(run.parts[-3:]))

    def __enter__(self) -> Tracker:
        """Return the tracker."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        if self._writer is not None:
            with self._harmless():
                self._writer.close()

    def rounds(self, history: Sequence[Round]) -> None:
        """Write the new rounds of ``history`` as scalars at their numbers of optimiser steps."""
        for row in history[self._rounds_written :]:
            names = ("train_loss", "validation_loss", "lr", "images_per_second")
            self._scalars(row.steps, {name: getattr(row, name) for name in names})
        self._rounds_written = len(history)

    def result(self, record: Record, protocol: Protocol, steps: int) -> None:
        """Write a run's metrics and settings.

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
        settings: dict[str, Setting] = {"model": record.model, "train": "+".join(record.train), "repeat": record.repeat}
        settings |= {
            name: value for name, value in protocol.training.model_dump().items() if isinstance(value, Setting)
        }
        if file := protocol.training.encoder_file:  # its place stays on this machine
            settings["encoder_weights"] = f"{file.name} ({protocol.extensions.get('encoder_weights')})"
        if self._writer is not None:
            with self._harmless():
                self._writer.settings(settings, metrics)
        self._scalars(steps, metrics)

    def _scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        if self._writer is not None:
            with self._harmless():
                self._writer.scalars(step, {name: value for name, value in values.items() if value is not None})

    @contextlib.contextmanager
    def _harmless(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # such as a full disk or another version of the package
            print(f"tracker: {type(error).__name__}: {error}; the run goes on without it", flush=True)
            if self._writer is not None:
                with contextlib.suppress(Exception):
                    self._writer.close()
            self._writer = None


def _writer(name: TrackerName, folder: Path, study: str, run: str) -> Writer:
    """Import only the package in use."""
    if name == "tensorboard":
        from benchmark.training.tensorboard_writer import TensorBoardWriter

        return TensorBoardWriter(folder, study, run)
    if name == "mlflow":
        from benchmark.training.mlflow_writer import MlflowWriter

        return MlflowWriter(folder, study, run)
    from benchmark.training.wandb_writer import WandbWriter

    return WandbWriter(folder, study, run)
