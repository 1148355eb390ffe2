"""Writes a run into a file store of MLflow."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow.entities import Metric, Param, RunStatus
from mlflow.store.tracking.file_store import FileStore

if TYPE_CHECKING:
    from benchmark.training.trackers import Setting


class MlflowWriter:
    """Writes into the store's default experiment, so that stores of several runs can be copied into one."""

    def __init__(self, folder: Path, study: str, run: str) -> None:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # later versions of MLflow 3 ask for it
        folder.rmdir()  # a new store comes with the default experiment only if it makes its folder itself
        # Else the store would write the folder's path, for files of a run; there are none.
        self._store = FileStore(str(folder), artifact_root_uri="mlflow-artifacts:/")
        experiment = FileStore.DEFAULT_EXPERIMENT_ID
        opened = self._store.create_run(experiment, user_id="", start_time=_now(), tags=[], run_name=f"{study}/{run}")
        self._run = opened.info.run_id

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add a line to the file of each number."""
        now = _now()
        self._store.log_batch(self._run, [Metric(name, value, now, step) for name, value in values.items()], [], [])

    def settings(self, values: Mapping[str, Setting], metrics: Collection[str]) -> None:
        """Write the settings as parameters, which are texts."""
        self._store.log_batch(self._run, [], [Param(name, str(value)) for name, value in values.items()], [])
        self._store.update_run_info(self._run, RunStatus.FINISHED, _now(), None)

    def close(self) -> None:
        """Do nothing; a store keeps no file open."""


def _now() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000
