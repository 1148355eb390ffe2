"""Tests claims: one owner at a time; exactly one process replaces a dead owner."""

from __future__ import annotations

import errno
import io
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmark.records import claims
from benchmark.utils.errors import UserError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def claim_of(folder: Path, number: int, **changes: object) -> Path:
    """Write a claim as some process would have left it."""
    folder.mkdir(parents=True, exist_ok=True)
    owner = {"machine": claims.machine(), "pid": os.getpid(), "started": claims.Owner.this().started} | changes
    file = folder / f"claim.{number}"
    file.write_text(json.dumps(owner))
    return file


@pytest.fixture
def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_claim_excludes_others_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with claims.acquire(folder) as claim:  # type: ignore[union-attr]
        assert claim.number == 1
        assert claims.acquire(folder) is None
        assert claims.holder(folder) == claims.Owner.this()
    assert names(folder) == []
    assert claims.holder(folder) is None
    with claims.acquire(folder) as again:  # type: ignore[union-attr]
        assert again.number == 1


def test_claim_names_no_machine_and_no_user(tmp_path: Path) -> None:
    with claims.acquire(tmp_path):  # type: ignore[union-attr]
        owner = json.loads((tmp_path / "claim.1").read_text())
    assert owner.keys() == {"machine", "pid", "started"}
    assert len(owner["machine"]) == 16
    int(owner["machine"], 16)


def test_dead_process_of_this_machine_is_replaced_at_once(tmp_path: Path, dead_pid: int) -> None:
    claim_of(tmp_path, 3, pid=dead_pid)
    with claims.acquire(tmp_path) as claim:  # type: ignore[union-attr]
        assert claim.number == 4
    assert names(tmp_path) == []


def test_later_process_of_the_same_number_is_not_the_owner(tmp_path: Path) -> None:
    claim_of(tmp_path, 1, started=1.0)
    assert claims.acquire(tmp_path) is not None


def test_corrected_clock_kills_no_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What systems report as times of day, they form from the clock of the moment."""
    claim_of(tmp_path, 1)
    boot_time, create_time = psutil.boot_time(), psutil.Process().create_time()
    monkeypatch.setattr(psutil, "boot_time", lambda: boot_time + 5)
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: create_time + 5)
    assert claims.acquire(tmp_path) is None


@pytest.mark.skipif(not Path("/proc/sys/kernel/random/boot_id").exists(), reason="Linux has a name for each start")
def test_machine_without_a_network_knows_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uuid, "getnode", lambda: random.getrandbits(48))  # as Python does where no card has a number
    claims.machine.cache_clear()
    before = claims.machine()
    claims.machine.cache_clear()
    assert claims.machine() == before


def test_full_disk_keeps_no_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, mode: str) -> io.IOBase:
        os.close(descriptor)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(claims, "open", full, raising=False)
    with pytest.raises(UserError, match="No space left on device"):
        claims.acquire(tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize("content", [None, "", "{", '{"pid": 1}', "[]"])
def test_another_machine_or_a_damaged_claim_is_dead_after_a_silence(tmp_path: Path, content: str | None) -> None:
    file = claim_of(tmp_path, 1, machine="f" * 16, pid=1)
    if content is not None:
        file.write_text(content)
    assert claims.acquire(tmp_path) is None
    long_ago = time.time() - claims.SILENCE_S - 5
    os.utime(file, (long_ago, long_ago))
    with claims.acquire(tmp_path) as claim:  # type: ignore[union-attr]
        assert claim.number == 2


def test_owner_gives_signs_of_life_and_leaves_a_successor_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "HEARTBEAT_S", 0.05)
    with claims.acquire(tmp_path):  # type: ignore[union-attr]
        file = tmp_path / "claim.1"
        os.utime(file, (1.0, 1.0))
        end = time.time() + 10
        while file.stat().st_mtime < 2 and time.time() < end:
            time.sleep(0.02)
        assert file.stat().st_mtime > 2
        other = claim_of(tmp_path, 2)
    assert names(tmp_path) == [other.name]  # what another process holds is not given back


def test_two_processes_that_saw_different_states_do_not_both_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One saw claim 1 just before it was given back and goes for 2, while another one has taken 1 anew."""
    claim = claim_of(tmp_path, 1, started=1.0)
    create = os.open

    def meanwhile(*arguments: Any) -> int:
        claim.unlink()
        claim_of(tmp_path, 1, machine="f" * 16)  # the newcomer, alive
        return create(*arguments)

    monkeypatch.setattr(os, "open", meanwhile)
    assert claims.acquire(tmp_path) is None
    assert names(tmp_path) == ["claim.1"]


def _contend(folder: Path, pipe: Connection) -> None:
    pipe.send("ready")
    pipe.recv()
    claim = claims.acquire(folder)
    pipe.send(claim is not None)
    pipe.recv()


@pytest.fixture
def contenders(tmp_path: Path) -> Iterator[list[Connection]]:
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for _ in range(3):
        ours, theirs = context.Pipe()
        processes.append(context.Process(target=_contend, args=(tmp_path / "run", theirs)))
        processes[-1].start()
        pipes.append(ours)
    for pipe in pipes:
        assert pipe.recv() == "ready"
    yield pipes
    for process in processes:
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()


@pytest.mark.parametrize("held", [False, True])
def test_one_of_many_processes_gets_the_claim(
    tmp_path: Path, contenders: list[Connection], held: bool, dead_pid: int
) -> None:
    if held:
        claim_of(tmp_path / "run", 1, pid=dead_pid)
    for pipe in contenders:
        pipe.send("go")
    assert sum(pipe.recv() for pipe in contenders) == 1


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file.run: cannot be claimed \(Not a directory\); choose another --results"):
        claims.acquire(tmp_path / "file" / "run")
