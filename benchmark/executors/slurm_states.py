"""Asks Slurm, by sacct and squeue, which jobs have ended; imported where submitit is there."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable

from submitit.slurm.slurm import SlurmInfoWatcher

ABSENCE_S = 300.0  # out of the queue, after which a job that may have been queued again will not come back
#: Base states of sacct after which Slurm queues no job again by itself (https://slurm.schedmd.com/job_state_codes.html).
ENDED = frozenset({"CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "OUT_OF_MEMORY", "TIMEOUT"})
#: Of a job that has ended, or that has been queued again: in the first case nobody runs it any more.
DISPLACED = frozenset({"BOOT_FAIL", "LAUNCH_FAILED", "NODE_FAIL", "PREEMPTED", "REVOKED"})


class QueueWatcher(SlurmInfoWatcher):  # type: ignore[misc, unused-ignore]  # where submitit is not installed
    """Tells which jobs have ended: in a final state, or out of the queue for five minutes.

    Any other state is that of a living job, whatever Slurm calls it (SUSPENDED, CONFIGURING, REQUEUE_HOLD, …), for as
    long as the queue lists it. A job that was preempted or that lost its node is queued again a little later, or never;
    sacct says PREEMPTED in both cases.
    """

    def __init__(self, delay_s: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without jobs.

        Args:
            delay_s: at most between two questions to Slurm.
            clock: seconds.
        """
        super().__init__(delay_s=delay_s)
        self.clock = clock
        self.gone: set[str] = set()
        self._absent_since: dict[str, float] = {}

    def update(self) -> None:
        """Ask Slurm about all jobs."""
        listed = _listed()
        if listed is None:
            self._absent_since.clear()  # nobody says that they are absent
        else:
            now = self.clock()
            absent = self._registered - listed
            self._absent_since = {job: self._absent_since.get(job, now) for job in absent}
            self.gone = {job for job, since in self._absent_since.items() if now - since >= ABSENCE_S}
        super().update()

    def is_done(self, job_id: str, mode: str = "standard") -> bool:
        """Tell whether a job has ended; submitit's name for the question."""
        words = self.get_state(job_id, mode=mode).upper().split()  # CANCELLED by 1000
        return words[0] in ENDED or job_id in self.gone


def _listed() -> set[str] | None:
    """Return the user's jobs that are in the queue, each task of an array by itself; ``None`` if Slurm does not say."""
    command = ["squeue", "--noheader", "--array", "--states=all", f"--user={os.getuid()}", "--format=%i|%T"]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    rows = (line.strip().partition("|") for line in done.stdout.splitlines())
    return {job for job, _, state in rows if state not in ENDED | DISPLACED}
