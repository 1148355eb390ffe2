"""Tests the plan: done, missing, failed and stale runs, and its estimates."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmark.config import registry
from benchmark.config.protocol import Protocol, load_protocol
from benchmark.data.datasets import Source
from benchmark.devices.hardware_slots import Hardware
from benchmark.executors.events import Event, Finished, Note, Packing, Started
from benchmark.records import claims
from benchmark.records.run_record import Failure, Record
from benchmark.records.store import Store
from benchmark.runs.jobs import Job, TrainJob
from benchmark.study.execute import execute, in_order
from benchmark.study.plan import make_plan
from benchmark.study.study import Study
from benchmark.utils.errors import UserError
from tests.benchmark.conftest import SMALL
from tests.benchmark.pretend import MakeStudy, Pretend, alone, contents, do
from tests.benchmark.report import fake


def test_new_study_has_everything_to_do_and_a_finished_one_nothing(small: Protocol, make_study: MakeStudy) -> None:
    study = make_study(small)
    plan, events = do(study)
    assert (len(plan.todo), len(plan.done), plan.runs) == (3, 0, 3)
    assert len(plan.measurements) == 1
    assert any(isinstance(event, Packing) for event in events) or (study.cache / "packs").is_dir()
    again = make_plan(study)
    assert (len(again.todo), len(again.done), again.seconds) == (0, 3, pytest.approx(5.0))
    assert {path.name for path in (study.folder / "references").iterdir()} == {
        "omc-syn.otsu.csv",
        "omc-syn.kmeans.csv",
        "omc-syn.background.csv",
    }


def test_planning_changes_nothing(small: Protocol, make_study: MakeStudy) -> None:
    study = make_study(small)
    make_plan(study)
    assert not study.folder.exists()


def test_more_repeats_keep_the_finished_ones(small: Protocol, make_study: MakeStudy) -> None:
    do(make_study(small))
    more = make_plan(make_study(load_protocol("quick", [*SMALL, "repeats=5"])))
    assert ([job.repeat for job in more.todo], len(more.done)) == ([3, 4], 3)


def test_first_repeats_of_all_networks_come_first_dataset_by_dataset(small: Protocol, make_study: MakeStudy) -> None:
    study = make_study(small, "TinyNet", "Raises")
    study.tasks = [*study.tasks, alone(replace(study.sources[0], name="miic-syn"))]
    groups = [(job.repeat, job.task.name) for job in make_plan(study).todo if job.entry.name == "raises"]
    assert groups == [(repeat, name) for repeat in range(3) for name in ("omc-syn", "miic-syn")]
    assert [job.entry.name for job in make_plan(study).todo[:3]] == ["tinynet", "raises", "tinynet"]


def test_measurements_follow_the_first_results_unless_other_slots_would_wait_long(
    small: Protocol, make_study: MakeStudy
) -> None:
    study = make_study(small)
    plan = make_plan(study)
    assert [job.exclusive for job in in_order(study, plan)] == [False, False, True, False]
    study.hardware = Hardware("cpu", 2, 2)
    study.costs.remember(plan.todo[0], 5.0)
    assert [job.exclusive for job in in_order(study, plan)] == [False, False, True, False]
    study.costs.remember(plan.todo[0], 3600.0)
    assert [job.exclusive for job in in_order(study, plan)] == [True, False, False, False]


def test_long_runs_start_first_but_in_the_first_group(small: Protocol, make_study: MakeStudy) -> None:
    study = make_study(small, "TinyNet", "Raises")
    plan = make_plan(study)
    for job in plan.todo:
        study.costs.remember(job, {"tinynet": 1.0, "raises": 5.0}[job.entry.name])
    runs = [(job.repeat, job.entry.name) for job in in_order(study, plan) if isinstance(job, TrainJob)]
    later = [(repeat, name) for repeat in (1, 2) for name in ("raises", "tinynet")]
    assert runs == [(0, "tinynet"), (0, "raises"), *later]


def test_second_call_waits_while_another_prepares_the_study(
    small: Protocol, make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study(small)
    plan = make_plan(study)
    claim = claims.acquire(study.folder)
    assert claim is not None
    monkeypatch.setattr("time.sleep", lambda seconds: claim.__exit__())
    events: list[Event] = []
    execute(study, plan, Pretend(), events.append)
    assert Note("", "waiting for another call of this study that prepares its data") in events
    assert len(make_plan(study).done) == 3


def test_finished_study_is_not_claimed(small: Protocol, make_study: MakeStudy) -> None:
    """It may lie in a folder that cannot be written."""
    study = make_study(small)
    study.models = []
    study.store.write_protocol(small)
    with claims.acquire(study.folder):  # type: ignore[union-attr]
        do(study)


def test_failed_runs_are_listed_and_only_run_again_on_request(small: Protocol, make_study: MakeStudy) -> None:
    study = make_study(small)
    do(study, Pretend(fail=["omc-syn tinynet repeat 1"]))
    plan = make_plan(study)
    assert [record.repeat for record in plan.failed] == [1]
    assert plan.todo == []
    retried, _ = do(study, retry_failed=True)
    assert [job.repeat for job in retried.todo] == [1]
    assert len(make_plan(study).done) == 3


def test_interrupted_run_goes_on_with_the_next_call(small: Protocol, make_study: MakeStudy) -> None:
    study = make_study(small)
    with pytest.raises(KeyboardInterrupt):
        do(study, Pretend(stop_at="omc-syn tinynet repeat 1"))
    record = study.store.read_record(("omc-syn",), "tinynet", 1)
    assert record is not None
    assert record.status == "interrupted"
    assert [job.repeat for job in make_plan(study).todo] == [1, 2]


def test_disk_that_takes_no_claim_of_a_failed_run_does_not_end_the_study(
    small: Protocol, make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquire = claims.acquire

    def full(folder: Path) -> claims.Claim | None:
        if "runs" in folder.parts:
            raise UserError(f"{folder}: cannot be claimed (No space left on device)")
        return acquire(folder)

    monkeypatch.setattr(claims, "acquire", full)
    _, events = do(make_study(small), Pretend(fail=["omc-syn tinynet repeat 0"]))
    ended = [event.outcome for event in events if isinstance(event, Finished) and isinstance(event.job, TrainJob)]
    assert [type(outcome) for outcome in ended] == [Failure, Record, Record]


def test_failure_that_a_worker_wrote_down_is_not_replaced_by_an_interruption(
    small: Protocol, make_study: MakeStudy
) -> None:
    class Fails:
        """Ctrl-C comes between the record and the message that tells of it."""

        def run(self, jobs: Sequence[Job]) -> Generator[Event, None, None]:
            job = next(job for job in jobs if isinstance(job, TrainJob))
            yield Started(job)
            failed = job.record(status="failed", failure=Failure(kind="nan_loss", message="pretended"))
            Store(job.study).write_run(failed, {}, [], None)
            raise KeyboardInterrupt

    study = make_study(small)
    with pytest.raises(KeyboardInterrupt):
        execute(study, make_plan(study), Fails(), lambda event: None)
    assert [record.failure and record.failure.kind for record in make_plan(study).failed] == ["nan_loss"]


def test_efficiency_is_measured_once_per_model_and_size(small: Protocol, make_study: MakeStudy) -> None:
    study = make_study(small)
    study.tasks = [*study.tasks, alone(replace(study.sources[0], name="miic-syn"))]
    plan = make_plan(study)
    assert (len(plan.todo), len(plan.measurements)) == (6, 1)
    fake.write_efficiency(study.folder, "tinynet", 32, threads=1)
    assert make_plan(study).measurements == []


@pytest.mark.parametrize("differs", [{"threads": 2}, {"model_version": 2}, None])
def test_figures_of_other_threads_or_another_version_and_broken_ones_are_measured_anew(
    small: Protocol, make_study: MakeStudy, differs: dict[str, int] | None
) -> None:
    study = make_study(small)
    fake.write_efficiency(study.folder, "tinynet", 32, **({"threads": 1} | (differs or {})))
    if differs is None:
        study.store.efficiency_file("tinynet", 32, "cpu").write_text("{}")
    assert [job.threads for job in make_plan(study).measurements] == [1]


def test_gpu_s_figures_do_not_depend_on_the_processor_s_threads(small: Protocol, make_study: MakeStudy) -> None:
    study = make_study(small)
    study.hardware = Hardware("cuda:0", 3)
    study.__post_init__()
    fake.write_efficiency(study.folder, "tinynet", 32, device="cuda", threads=1)
    assert make_plan(study).measurements == []


def test_figures_of_another_gpu_are_measured_anew(
    small: Protocol, make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study(small)
    study.hardware = Hardware("cuda:0", 3)
    study.__post_init__()
    fake.write_efficiency(study.folder, "tinynet", 32, device="cuda", name="NVIDIA H200")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: {"cuda:0": "NVIDIA H200"}[device])
    assert make_plan(study).measurements == []
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: {"cuda:0": "NVIDIA GeForce RTX 4060 Ti"}[device])
    assert len(make_plan(study).measurements) == 1


def spoil(study: Study, repeat: int) -> Path:
    file = study.store.run_folder(("omc-syn",), "tinynet", repeat) / "record.json"
    file.write_text(file.read_text().replace('"status": "ok"', '"status": "perhaps"'))
    return file


def test_run_with_a_broken_record_is_planned_without_a_change_and_then_set_aside_and_done_again(
    small: Protocol, make_study: MakeStudy
) -> None:
    study = make_study(small)
    do(study)
    broken = spoil(study, 1).read_bytes()
    before = contents(study.folder)
    plan = make_plan(study)
    assert contents(study.folder) == before
    assert ([job.repeat for job in plan.todo], [record.repeat for record in plan.done]) == ([1], [0, 2])
    (result,) = plan.broken
    assert "record.json: not a valid record (status: " in result.reason
    do(study)
    again = make_plan(study)
    assert (len(again.done), again.broken) == (3, [])
    assert (study.folder / "runs/.stale/omc-syn.tinynet.1.0/record.json").read_bytes() == broken


def test_broken_record_that_nobody_asks_for_is_left_as_it_is(small: Protocol, make_study: MakeStudy) -> None:
    do(make_study(small))
    file = spoil(make_study(small), 2)
    fewer = make_study(load_protocol("quick", [*SMALL, "repeats=2"]))
    plan, _ = do(fewer)
    assert (len(plan.done), plan.todo, len(plan.broken)) == (2, [], 1)
    assert file.is_file()


def test_run_repaired_by_another_process_is_not_set_aside(small: Protocol, make_study: MakeStudy) -> None:
    study = make_study(small)
    do(study)
    file = study.store.run_folder(("omc-syn",), "tinynet", 0) / "record.json"
    good = file.read_bytes()
    spoil(study, 0)
    plan = make_plan(study)
    file.write_bytes(good)
    execute(study, plan, Pretend(), lambda _: None)
    assert not (study.folder / "runs/.stale").exists()


def test_record_of_a_newer_release_is_refused_and_stays(small: Protocol, make_study: MakeStudy) -> None:
    study = make_study(small)
    do(study)
    file = study.store.run_folder(("omc-syn",), "tinynet", 0) / "record.json"
    file.write_text(file.read_text().replace('"schema": 2', '"schema": 4'))
    with pytest.raises(UserError, match=r"schema 4, made by a newer release"):
        make_plan(study, replace_stale=True)
    assert file.is_file()


def test_unfit_input_size_is_refused_with_a_fitting_size(source: Source, tmp_path: Path) -> None:
    protocol = load_protocol("quick", [*SMALL, "input.size=40"])
    with pytest.raises(UserError, match=r"letnet: takes .* multiples of 16, .* 40x40; use --set input\.size=32"):
        Study(tmp_path, protocol, registry.select("letnet"), [alone(source)], Hardware("cpu", 1), tmp_path)


def test_tile_that_a_network_cannot_take_is_refused_where_whole_tiles_are_tested(
    source: Source, tmp_path: Path
) -> None:
    def plan(*overrides: str) -> Study:
        protocol = load_protocol("quick", [*SMALL, "input.tile=72", *overrides])
        return Study(tmp_path, protocol, registry.select("letnet"), [alone(source)], Hardware("cpu", 1), tmp_path)

    plan()
    with pytest.raises(UserError, match=r"letnet: takes .* multiples of 16, but omc-syn is tested on tiles of 72x72"):
        plan("evaluation.window=tile")


def test_folder_that_cannot_be_written_is_refused_before_any_work(small: Protocol, make_study: MakeStudy) -> None:
    study = make_study(small)
    study.folder.parent.mkdir(exist_ok=True)
    study.folder.write_text("a file where the study should be")
    executor = Pretend()
    with pytest.raises(UserError, match=r"small: cannot be claimed \(File exists\); choose another --results"):
        do(study, executor)
    assert executor.jobs == []
