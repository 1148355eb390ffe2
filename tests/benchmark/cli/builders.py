"""Builders of an interim page, which start at once in their process because nothing here imports the package."""

from __future__ import annotations

import os
import time
from pathlib import Path


def write_and_wait(study: Path) -> None:
    """Leave a file with this process's number, and wait for the file ``go``."""
    study.mkdir(exist_ok=True)
    (study / f"built.{len(list(study.glob('built.*')))}").write_text(str(os.getpid()))
    while not (study / "go").exists():
        time.sleep(0.01)


def fail(study: Path) -> None:
    raise RuntimeError(study)
