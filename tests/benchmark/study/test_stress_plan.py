"""Tests the stress tests of a study: which are done, by whom and in which order, and that they equal tests of runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmark.config.protocol import Protocol, load_protocol
from benchmark.data.datasets import Source
from benchmark.data.stressed import Stresses, open_stressed
from benchmark.data.synthetic import Stress
from benchmark.executors.events import Event, Finished, Packing, Started
from benchmark.executors.remote import Parcel, parcels
from benchmark.records import claims
from benchmark.records.run_record import Failure
from benchmark.records.store import WEIGHTS
from benchmark.runs.jobs import Elsewhere, Job, StressJob, TrainJob
from benchmark.runs.perform import perform_claimed, perform_job
from benchmark.study.execute import execute
from benchmark.study.plan import make_plan
from benchmark.study.study import Study
from benchmark.utils.errors import UserError
from tests.benchmark.conftest import SMALL
from tests.benchmark.executors.in_process import InProcessExecutor
from tests.benchmark.study.conftest import Once

ASKED = Stresses(("clouds", "noise"), (1.0, 2.0))
STEMS = ["omc-syn.drawn", *(f"omc-syn.{name}-{strength}" for name in ("clouds", "noise") for strength in (1, 2))]

MakeStudy = Callable[..., Study]


def silent(done: int, total: int) -> None: ...


def do(study: Study) -> list[Job]:
    """Do what is left of a study; return what was done."""
    events: list[Event] = []
    execute(study, make_plan(study), InProcessExecutor(), events.append)
    assert not [event for event in events if isinstance(event, Finished) and isinstance(event.outcome, Failure)]
    return [event.job for event in events if isinstance(event, Started) and not event.job.exclusive]


@pytest.fixture
def make(make_study: MakeStudy) -> Callable[..., Study]:
    def make(*overrides: str, asked: Stresses | None = ASKED, keep: str = "best-repeat") -> Study:
        study = make_study(load_protocol("quick", [*SMALL, "training.warmup=0", "repeats=2", *overrides]))
        study.stress, study.keep_weights = asked, keep
        return study

    return make


@pytest.fixture
def _trained(make: Callable[..., Study], once: Once) -> None:
    """Both repeats are trained, and nothing is stressed."""
    study = make(asked=None)
    once(study.folder, lambda: do(study))


def files(study: Study, kind: str = "csv") -> dict[str, Path]:
    return {f"{file.parent.name}/{file.stem}": file for file in (study.folder / "stress").glob(f"*/*/*/*.{kind}")}


def test_stress_tests_follow_the_trainings_and_as_drawn_repeat_the_run_s_own_test_to_the_byte(
    make: Callable[..., Study],
) -> None:
    study = make()
    (planned,) = make_plan(study).stress
    assert (planned.known, len(planned.job.tests)) == (False, 5)
    done = do(study)
    assert [type(job) for job in done] == [TrainJob, TrainJob, StressJob]
    (folder,) = {file.parent for file in files(study).values()}
    repeat = folder.name
    assert sorted(files(study)) == sorted(f"{repeat}/{stem}" for stem in STEMS)
    own = study.folder / "runs" / "omc-syn" / "tinynet" / repeat
    assert (own / WEIGHTS).is_file()
    drawn = (folder / "omc-syn.drawn.csv").read_bytes()
    assert drawn == (own / "images.omc-syn.csv").read_bytes()
    assert len({file.read_bytes() for file in files(study).values()}) == 5
    assert not list(folder.glob("claim.*"))


@pytest.mark.usefixtures("_trained")
def test_only_missing_broken_or_outdated_stress_tests_are_done(
    make: Callable[..., Study],
) -> None:
    assert [type(job) for job in do(make())] == [StressJob]  # a study that is done is stressed without any training
    study = make()
    assert (make_plan(study).stress, do(study)) == ([], [])
    first, second, third, *_ = files(study).values()
    first.unlink()
    second.with_suffix(".json").write_text("{")
    third.with_suffix(".json").write_bytes(
        third.with_suffix(".json").read_bytes().replace(b'"weights": "', b'"weights": "0')
    )
    before = {name: file.stat().st_mtime_ns for name, file in files(study).items()}
    (planned,) = make_plan(study).stress
    assert {planned.job.record("omc-syn", *test).stem for test in planned.job.tests} == {
        file.stem for file in (first, second, third)
    }
    assert [type(job) for job in do(study)] == [StressJob]
    changed = {name for name, file in files(study).items() if file.stat().st_mtime_ns != before.get(name)}
    assert {name.partition("/")[2] for name in changed} == {file.stem for file in (first, second, third)}
    assert make_plan(study).stress == []


def test_further_strength_adds_its_own_tests_alone(make: Callable[..., Study]) -> None:
    do(make())
    study = make(asked=Stresses(("clouds", "noise"), (1.0, 4.0)))
    (planned,) = make_plan(study).stress
    assert [stress for _, stress in planned.job.tests] == [Stress("clouds", 4.0), Stress("noise", 4.0)]
    assert planned.summary == "omc-syn clouds 4; noise 4"


def test_all_weights_are_tested_where_all_are_kept(make: Callable[..., Study]) -> None:
    study = make(keep="all")
    plan = make_plan(study)
    labels = ["stress omc-syn tinynet repeat 0", "stress omc-syn tinynet repeat 1"]
    assert [planned.label for planned in plan.stress] == labels
    assert plan.expected.stress.tests["tinynet"][0] == 10
    do(study)
    assert {name.partition("/")[0] for name in files(study)} == {"0", "1"}


def test_images_are_drawn_once_for_all_networks(make_study: MakeStudy, source: Source, tmp_path: Path) -> None:
    study = make_study(load_protocol("quick", [*SMALL, "repeats=1"]), "TinyNet", "Comparable")
    study.stress, study.cache = ASKED, tmp_path / "own"
    events: list[Event] = []
    execute(study, make_plan(study), InProcessExecutor(), events.append)
    built = [event.dataset for event in events if isinstance(event, Packing) and event.done == event.total]
    assert built == [
        "omc-syn",
        "omc-syn as drawn",
        *(f"omc-syn {name}-{s}" for name in ("clouds", "noise") for s in (1, 2)),
    ]
    assert len(list((study.folder / "stress").glob("*/*/*/*.csv"))) == 10


def test_stress_tests_without_weights_are_refused(make: Callable[..., Study]) -> None:
    with pytest.raises(UserError, match="--stress: tests trained weights, which --keep-weights none throws away"):
        make_plan(make(keep="none"))
    do(make(asked=None, keep="none"))
    with pytest.raises(UserError, match=r"--stress: no weights of tinynet .* leave tinynet out of --models"):
        make_plan(make())


def test_networks_whose_runs_all_failed_are_passed_over(make_study: MakeStudy, small: Protocol) -> None:
    study = make_study(load_protocol("quick", [*SMALL, "repeats=1"]), "TinyNet", "Raises")
    study.stress = ASKED
    events: list[Event] = []
    execute(study, make_plan(study), InProcessExecutor(), events.append)
    tested = [event.job.label for event in events if isinstance(event, Started) and isinstance(event.job, StressJob)]
    assert tested == ["omc-syn tinynet repeat 0 stress"]
    assert make_plan(study).stress == []


def job_of(study: Study) -> StressJob:
    (planned,) = make_plan(study).stress
    return planned.job


@pytest.mark.usefixtures("_trained")
def test_failure_says_why_and_keeps_what_was_tested(
    make: Callable[..., Study], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    job, opened, count = job_of(make()), open_stressed, []

    def fail_third(*arguments: Any, **fold: Any) -> object:
        count.append(arguments)
        if len(count) == 3:
            raise MemoryError
        return opened(*arguments, **fold)

    monkeypatch.setattr("benchmark.runs.later_tests.open_stressed", fail_third)
    outcome = perform_claimed(job, silent)  # perform would take the descriptors that pytest has for its log
    assert isinstance(outcome, Failure)
    assert (outcome.kind, "--workers" in outcome.message) == ("out_of_memory", True)
    assert len(job.left()) == 3
    assert "MemoryError" in capfd.readouterr().err
    monkeypatch.undo()
    steps: list[tuple[int, int]] = []
    assert perform_job(job, lambda *of: steps.append(of)) is None
    assert steps == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.usefixtures("_trained")
def test_broken_weights_are_a_typed_failure(make: Callable[..., Study]) -> None:
    (file,) = (make().folder / "runs").glob(f"*/*/*/{WEIGHTS}")
    file.write_bytes(b"nothing")
    outcome = perform_job(job_of(make()), silent)
    assert isinstance(outcome, Failure)
    assert (outcome.kind, "no safetensors file" in outcome.message) == ("bad_input", True)


@pytest.mark.usefixtures("_trained")
def test_two_calls_share_the_tests(make: Callable[..., Study]) -> None:
    first, second = job_of(make()), job_of(make())
    claim = claims.acquire(first.folder)
    assert claim is not None
    with claim:
        assert perform_job(second, silent) == Elsewhere(None)
        assert second.settled() is None
    assert perform_job(first, silent) is None
    outcome = perform_job(second, silent)
    assert isinstance(outcome, Elsewhere)
    assert outcome.record is not None
    assert second.settled() is not None


@pytest.mark.usefixtures("_trained")
def test_node_does_stress_tests_like_a_run(make: Callable[..., Study]) -> None:
    job = job_of(make())
    (parcel,) = parcels([job])
    executor: Any = InProcessExecutor()
    assert not parcel.exclusive
    assert [outcome for outcome, _ in Parcel((job,), Path.cwd()).perform(silent, executor)] == [None]
    assert job.left() == []
    moved = job.on("cuda:0")
    assert (moved.device, moved.training.device, moved.tests) == ("cuda:0", "cuda:0", job.tests)


def test_time_and_disk_of_the_tests_are_part_of_the_estimate(make: Callable[..., Study], tmp_path: Path) -> None:
    from benchmark.study import space_estimate

    plain, asked = make(asked=None), make()
    for study in (plain, asked):
        study.cache = tmp_path / "empty"
    after = make_plan(asked).expected.stress
    ((network, (tests, each)),) = after.tests.items()
    assert (network, tests, each > 0, after.drawing > 0) == ("tinynet", 5, True, True)
    assert make_plan(asked).seconds == pytest.approx(make_plan(plain).seconds + after.drawing + 5 * each)
    parts = space_estimate.estimate_needs(asked, make_plan(asked)).cache.parts
    # As drawn and four stresses, each of two test tiles of 64x64 with one channel and a mask.
    assert parts["stressed images of omc-syn"] == 5 * 2 * 64 * 64 * 2
    assert "stressed images of omc-syn" not in space_estimate.estimate_needs(plain, make_plan(plain)).cache.parts


def test_dataset_without_test_images_has_no_stress_tests(make: Callable[..., Study]) -> None:
    study = make("split.counts=[6,2,0]")
    do(study)
    assert files(study) == {}


def test_dataset_of_files_is_refused_before_anything_starts(make: Callable[..., Study]) -> None:
    study = make()
    (task,) = study.tasks
    real = replace(task.test[0], name="mychip", pairs=("a",))  # type: ignore[arg-type]
    study.tasks = [replace(task, test=(real,))]
    with pytest.raises(UserError, match="mychip is read from files"):
        make_plan(study)
