"""Jobs for real worker processes, which start at once because nothing here imports torch."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class LightJob:
    """A job that :func:`do_light` does.

    Attributes:
        folder: for a file ``LABEL.begun``, by which jobs in other processes notice this one.
        act: ``exit``, ``kill`` or ``hang``, after the first step.
        meets: label of a job that this one waits for until it has begun.
    """

    label: str = "light"
    folder: Path | None = None
    exclusive: bool = False
    act: str = ""
    meets: str = ""
    log: None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    after_timeout: str = "it begins anew"
    memory_advice: str = "try fewer images"


def do_light(job: Any, on_step: Callable[[int, int], None]) -> dict[str, Any]:
    """Return facts about the process: its number, whether torch was imported, its variables, start and end."""
    facts: dict[str, Any] = {"pid": os.getpid(), "torch": "torch" in sys.modules, "started": time.time()}
    if job.folder is not None:
        (job.folder / f"{job.label}.begun").touch()
    on_step(1, 2)
    if job.act == "exit":
        os._exit(3)
    if job.act == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if job.act == "hang":
        signal.pause()
    while job.meets and not (job.folder / f"{job.meets}.begun").exists():
        time.sleep(0.01)
    return facts | {"variables": dict(os.environ), "ended": time.time()}
