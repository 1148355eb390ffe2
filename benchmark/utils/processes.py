"""Starts child processes without their caller's script, and ends them with their parent."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator
from multiprocessing.connection import wait
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from typing import Any

_STARTING = threading.Lock()


@contextlib.contextmanager
def _main_without_origin() -> Iterator[None]:
    """Hide the main module's file, since multiprocessing would run it again in a child.

    A script without ``if __name__ == "__main__"`` would start over in each child, and Python code from the standard
    input has no file that a child could find. Until a child has this process's ``sys.path``, the current folder stays
    out of its own.
    """
    with _STARTING:
        safe_path = os.environ.get("PYTHONSAFEPATH")
        os.environ["PYTHONSAFEPATH"] = "1"
        attributes = vars(sys.modules["__main__"])
        origin: dict[str, Any] = {name: attributes.pop(name) for name in ("__file__", "__spec__") if name in attributes}
        attributes["__spec__"] = None
        try:
            yield
        finally:
            attributes.update(origin)
            del os.environ["PYTHONSAFEPATH"]
            if safe_path is not None:
                os.environ["PYTHONSAFEPATH"] = safe_path


class _WithoutScript(BaseProcess):
    def start(self) -> None:
        with _main_without_origin():
            super().start()


class _Spawned(_WithoutScript, SpawnProcess):
    pass


class _SpawnContext(SpawnContext):
    Process = _Spawned


#: Starts fresh interpreters. A function to run there must be importable: not of the caller's script.
SPAWN = _SpawnContext()

if sys.platform != "win32":
    from multiprocessing.context import ForkServerContext, ForkServerProcess

    class _ForkServed(_WithoutScript, ForkServerProcess):
        pass

    class _ForkServerContext(ForkServerContext):
        Process = _ForkServed

    #: Forks from one server process, which can import modules once for all.
    FORKSERVER = _ForkServerContext()


def end_with_parent() -> None:
    """Make this process exit as soon as its parent is gone, also in the middle of a computation or a hang."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent.sentinel,), daemon=True).start()


def _exit_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)  # nothing is left to report to, and other threads may be stuck
