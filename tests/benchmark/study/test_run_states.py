"""Tests the status of every planned run, for people and for programs."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable

import pytest
import torch

from benchmark.cli.plan_table import WIDEST, print_states
from benchmark.cli.progress import open_console
from benchmark.config.protocol import Protocol, load_protocol
from benchmark.records import claims
from benchmark.records.run_record import Failure
from benchmark.records.store import CHECKPOINT
from benchmark.runs.jobs import TrainJob
from benchmark.study.plan import make_plan
from benchmark.study.run_states import RunState, states
from benchmark.study.study import Study
from benchmark.training.checkpoint import Checkpoint
from benchmark.utils.errors import UserError
from tests.benchmark.conftest import SMALL

MakeStudy = Callable[..., Study]
FAILURE = Failure(kind="out_of_memory", message="too large")


def write(study: Study, job: TrainJob, status: str = "ok", failure: Failure | None = None) -> None:
    study.store.write_run(job.record(status=status, failure=failure), {}, [], None)


def save(job: TrainJob, steps: int, key: str | None = None) -> None:
    Checkpoint(job.folder / CHECKPOINT, key or job.key).save({"steps": steps, "network": {"w": torch.zeros(5)}})


def of(study: Study, **flags: bool) -> list[tuple[str, str]]:
    return [(result.state, result.why) for result in states(study, make_plan(study, refuse=False, **flags))]


@pytest.fixture
def study(make_study: MakeStudy) -> Study:
    return make_study(load_protocol("quick", [*SMALL, "repeats=6"]))


def test_every_run_has_its_state_in_order(study: Study) -> None:
    jobs = make_plan(study).todo
    write(study, jobs[0])
    write(study, jobs[1], "failed", FAILURE)
    write(study, jobs[2], "interrupted")
    save(jobs[2], 2)
    write(study, jobs[3], "interrupted")
    with claims.acquire(jobs[4].folder) or pytest.fail("not free"):
        result = states(study, make_plan(study))
    assert [(run.train, run.model, run.repeat) for run in result] == [("omc-syn", "tinynet", n) for n in range(6)]
    assert [(run.state, run.why) for run in result] == [
        ("done", ""),
        ("failed", "out_of_memory: too large"),
        ("interrupted", "goes on from last.pt at step 2"),
        ("interrupted", "begins anew"),
        ("claimed", "another process is doing it"),
        ("missing", ""),
    ]


def test_killed_run_leaves_a_checkpoint_but_no_record(study: Study) -> None:
    jobs = make_plan(study).todo
    save(jobs[0], 2)
    save(jobs[1], 2, key="of other settings")
    (jobs[2].folder).mkdir(parents=True)
    (jobs[2].folder / CHECKPOINT).write_bytes(b"half a file")
    assert of(study)[:3] == [("interrupted", "goes on from last.pt at step 2"), ("missing", ""), ("missing", "")]


def test_dead_owner_s_claim_holds_nothing(study: Study) -> None:
    folder = make_plan(study).todo[0].folder
    folder.mkdir(parents=True)
    pid = os.spawnlp(os.P_NOWAIT, "true", "true")
    os.waitpid(pid, 0)
    (folder / "claim.1").write_text(f'{{"machine": "{claims.machine()}", "pid": {pid}, "started": 1.0}}')
    assert of(study)[0] == ("missing", "")


def test_failed_runs_that_will_be_tried_again_say_from_where(study: Study) -> None:
    job = make_plan(study).todo[0]
    write(study, job, "failed", FAILURE)
    save(job, 2)
    raised = "goes on from last.pt at step 2; failed with out_of_memory: too large"
    assert of(study, retry_failed=True)[0] == ("failed", raised)


def test_stale_runs_have_reasons_and_come_last_if_not_asked_for(small: Protocol, make_study: MakeStudy) -> None:
    study = make_study(small, "TinyNet", "Raises")
    for job in make_plan(study).todo:
        write(study, job)
    study.store.write_protocol(small)
    other = make_study(load_protocol("quick", [*SMALL, "training.weight_decay=0.5", "repeats=2"]))
    result = states(other, make_plan(other, refuse=False))
    assert [(run.model, run.repeat) for run in result] == [(m, n) for m in ("tinynet", "raises") for n in range(3)]
    assert {(run.state, run.why) for run in result} == {("stale", "training.weight_decay: 0.0 -> 0.5")}
    with pytest.raises(UserError, match=r"6 runs"):
        make_plan(other)
    assert make_plan(other, refuse=False).refusal
    assert not make_plan(other, replace_stale=True).refusal


def printed(runs: list[RunState], *, terminal: bool) -> list[str]:
    text = io.StringIO()
    print_states(open_console(file=text, force_terminal=terminal, no_color=True, width=120), runs)
    return [re.sub(r"\x1b\[\d*m", "", line).rstrip() for line in text.getvalue().splitlines()]


RUNS = [
    RunState("omc-syn", "unet", 0, "done"),
    RunState("omc-syn", "unet", 1, "stale", "training.lr: 1 -> 2"),
    RunState("omc-syn", "unet", 2, "stale", "training.lr: 1 -> 2"),
    RunState("omc-syn", "fcn", 0, "missing"),
    RunState("omc-syn", "fcn", 2, "failed", "error: [what]"),
    RunState("miic-syn", "unet", 0, "claimed", "another process is doing it"),
]


def test_terminal_shows_a_letter_per_run_and_a_line_for_its_reason() -> None:
    lines = printed(RUNS, terminal=True)
    assert [line.split() for line in lines[:5]] == [
        ["omc-syn", "repeats", "0", "to", "2"],
        ["unet", "D", "S", "S"],
        ["fcn", ".", "F"],
        ["miic-syn", "repeat", "0"],
        ["unet", "C"],
    ]
    assert lines[2].index("F") == lines[1].rindex("S")  # under its own repeat
    assert lines[5:] == [
        "D done  . missing  F failed  S stale  C claimed",
        "omc-syn unet repeat 1, 2: stale (training.lr: 1 -> 2)",
        "omc-syn fcn repeat 2: failed (error: [what])",
        "miic-syn unet repeat 0: claimed (another process is doing it)",
    ]


def test_more_repeats_than_fit_a_line_are_counted() -> None:
    runs = [RunState("omc-syn", "unet", n, "done" if n else "missing") for n in range(WIDEST + 1)]
    assert printed(runs, terminal=True)[1].split(maxsplit=1) == ["unet", f"{WIDEST} done, 1 missing"]


def test_program_reads_one_line_per_run() -> None:
    lines = printed(RUNS, terminal=False)
    assert len(lines) == len(RUNS)
    assert lines[:2] == ["omc-syn unet repeat 0: done", "omc-syn unet repeat 1: stale (training.lr: 1 -> 2)"]
