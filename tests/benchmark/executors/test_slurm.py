"""Tests Slurm arrays on submitit's local executor and on substitutes of Slurm's commands; preempted runs continue."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmark.config.protocol import Protocol, load_protocol
from benchmark.devices.hardware_slots import Hardware
from benchmark.executors.events import Event, Started
from benchmark.executors.remote import parcels
from benchmark.executors.slurm import SlurmExecutor, SlurmOptions, Submission
from benchmark.records.run_record import Record
from benchmark.runs.jobs import TrainJob
from benchmark.study.execute import execute
from benchmark.study.plan import make_plan
from benchmark.study.study import Study
from tests.benchmark import fake_slurm
from tests.benchmark.conftest import SMALL, TINY, Call, Measured, tiny_run
from tests.benchmark.executors.in_process import InProcessExecutor, outcomes
from tests.benchmark.pretend import trainings

pytest.importorskip("submitit", reason="needs submitit: pip install -e '.[slurm]'")


class Watched(SlurmExecutor):
    """Keeps what it submitted."""

    def _submit(self, group: Any, *, exclusive: bool) -> Any:
        self.submitted = super()._submit(group, exclusive=exclusive)
        return self.submitted


def watched(study: Study, cluster: str = "local", **more: Any) -> Watched:
    return Watched(study.folder / "slurm", SlurmOptions(), threads=1, gpu=False, cluster=cluster, **more)


@pytest.fixture
def slurm(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("slurm")
    fake_slurm.install(folder)
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    monkeypatch.setenv("PATH", str(folder / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]), prepend=os.pathsep)
    return folder


@pytest.mark.slow
def test_array_does_what_local_slots_do(make_study: Callable[..., Study]) -> None:
    protocol = load_protocol("quick", [*SMALL, "repeats=1"])
    study = make_study(protocol, "TinyNet", "Dies", name="array")
    study.hardware = Hardware("cpu", 1, remote=True)
    events: list[Event] = []
    execute(study, trainings(make_plan(study)), watched(study), events.append)
    ends = outcomes(events)
    assert isinstance(ends["omc-syn tinynet repeat 0"], Record)
    assert "SIGKILL" in ends["omc-syn dies repeat 0"].message
    assert [record.model for record in make_plan(study).failed] == ["dies"]

    here = make_study(protocol, "TinyNet", name="here")
    execute(here, trainings(make_plan(here)), InProcessExecutor(), lambda event: None)
    (expected,) = (record for _, record in here.store.records())
    assert ends["omc-syn tinynet repeat 0"].metrics == expected.metrics


def signal_all(process: psutil.Process, number: int) -> None:
    """Send a signal to a process and all below it, as Slurm does."""
    for one in [process, *process.children(recursive=True)]:
        one.send_signal(number)


@pytest.mark.slow
def test_preempted_run_goes_on_from_its_checkpoint(make_study: Callable[..., Study]) -> None:
    protocol = load_protocol("quick", [*SMALL, "repeats=1", "training.steps=24"])
    study = make_study(protocol, "Slow", name="array")
    plan = trainings(make_plan(study))
    executor = watched(study)

    def preempt(event: Event) -> None:
        events.append(event)
        if not isinstance(event, Started):
            return
        checkpoint, deadline = plan.todo[0].folder / "last.pt", time.monotonic() + 120
        while not checkpoint.is_file() and time.monotonic() < deadline:
            time.sleep(0.1)
        ((job, _),) = executor.submitted.items()
        (task,) = psutil.Process(int(job.job_id)).children()
        signal_all(task, signal.SIGUSR2)
        task.wait(30)
        # Another machine would have to wait until a claim is old.
        left.extend(plan.todo[0].folder.glob("claim.*"))

    events: list[Event] = []
    left: list[Path] = []
    execute(study, plan, executor, preempt)
    assert left == []
    (outcome,) = outcomes(events).values()
    assert isinstance(outcome, Record)
    assert plan.todo[0].log.read_text().count("begun") == 2
    assert any("Requeued job" in file.read_text() for file in executor.folder.glob("*_log.out"))
    here = make_study(protocol, "TinyNet", name="here")
    execute(here, trainings(make_plan(here)), InProcessExecutor(), lambda event: None)
    assert [record.metrics for _, record in here.store.records()] == [outcome.metrics]


@pytest.mark.slow
def test_killed_job_is_a_typed_failure(make_study: Callable[..., Study]) -> None:
    study = make_study(load_protocol("quick", [*SMALL, "repeats=1"]), "Waits", name="array")
    study.hardware = Hardware("cpu", 1, remote=True)
    executor = watched(study)

    def kill(event: Event) -> None:
        events.append(event)
        if isinstance(event, Started):
            ((job, _),) = executor.submitted.items()
            (task,) = psutil.Process(int(job.job_id)).children()
            task.kill()

    events: list[Event] = []
    execute(study, trainings(make_plan(study)), executor, kill)
    (failure,) = outcomes(events).values()
    assert failure.kind == "worker_died"
    assert "ended without an answer" in failure.message
    (record,) = (record for _, record in study.store.records())
    assert record.environment.keys() == {"device", "threads", "determinism"}  # nothing of this machine


def test_closing_the_iterator_cancels_jobs(make_study: Callable[..., Study], slurm: Path) -> None:
    study = make_study(load_protocol("quick", [*SMALL, "repeats=2"]), "Waits", name="array")
    study.store.write_protocol(study.protocol)
    events = watched(study, "slurm").run(trainings(make_plan(study)).todo)
    next(event for event in events if isinstance(event, Started))
    events.close()
    deadline = time.monotonic() + 20
    states: set[str] = set()
    while states != {"FAILED"} and time.monotonic() < deadline:
        time.sleep(0.2)
        states = {file.read_text() for file in slurm.glob("*.state")}
    assert states == {"FAILED"}
    assert (slurm / "4711_1.state").is_file()


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def is_done(watcher: Any) -> bool:
    """Ask Slurm about the only job, then say what is known of it."""
    watcher.update()
    return watcher.is_done("4711_0", mode="cache")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watcher(slurm: Path, clock: Clock) -> Any:
    from benchmark.executors.slurm_states import QueueWatcher

    watcher = QueueWatcher(0, clock)
    watcher.register_job("4711_0")
    return watcher


ALIVE = [
    "PENDING",
    "RUNNING",
    "SUSPENDED",
    "STOPPED",
    "CONFIGURING",
    "POWER_UP_NODE",
    "STAGE_OUT",
    "REQUEUED",
    "REQUEUE_HOLD",
    "REQUEUE_FED",
    "RESIZING",
    "SIGNALING",
    "COMPLETING",
    "SPECIAL_EXIT",
    "A_STATE_OF_TOMORROW",
]
FINAL = ["COMPLETED", "FAILED", "CANCELLED by 1000", "TIMEOUT", "OUT_OF_MEMORY", "DEADLINE"]


def test_jobs_have_ended_in_final_states_and_are_alive_in_all_others(slurm: Path, watcher: Any, clock: Clock) -> None:
    states = {f"4711_{index}": state for index, state in enumerate(ALIVE + FINAL)}
    for job, state in states.items():
        (slurm / f"{job}.state").write_text(state)
        watcher.register_job(job)
    for clock.now in (0.0, 3600.0):
        watcher.update()
        assert [state for job, state in states.items() if watcher.is_done(job, mode="cache")] == FINAL


SLOW = pytest.mark.slow  # nine commands each
DISPLACED = ["PREEMPTED", pytest.param("NODE_FAIL", marks=SLOW), pytest.param("BOOT_FAIL", marks=SLOW)]


@pytest.mark.parametrize("state", DISPLACED)
def test_displaced_job_has_ended_after_five_minutes_out_of_the_queue(
    slurm: Path, watcher: Any, clock: Clock, state: str
) -> None:
    def at(seconds: float, state: str) -> bool:
        (slurm / "4711_0.state").write_text(state)
        clock.now = seconds
        return is_done(watcher)

    assert not at(0, state)
    assert not at(299, state)
    assert not at(310, "PENDING")  # it was queued again
    assert not at(500, state)
    assert not at(799, state)
    (slurm / "squeue.refuses").touch()
    assert not at(900, state)  # nobody knows
    (slurm / "squeue.refuses").unlink()
    assert not at(1000, state)
    assert at(1300, state)


def test_job_out_of_the_queue_has_ended_although_sacct_lists_it_as_running(
    slurm: Path, watcher: Any, clock: Clock
) -> None:
    (slurm / "4711_0.state").write_text("RUNNING")
    (slurm / "4711_0.absent").touch()
    assert not is_done(watcher)
    clock.now = 300
    assert is_done(watcher)


def preempt_once_begun(executor: Watched, plan: Any, slurm: Path, events: list[Event]) -> Callable[[Event], None]:
    """Return a listener that preempts the run when its first checkpoint is there."""

    def listen(event: Event) -> None:
        events.append(event)
        if isinstance(event, Started):
            checkpoint, deadline = plan.todo[0].folder / "last.pt", time.monotonic() + 120
            while not checkpoint.is_file() and time.monotonic() < deadline:
                time.sleep(0.1)
            fake_slurm.preempt("4711", slurm)

    return listen


@pytest.mark.slow
def test_run_that_is_queued_again_after_its_preemption_is_collected(
    make_study: Callable[..., Study], slurm: Path
) -> None:
    protocol = load_protocol("quick", [*SMALL, "repeats=1", "training.steps=24"])
    study = make_study(protocol, "Slow", name="array")
    looks: list[str] = []

    def queue_again_at_the_second_look() -> float:
        looks.append((slurm / "4711.state").read_text())
        if looks.count("PREEMPTED") == 2:
            fake_slurm.queue_again("4711")
        return 0.0

    plan, events = trainings(make_plan(study)), list[Event]()
    executor = watched(study, "slurm", ask_s=0, clock=queue_again_at_the_second_look)
    execute(study, plan, executor, preempt_once_begun(executor, plan, slurm, events))
    (outcome,) = outcomes(events).values()
    assert isinstance(outcome, Record)
    assert looks.count("PREEMPTED") == 2
    assert plan.todo[0].log.read_text().count("begun") == 2
    assert [record.status for _, record in study.store.records()] == ["ok"]


@pytest.mark.slow
def test_run_that_is_preempted_for_good_fails_and_can_be_retried(make_study: Callable[..., Study], slurm: Path) -> None:
    protocol = load_protocol("quick", [*SMALL, "repeats=1", "training.steps=24"])
    study = make_study(protocol, "Slow", name="array")
    study.hardware = Hardware("cpu", 1, remote=True)
    clock, events = itertools.count(0, 200), list[Event]()
    plan = trainings(make_plan(study))
    executor = watched(study, "slurm", ask_s=0, clock=lambda: next(clock))
    execute(study, plan, executor, preempt_once_begun(executor, plan, slurm, events))
    (failure,) = outcomes(events).values()
    assert failure.kind == "worker_died"
    assert "last state PREEMPTED, is out of the queue for five minutes" in failure.message
    assert [record.status for _, record in study.store.records()] == ["failed"]
    execute(study, trainings(make_plan(study, retry_failed=True)), InProcessExecutor(), lambda event: None)
    assert [record.status for _, record in study.store.records()] == ["ok"]
    assert plan.todo[0].log.read_text().count("begun") == 2  # it went on from its checkpoint


def test_study_is_done_on_slurm_s_commands_once(call: Call, slurm: Path, measured: Measured) -> None:
    measured("quick")
    arguments = tiny_run("--executor", "slurm", "--slurm", "time=02:30:00,cache=near")
    code, out, err = call(*arguments)
    assert code == 0, err + out
    assert "Engine: Slurm, time=150, array=64, cache=near" in out
    assert "slurm: job 4711, 1 run" in out
    assert "[1/1] omc-syn tinynet repeat 0" in out
    assert len(list(Path("near/packs").iterdir())) == 1
    code, out, err = call(*arguments)
    assert code == 0
    assert not (slurm / "4712.sbatch").exists()


def test_options_reach_sbatch(make_study: Callable[..., Study], slurm: Path) -> None:
    study = make_study(load_protocol("quick", [*SMALL, "repeats=2"]), "Waits", name="array")
    study.store.write_protocol(study.protocol)
    plan = make_plan(study)
    options = SlurmOptions.parse("partition=gpu,cpu,account=chips,time=02:30:00,array=2,mem=8")
    events = SlurmExecutor(study.folder / "slurm", options, threads=1, gpu=False).run([*plan.todo, *plan.measurements])
    notes = [next(events), next(events)]
    events.close()
    assert [note.text.partition(";")[0] for note in notes] == ["job 4711, 1 measurement", "job 4712, 2 runs"]
    measurements, runs = ((slurm / f"{number}.sbatch").read_text().splitlines() for number in (4711, 4712))
    common = {"--partition=gpu,cpu", "--account=chips", "--time=150", "--mem=8GB", "--cpus-per-task=1", "--requeue"}
    for lines in (measurements, runs):
        assert {f"#SBATCH {flag}" for flag in (*common, "--signal=USR2@90", "--job-name=benchmark")} <= set(lines)
    assert "#SBATCH --exclusive" in measurements
    assert "#SBATCH --exclusive" not in runs
    assert "#SBATCH --array=0-1%2" in runs
    assert not any("--gpus" in line for line in runs)


def test_jobs_inherit_nothing_of_the_job_that_they_are_submitted_in(
    make_study: Callable[..., Study], slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inherited = {"SLURM_JOB_ID": "7", "SLURM_CPU_BIND": "quiet,mask_cpu:0x1", "SLURM_MEM_PER_CPU": "8192"}
    for name, value in {**inherited, "SLURM_CONF": "/etc/slurm.conf"}.items():
        monkeypatch.setenv(name, value)
    study = make_study(load_protocol("quick", [*SMALL, "repeats=1"]), "Waits", name="array")
    study.store.write_protocol(study.protocol)
    events = watched(study, "slurm").run(trainings(make_plan(study)).todo)
    next(events)
    events.close()
    assert (slurm / "4711.variables").read_text() == "SLURM_CONF"
    assert {name: os.environ[name] for name in inherited} == inherited


def test_refusal_of_sbatch_is_one_message(call: Call, slurm: Path) -> None:
    code, _, err = call(*tiny_run("--executor", "slurm", "--slurm", "partition=nowhere"))
    assert code == 2
    assert "--slurm: sbatch refuses (sbatch: error: invalid partition specified: nowhere)" in err
    assert "Traceback" not in err


def test_machine_without_slurm_is_refused(call: Call) -> None:
    code, _, err = call(*tiny_run("--executor", "slurm"))
    assert code == 2
    assert "--executor slurm: no srun on this machine" in err


def test_gpus_and_whole_nodes_are_asked_for(tmp_path: Path) -> None:
    def asked(options: str = "", *, exclusive: bool = False) -> dict[str, Any]:
        executor = SlurmExecutor(tmp_path, SlurmOptions.parse(options), threads=8, gpu=True)
        return {name: value for name, value in executor.parameters(exclusive=exclusive).items() if value is not None}

    assert (asked()["gpus_per_node"], asked()["cpus_per_task"], asked()["timeout_min"]) == (1, 8, 1440)
    assert "slurm_exclusive" not in asked()
    assert asked(exclusive=True)["slurm_exclusive"] is True
    assert asked("gres=gpu:a100:1")["slurm_gres"] == "gpu:a100:1"
    assert "gpus_per_node" not in asked("gres=gpu:a100:1")


@pytest.mark.skipif(sys.platform == "win32", reason="Slurm is for Linux")
def test_interrupted_submission_is_submitted_again_unchanged(
    make_job: Callable[..., TrainJob], small: Protocol
) -> None:
    submission = Submission(*parcels([make_job(small)]))
    assert submission.checkpoint().function == submission


def test_plan_for_nodes_with_gpus_needs_no_torch_here(tmp_path: Path) -> None:
    code = (
        "import sys; from benchmark.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert not {'torch', 'submitit'} & set(sys.modules)"
    )
    arguments = ["run", "--models", "all", "--datasets", "omc", "--executor", "slurm", "--device", "cuda", "--dry-run"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(TINY.parents[2]), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "runs on cuda:0" in done.stdout
    assert "Engine: Slurm" in done.stdout
    assert list(tmp_path.iterdir()) == []
