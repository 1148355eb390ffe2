"""Writes a run as an offline run of W&B."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import wandb

if TYPE_CHECKING:
    from benchmark.training.trackers import Setting

#: W&B would add all these facts about the machine and the user's code.
QUIET = {
    "host": "",
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "save_code": False,
    "silent": True,
    "symlink": False,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}


class WandbWriter:
    """Writes scalars over an axis of optimiser steps, and the configuration."""

    def __init__(self, folder: Path, study: str, run: str) -> None:
        self._folder = folder
        self._run = wandb.init(
            mode="offline",  # an argument wins over WANDB_MODE and over settings files
            dir=folder.parent,  # W&B adds its own name
            project=study,
            name=run,
            reinit="create_new",  # never a run that other code has open
            settings=wandb.Settings(**QUIET),
        )
        # W&B drops a row whose own step is lower than the one before, such as the metrics of an earlier round.
        self._run.define_metric("*", step_metric="steps")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write one row."""
        self._run.log({"steps": step, **values})

    def settings(self, values: Mapping[str, Setting], metrics: Collection[str]) -> None:
        """Write the settings as the run's configuration."""
        self._run.config.update(dict(values))

    def close(self) -> None:
        """End W&B's process, which writes the rest, and remove its logs, which name folders."""
        try:
            self._run.finish()
        finally:
            wandb.teardown()  # `finish` returns a moment before the file is complete
        for logs in self._folder.glob("*/logs"):
            shutil.rmtree(logs)
