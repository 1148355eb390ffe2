"""Interrupts a study while its second run works, as Ctrl-C in a terminal does."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path


def interrupt_second_run(words: Sequence[str | Path], folder: Path) -> tuple[int, str]:
    """Start Python in a folder, interrupt it, and return its exit code and output.

    The study ``quick`` must train ``tinynet``, then ``waits``. Checks that no process stays behind, that the first run
    is kept and that the report tells of the second.
    """
    # Its own process group: a terminal's Ctrl-C reaches the parent and the workers alike.
    with subprocess.Popen(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "COLUMNS": "200", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # A shell that starts this suite in the background hands down an ignored SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        finished = folder / "results/quick/runs/omc-syn/tinynet/0/record.json"
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not (finished.is_file() and '"ok"' in finished.read_text()):
            time.sleep(0.1)
        time.sleep(1)  # the second run has begun
        os.killpg(process.pid, signal.SIGINT)
        # Ends only when every process that holds the pipe has ended: no worker is left behind.
        try:
            out, _ = process.communicate(timeout=60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert json.loads(finished.read_text())["status"] == "ok", out
    interrupted = folder / "results/quick/runs/omc-syn/waits/0/record.json"
    assert json.loads(interrupted.read_text())["status"] == "interrupted"
    assert "repeat 0 interrupted" in (folder / "results/quick/report/tables/accuracy.md").read_text("utf-8")
    assert not list((folder / "results").rglob("*.tmp"))
    return process.returncode, out
