"""Tests jobs that several processes have planned: one process does each, and no other touches its files."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmark.cli.plan_table import print_plan
from benchmark.cli.progress import open_console
from benchmark.cli.study_display import StudyDisplay
from benchmark.config.protocol import Protocol, load_protocol
from benchmark.data.splits import Division
from benchmark.devices import facts
from benchmark.devices.hardware_slots import Hardware
from benchmark.executors.events import Event, Finished
from benchmark.records import claims, environment
from benchmark.records.efficiency_record import MEASURING, EfficiencyRecord, EfficiencySettings, Origin
from benchmark.records.run_record import Failure, Record
from benchmark.records.store import RECORD, Shared
from benchmark.runs.jobs import EfficiencyJob, Elsewhere, TrainJob
from benchmark.runs.perform import perform_job, record_end
from benchmark.runs.train import train_and_test
from benchmark.study import measure_study
from benchmark.study.execute import execute
from benchmark.study.plan import make_plan
from benchmark.study.study import Study
from benchmark.utils.errors import UserError
from tests.benchmark.conftest import SMALL
from tests.benchmark.executors.in_process import InProcessExecutor
from tests.benchmark.report import fake

MakeStudy = Callable[..., Study]


def silent(done: int, total: int) -> None: ...


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Measure in no time; return the names of what was measured."""
    result: list[str] = []

    def measure(entry: object, height: int, width: int, **settings: object) -> EfficiencyRecord:
        name = entry.name  # type: ignore[attr-defined]
        fake.write_efficiency(tmp_path / "made", name, height, threads=settings["threads"])
        result.append(name)
        file = tmp_path / f"made/efficiency/{name}.{height}x{height}.cpu.float32.json"
        return EfficiencyRecord.from_json(file.read_bytes())

    monkeypatch.setattr("benchmark.efficiency.measure.measure", measure)
    monkeypatch.setattr("benchmark.runs.perform.POLL_S", 0.02)
    return result


def later(file: Path) -> None:
    """Let a file look as if written a second later: disks count time in steps."""
    moment = file.stat().st_mtime_ns + 10**9
    os.utime(file, ns=(moment, moment))


def test_two_calls_that_planned_the_same_measurement_take_it_once(
    make_study: MakeStudy, small: Protocol, measured: list[str]
) -> None:
    (first,), (second,) = (make_plan(make_study(small)).measurements for _ in range(2))
    assert perform_job(first, silent) is None
    outcome = perform_job(second, silent)
    assert isinstance(outcome, Elsewhere)
    assert outcome.record == EfficiencyRecord.from_json(first.file.read_bytes())
    assert measured == ["tinynet"]
    assert not list(first.folder.glob("claim.*"))
    assert make_plan(make_study(small)).measurements == []


def test_profile_replaces_old_figures_but_not_those_of_another_process_meanwhile(
    make_study: MakeStudy, small: Protocol, measured: list[str], tmp_path: Path
) -> None:
    def plan() -> EfficiencyJob:
        study = make_study(small)
        (job,) = measure_study.profile_jobs(study.folder, study.models, "32", "float32", [Hardware("cpu", 1)], 1)
        return job

    assert perform_job(plan(), silent) is None
    first, second = plan(), plan()
    assert perform_job(first, silent) is None
    later(first.file)
    assert isinstance(perform_job(second, silent), Elsewhere)
    assert len(measured) == 2


def test_measurement_waits_for_another_process_s_and_for_nothing_once_that_is_dead(
    make_study: MakeStudy, small: Protocol, measured: list[str]
) -> None:
    job, other = (make_plan(make_study(small, name)).measurements[0] for name in ("TinyNet", "Raises"))
    claim = claims.acquire(other.folder)
    assert claim is not None
    thread = threading.Thread(target=perform_job, args=(job, silent))
    thread.start()
    time.sleep(0.3)
    assert measured == []  # two at once would slow each other
    claim.__exit__()
    thread.join(timeout=20)
    assert measured == ["tinynet"]


def test_trainings_of_another_call_on_this_machine_are_a_warning_in_the_figures(
    make_study: MakeStudy, small: Protocol, measured: list[str]
) -> None:
    plan = make_plan(make_study(small))
    (job,) = plan.measurements
    claim = claims.acquire(plan.todo[0].folder)
    assert claim is not None
    with claim:
        perform_job(job, silent)
    warning = "another process was doing 1 run of this study on the machine meanwhile"
    assert EfficiencyRecord.from_json(job.file.read_bytes()).warnings == (warning,)
    job.file.unlink()
    perform_job(job, silent)
    assert EfficiencyRecord.from_json(job.file.read_bytes()).warnings == ()


def test_measurements_of_another_process_are_reported(make_study: MakeStudy, small: Protocol) -> None:
    study = make_study(small)
    plan = make_plan(study)
    fake.write_efficiency(study.folder, "tinynet", 32, threads=1)
    events: list[Event] = []
    execute(study, replace(plan, todo=[]), InProcessExecutor(measures=True), events.append)
    (end,) = (event for event in events if isinstance(event, Finished))
    assert (end.outcome, end.elsewhere) == (None, True)


MEASURED = "2026-11-29T09:53:30+00:00"


def origin(job: EfficiencyJob, **changes: object) -> Origin:
    facts: dict[str, object] = {
        "machine": claims.machine(), "measuring": MEASURING, "variables": environment.kernel_variables(),
        "measured": MEASURED,
    }  # fmt: skip
    return Origin.model_validate(facts | changes)


def measured_elsewhere(job: EfficiencyJob, study: str = "earlier", **changes: object) -> None:
    """Leave figures of the job in another study of the results folder, as they would be measured now."""
    now: dict[str, object] = {
        "name": facts.cpu_name(), "threads": job.threads, "settings": job.settings, "torch": torch.__version__,
        "origin": origin(job),
    }  # fmt: skip
    fake.write_efficiency(job.study.parent / study, job.entry.name, job.size, **(now | changes))  # type: ignore[arg-type]


def test_figures_of_another_study_that_measuring_would_give_again_are_taken_over(
    make_study: MakeStudy, small: Protocol, measured: list[str]
) -> None:
    study = make_study(small)
    before = make_plan(study)
    (job,) = before.measurements
    measured_elsewhere(job)
    plan = make_plan(study)
    assert plan.taken_over == ["earlier"]
    assert plan.seconds < before.seconds
    assert perform_job(job, silent) is None
    assert measured == []
    result = job.stored()
    assert result is not None
    assert result.origin == origin(job, taken_from="earlier")
    assert job.outcome() == f"taken over from study earlier, measured {MEASURED}"
    assert make_plan(study).measurements == []
    # A third study names the one that measured.
    (again,) = make_plan(make_study(small, name="third")).measurements
    (job.study.parent / "earlier/efficiency" / job.file.name).unlink()
    taken = again.taken_over()
    assert taken is not None
    assert taken.origin == origin(job, taken_from="earlier")


@pytest.mark.parametrize(
    "differs",
    [
        *({"hindered": ("the processor was taken away for 64% of the time",)}, {"origin": None}, {"threads": 2}),
        *({"name": "another processor"}, {"torch": "2.9.0"}, {"in_channels": 3}),
        *({"model_version": 2}, {"network_code": "another"}),
        {"settings": EfficiencySettings(throughput_seconds=0.5)},
        {"settings": EfficiencySettings(budget_seconds=5.0)},
    ],
    ids=str,
)
def test_other_figures_are_not_taken_over(make_study: MakeStudy, small: Protocol, differs: dict[str, object]) -> None:
    study = make_study(small)
    (job,) = make_plan(study).measurements
    measured_elsewhere(job, **differs)
    assert job.taken_over() is None
    assert make_plan(study).taken_over == []


@pytest.mark.parametrize(
    "differs",
    [{"machine": "another"}, {"measuring": 0}, {"variables": {"MKL_CBWR": "AVX2"}}],
    ids=str,
)
def test_figures_of_another_start_way_or_kernels_are_not_taken_over(
    make_study: MakeStudy, small: Protocol, differs: dict[str, object]
) -> None:
    (job,) = make_plan(make_study(small)).measurements
    measured_elsewhere(job, origin=origin(job, **differs))
    assert job.taken_over() is None


def test_longer_measurements_are_taken_over_and_profile_takes_none(make_study: MakeStudy, small: Protocol) -> None:
    (job,) = make_plan(make_study(small)).measurements
    measured_elsewhere(job, settings=job.settings.model_copy(update={"throughput_seconds": 5.0}))
    assert job.taken_over() is not None
    (anew,) = measure_study.profile_jobs(job.study, [job.entry], "32", "float32", [Hardware("cpu", 1)], 1)
    assert anew.anew
    assert anew.taken_over() is None


def test_taken_over_or_hindered_figures_are_reported(make_study: MakeStudy, small: Protocol) -> None:
    study = make_study(small)
    (job,) = make_plan(study).measurements
    measured_elsewhere(job)
    output = io.StringIO()
    console = open_console(file=output, width=300)
    print_plan(console, study, make_plan(study))
    assert "Efficiency: 0 to measure, 1 taken over from earlier" in output.getvalue()
    why = "the processor was taken away for 64% of the time"
    fake.write_efficiency(study.folder, "tinynet", 32, threads=1, hindered=(why,), tries=3)
    StudyDisplay(console, make_plan(study)).show(Finished(job, None, 1.0))
    assert f"measured 3 times, hindered ({why}): marked, and compared with none" in output.getvalue()


def test_two_calls_that_retry_a_failure_do_it_once(make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts, train = [], train_and_test
    monkeypatch.setattr(
        "benchmark.runs.train.train_and_test", lambda job, on_step: attempts.append(job.label) or train(job, on_step)
    )
    protocol = load_protocol("quick", [*SMALL, "repeats=1"])
    study = make_study(protocol, "Raises")
    assert isinstance(perform_job(make_plan(study).todo[0], silent), Failure)
    (first,), (second,) = (make_plan(make_study(protocol, "Raises"), retry_failed=True).todo for _ in range(2))
    assert isinstance(perform_job(first, silent), Failure)
    later(first.folder / RECORD)
    outcome = perform_job(second, silent)
    assert isinstance(outcome, Elsewhere)
    assert isinstance(outcome.record, Record)
    assert outcome.record.status == "failed"
    assert len(attempts) == 2  # the failure and one retry
    (third,) = make_plan(make_study(protocol, "Raises"), retry_failed=True).todo
    assert isinstance(perform_job(third, silent), Failure)


def test_process_without_the_claim_leaves_the_log_alone(make_study: MakeStudy, small: Protocol) -> None:
    job = make_plan(make_study(small)).todo[0]
    claim = claims.acquire(job.folder)
    assert claim is not None
    with claim:
        assert perform_job(job, silent) == Elsewhere(None)
        assert not job.log.exists()
    assert isinstance(perform_job(job, silent), Record)
    assert job.log.is_file()


def refused(job: TrainJob, said: str) -> None:
    """A run that another call's study has no place for fails, says why, and leaves everything as it is."""
    before = {path: path.read_bytes() for path in job.study.rglob("*") if path.is_file()}
    outcome = perform_job(job, silent)
    assert isinstance(outcome, Failure)
    assert outcome.kind == "bad_input"
    assert f"another call has begun this study under something else: {said}; nothing" in outcome.message
    record_end(job, here=True, status="failed", failure=outcome)
    assert {path: path.read_bytes() for path in job.study.rglob("*") if path.is_file()} == before


def test_run_looks_at_the_studys_settings_once_more_when_it_has_its_claim(
    make_study: MakeStudy, small: Protocol
) -> None:
    study = make_study(small)
    job = make_plan(study).todo[0]
    study.store.write_protocol(load_protocol("quick", [*SMALL, "training.weight_decay=0.5"]))
    refused(job, "training.weight_decay: 0.5 -> 0.0")
    study.store.write_protocol(small)
    assert isinstance(perform_job(job, silent), Record)


def test_run_of_other_data_or_code_replaces_no_record(make_study: MakeStudy, small: Protocol) -> None:
    study = make_study(small)
    job, others = make_plan(study).todo[0], make_study(small)
    others.models = [replace(study.models[0], version=2)]
    other = make_plan(others).todo[0]
    assert isinstance(perform_job(job, silent), Record)
    refused(other, "omc-syn tinynet repeat 0 under another key: other data, code or first weights")


def test_run_of_other_data_than_the_studys_split_is_refused(make_study: MakeStudy, small: Protocol) -> None:
    study = make_study(small)
    job = make_plan(study).todo[0]
    shared = Shared.of(small, "other content")
    study.store.write_split("omc-syn", shared, [Division((0,), (), ())], ["image0000"])
    refused(job, "the content of omc-syn")


def test_run_under_way_has_its_key_on_disk(
    make_study: MakeStudy, small: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a second call with other data or code is refused, although the first has not finished anything."""
    study = make_study(small)
    job = make_plan(study).todo[0]

    def killed(job: TrainJob, on_step: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("benchmark.runs.train.train_and_test", killed)
    with pytest.raises(KeyboardInterrupt):
        perform_job(job, silent)
    record = job.recorded()
    assert record is not None
    assert record.status == "interrupted"
    study.models = [replace(study.models[0], version=2)]
    with pytest.raises(UserError, match=r"the code of tinynet.*--replace-stale"):
        make_plan(study)
