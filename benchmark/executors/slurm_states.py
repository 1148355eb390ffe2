"""Asks Slurm by sacct and squeue which jobs have ended; needs submitit."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable

from submitit.slurm.slurm import SlurmInfoWatcher

ABSENCE_S = 300.0  # a job that is out of the queue for so long is not queued again
#: Base states of sacct after which Slurm queues no job again by itself (https://slurm.schedmd.com/job_state_codes.html).
ENDED = frozenset({"CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "OUT_OF_MEMORY", "TIMEOUT"})
#: States of a job that has ended or that waits for another start.
DISPLACED = frozenset({"BOOT_FAIL", "LAUNCH_FAILED", "NODE_FAIL", "PREEMPTED", "REVOKED"})


class QueueWatcher(SlurmInfoWatcher):  # type: ignore[misc, unused-ignore]  # where submitit is not installed
    """Determines which jobs have ended: by a final state, or after five minutes out of the queue.

    All other states (SUSPENDED, CONFIGURING, REQUEUE_HOLD, …) belong to living jobs as long as the queue lists them. A
    job that was preempted or that lost its node is queued again a little later, or never; sacct says PREEMPTED in both
    cases.

    Args:
        delay_s: maximum seconds between two requests to Slurm.
        clock: returns seconds.
    """

    def __init__(self, delay_s: int, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(delay_s=delay_s)
        self.clock = clock
        self.gone: set[str] = set()
        self._absent_since: dict[str, float] = {}

    def update(self) -> None:
        """Ask Slurm about all jobs."""
        listed = _listed()
        if listed is None:
            self._absent_since.clear()  # squeue did not answer
        else:
            now = self.clock()
            absent = self._registered - listed
            self._absent_since = {job: self._absent_since.get(job, now) for job in absent}
            self.gone = {job for job, since in self._absent_since.items() if now - since >= ABSENCE_S}
        super().update()

    def is_done(self, job_id: str, mode: str = "standard") -> bool:
        """Return whether a job has ended; submitit calls this method."""
        words = self.get_state(job_id, mode=mode).upper().split()  # CANCELLED by 1000
        return words[0] in ENDED or job_id in self.gone


def _listed() -> set[str] | None:
    """Return the user's jobs in the queue, each task of an array separately; ``None`` if squeue fails."""
    command = ["squeue", "--noheader", "--array", "--states=all", f"--user={os.getuid()}", "--format=%i|%T"]
    try:
        queue = subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    rows = (line.strip().partition("|") for line in queue.stdout.splitlines())
    return {job for job, _, state in rows if state not in ENDED | DISPLACED}
