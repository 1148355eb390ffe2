"""Decides by files alone which process does a run, also across machines.

Locks are unreliable on network disks; the exclusive creation of a file is reliable. A claim is a file ``claim.<n>``,
which its owner touches every few seconds. A process that finds the owner dead creates ``claim.<n+1>``. Of two processes
that see the same dead owner, only one can create this file.

``filelock.SoftFileLease`` (filelock 4.3) does not replace this module. Its file holds the host name and stays after a
kill; it takes the claim of a living owner on another machine of the same host name; and a process has to watch a silent
owner for two minutes before it may take over, even if the owner has been silent for days.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from benchmark.utils.errors import UserError

HEARTBEAT_S = 10.0  # between two touches of a claim
#: An owner on another machine counts as dead after this silence. If it only slept, it works beside the new owner; both
#: write whole files of the same run.
SILENCE_S = 120.0


@functools.cache
def machine() -> str:
    """Return a hash that differs between machines and between starts of a machine, and hides the machine's name."""
    facts = []
    with contextlib.suppress(OSError):
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text("utf-8"))
        facts.append(os.readlink("/proc/self/ns/pid"))  # containers of one machine number their processes apart
    if not facts:
        # Only on other systems than Linux: in a Linux container without a network, getnode() is random in each process.
        facts = [f"{uuid.getnode():x}", f"{psutil.boot_time():.0f}"]
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Owner:
    """A process; ``started`` (seconds after its machine) tells it from a later process of the same number."""

    machine: str
    pid: int
    started: float

    @classmethod
    def this(cls) -> Owner:
        """Return this process as an owner."""
        return cls(machine(), os.getpid(), _started(psutil.Process()))

    def is_gone(self) -> bool:
        """Return whether the owner is a process of this machine that no longer runs."""
        if self.machine != machine():
            return False
        try:
            process = psutil.Process(self.pid)
            # Within a second (rounding), no other process gets the same number.
            return abs(_started(process) - self.started) > 1 or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True
        except psutil.AccessDenied:
            return False


def _started(process: psutil.Process) -> float:
    """Return when a process started, in seconds after the machine: a corrected clock changes times of day."""
    booted = psutil.boot_time()
    return process.create_time() - booted


class Claim(contextlib.AbstractContextManager["Claim"]):
    """The right to write into a folder; the context manager gives it back at its end."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder, self.number = folder, number
        self._end = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)
        self._heart.start()

    def __exit__(self, *_: object) -> None:
        """Give the claim back; older numbers go first, so that no other process sees one of them as the last."""
        self._end.set()
        self._heart.join()
        for number, file in sorted(_numbered(self.folder)):
            if number <= self.number:
                file.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._end.wait(HEARTBEAT_S):
            with contextlib.suppress(OSError):  # the disk may be away for a moment
                os.utime(self.folder / f"claim.{self.number}")


def acquire(folder: Path) -> Claim | None:
    """Claim a folder, or return ``None`` if a living process has claimed it.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = max(_numbered(folder), default=None)
        if held is not None and not _is_dead(held[1]):
            return None
        number = 1 if held is None else held[0] + 1
        owner = json.dumps(asdict(Owner.this())).encode()
        with contextlib.suppress(FileExistsError):
            claim = folder / f"claim.{number}"
            descriptor = os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            try:
                with open(descriptor, "wb") as file:
                    file.write(owner)
            except OSError:  # a full disk; a claim without an owner would hold the folder for SILENCE_S
                claim.unlink()
                raise
            # A process that saw the folder before the last owner gave it back may have taken another number meanwhile:
            # of two such processes, at least one sees the other here.
            if any(other > number or not _is_dead(path) for other, path in _numbered(folder) if other != number):
                claim.unlink()
                return None
            return Claim(folder, number)
        return None  # another process was faster
    except OSError as error:
        raise UserError(f"{folder}: cannot be claimed ({error.strerror or error}); choose another --results") from error


def holder(folder: Path) -> Owner | None:
    """Return the living process that has claimed a folder, or ``None``."""
    held = max(_numbered(folder), default=None)
    return _owner(held[1]) if held is not None and not _is_dead(held[1]) else None


def _numbered(folder: Path) -> Iterator[tuple[int, Path]]:
    for file in folder.glob("claim.*"):
        if match := re.fullmatch(r"claim\.(\d+)", file.name):
            yield int(match[1]), file


def _is_dead(file: Path) -> bool:
    """Return whether the owner is gone: known at once on this machine, after a silence on another."""
    owner = _owner(file)
    if owner is not None and owner.machine == machine():
        return owner.is_gone()
    try:
        return _now(file.parent) - file.stat().st_mtime > SILENCE_S
    except FileNotFoundError:
        return True  # given back meanwhile


def _owner(file: Path) -> Owner | None:
    try:
        return Owner(**json.loads(file.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None  # being written now, or damaged: its age decides


def _now(folder: Path) -> float:
    """Return the time by the clock of the folder's disk: clocks of machines that share a disk differ by minutes."""
    probe = folder / f".clock.{uuid.uuid4().hex[:8]}.tmp"
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        probe.unlink(missing_ok=True)
