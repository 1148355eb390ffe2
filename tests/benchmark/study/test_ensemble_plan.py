"""Tests the ensembles of a study: their numbers, which are left, and studies that cannot have them."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.config.protocol import load_protocol
from benchmark.data.packs import Pack
from benchmark.evaluation.counts import window_side
from benchmark.executors.events import Event, Finished, Started
from benchmark.executors.remote import Parcel, parcels
from benchmark.records.run_record import Failure
from benchmark.records.store import WEIGHTS
from benchmark.records.weights import find_members
from benchmark.report.read import read_study
from benchmark.report.tables.accuracy_table import ACCURACY, scores
from benchmark.runs.jobs import EnsembleJob, Job, StressJob, TrainJob
from benchmark.runs.perform import perform_job
from benchmark.study.execute import execute
from benchmark.study.plan import make_plan
from benchmark.study.study import Study
from benchmark.utils.errors import UserError
from tests.benchmark.conftest import SMALL
from tests.benchmark.executors.in_process import InProcessExecutor
from tests.benchmark.study.conftest import Once

Make = Callable[..., Study]
FOLDER = "ensembles/omc-syn/tinynet/0+1"


@pytest.fixture
def make(make_study: Make) -> Make:
    def make(*overrides: str, ensembles: bool = True, keep: str = "all") -> Study:
        study = make_study(load_protocol("quick", [*SMALL, "repeats=2", *overrides]))
        study.ensembles, study.keep_weights = ensembles, keep
        return study

    return make


def do(study: Study, **plan: Any) -> list[Job]:
    """Do what is left of a study; return what was done."""
    events: list[Event] = []
    execute(study, make_plan(study, **plan), InProcessExecutor(), events.append)
    assert not [event for event in events if isinstance(event, Finished) and isinstance(event.outcome, Failure)]
    return [event.job for event in events if isinstance(event, Started) and not event.job.exclusive]


@pytest.fixture
def _trained(make: Make, once: Once) -> None:
    """Both repeats are trained, and nothing is averaged."""
    study = make(ensembles=False)
    once(study.folder, lambda: do(study))


def silent(done: int, total: int) -> None: ...


def test_ensembles_follow_the_trainings_and_count_the_mean_of_the_probabilities(make: Make, pack: Pack) -> None:
    study = make()
    (planned,) = make_plan(study).ensembles
    assert (planned.label, planned.repeats) == ("omc-syn tinynet ensemble of 2", (0, 1))
    assert [type(job) for job in do(study)] == [TrainJob, TrainJob, EnsembleJob]
    with (study.folder / FOLDER / "omc-syn.csv").open() as file:
        rows = list(csv.DictReader(file))
    networks = [member.build() for member in find_members(study.folder, study.models[0], None, "all")]
    tested = pack.divide(study.protocol).test
    for row, index in zip(rows, tested, strict=True):
        tile, mask = (array[0] for array in pack.centre([index], window_side(pack, study.protocol)))
        images = torch.from_numpy(tile).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            single = [network(images).sigmoid().numpy()[0, 0] for network in networks]
        foreground = np.mean(single, axis=0) >= study.protocol.evaluation.threshold
        assert (int(row["tp"]), int(row["fp"])) == ((foreground & (mask == 1)).sum(), (foreground & (mask == 0)).sum())


def test_ensemble_of_one_repeat_has_its_counts_to_the_byte(make: Make) -> None:
    do(make())
    study = make()
    (study.folder / FOLDER / "omc-syn.json").unlink()
    (job,) = make_plan(study).ensembles
    assert perform_job(replace(job, members=job.members[:1]), silent) is None
    own = (study.folder / "runs/omc-syn/tinynet/0/images.omc-syn.csv").read_bytes()
    assert (study.folder / "ensembles/omc-syn/tinynet/0/omc-syn.csv").read_bytes() == own


@pytest.mark.usefixtures("_trained")
def test_only_missing_or_outdated_ensembles_are_tested(make: Make) -> None:
    assert [type(job) for job in do(make())] == [EnsembleJob]  # a study that is done needs no training
    study = make()
    assert (make_plan(study).ensembles, do(study)) == ([], [])
    (study.folder / FOLDER / "omc-syn.csv").unlink()
    assert [type(job) for job in do(study)] == [EnsembleJob]
    weights = study.folder / f"runs/omc-syn/tinynet/1/{WEIGHTS}"
    weights.write_bytes((study.folder / f"runs/omc-syn/tinynet/0/{WEIGHTS}").read_bytes())
    assert [type(job) for job in do(study)] == [EnsembleJob]
    more = make("repeats=3")
    assert [type(job) for job in do(more)] == [TrainJob, EnsembleJob]
    labels = [row.label for row in scores(read_study(study.folder), ACCURACY).blocks[0].rows]
    assert labels[:2] == ["tinynet", "tinynet (ensemble of 3)"]


@pytest.mark.usefixtures("_trained")
def test_failed_repeat_leaves_no_ensemble_and_the_row_says_why(make: Make) -> None:
    study = make()
    last = study.jobs()[1]
    failure = Failure(kind="nan_loss", message="pretended")
    study.store.write_run(last.record(status="failed", failure=failure), {}, [], None)
    assert make_plan(study).ensembles == []
    study.asked.write(study.folder)
    network, ensemble, *_ = scores(read_study(study.folder), ACCURACY).blocks[0].rows
    assert (ensemble.label, dict(ensemble.cells)) == ("tinynet (ensemble)", {})
    assert ensemble.remark == "none, since repeat 1 failed"
    assert network.cells["miou"].n == 1
    assert [type(job) for job in do(study, retry_failed=True)] == [TrainJob, EnsembleJob]


def test_ensembles_that_cannot_be_are_refused_before_any_work(make: Make) -> None:
    with pytest.raises(UserError, match="--ensembles: averages the repeats of each network, and there is one"):
        make_plan(make("repeats=1"))
    with pytest.raises(UserError, match=r"--ensembles: .* which --keep-weights none throws away; leave that out"):
        make_plan(make(keep="none"))
    with pytest.raises(UserError, match=r"--ensembles: with split\.folds, each test image has trained all repeats"):
        make_plan(make("split.folds=2", "split.counts=none"))
    do(make(ensembles=False, keep="best-repeat"))
    message = r"--ensembles: .* keeps no weights of omc-syn tinynet repeat \d, whose runs are done; train them again in"
    with pytest.raises(UserError, match=message):
        make_plan(make())


def test_dataset_without_test_images_has_no_ensembles(make: Make) -> None:
    study = make("split.counts=[6,2,0]")
    do(study)
    assert not (study.folder / "ensembles").exists()
    assert make_plan(study).ensembles == []
    assert [row.label for row in scores(read_study(study.folder), ACCURACY).blocks[0].rows] == ["tinynet"]


@pytest.mark.usefixtures("_trained")
def test_broken_weights_are_a_failure_and_the_next_call_tests_again(make: Make) -> None:
    study = make()
    file = study.folder / f"runs/omc-syn/tinynet/1/{WEIGHTS}"
    content = file.read_bytes()
    file.write_bytes(b"nothing")
    outcome = perform_job(make_plan(study).ensembles[0], silent)
    assert isinstance(outcome, Failure)
    assert (outcome.kind, "no safetensors file" in outcome.message) == ("bad_input", True)
    file.write_bytes(content)
    assert [type(job) for job in do(study)] == [EnsembleJob]


@pytest.mark.usefixtures("_trained")
def test_node_tests_an_ensemble_like_a_run(make: Make) -> None:
    (job,) = make_plan(make()).ensembles
    (parcel,) = parcels([job])
    executor: Any = InProcessExecutor()
    assert [outcome for outcome, _ in Parcel(parcel.jobs, Path.cwd()).perform(silent, executor)] == [None]
    assert job.left() == []
    moved = job.on("cuda:0")
    assert (moved.device, moved.members) == ("cuda:0", job.members)


def test_time_of_a_forward_per_member_is_part_of_the_estimate(make: Make, tmp_path: Path) -> None:
    plain, study = make(ensembles=False), make()
    for each in (plain, study):
        each.cache = tmp_path / "empty"
    plan = make_plan(study)
    expected = plan.expected.jobs["omc-syn tinynet ensemble of 2"].seconds
    forward = study.costs.forward(plan.todo[0])
    assert expected == pytest.approx(2 * 2 * forward)  # two members, two test images
    assert plan.seconds == pytest.approx(make_plan(plain).seconds + expected)


def test_ensembles_and_stress_tests_go_together(make: Make) -> None:
    from benchmark.data.stressed import Stresses

    study = make()
    study.stress = Stresses(("noise",), (1.0,))
    assert [type(job) for job in do(study)] == [TrainJob, TrainJob, EnsembleJob, StressJob, StressJob]
    assert (make_plan(study).ensembles, make_plan(study).stress) == ([], [])


def test_key_of_another_run_is_not_reported(make: Make) -> None:
    study = make()
    do(study)
    file = study.folder / FOLDER / "omc-syn.json"
    file.write_text(re.sub('"key": "..', '"key": "zz', file.read_text(), count=1))
    results = read_study(study.folder)
    assert (results.ensembles, results.broken_ensembles) == ((), ())
    remarks = {row.label: row.remark for row in scores(results, ACCURACY).blocks[0].rows}
    assert remarks["tinynet (ensemble)"] == "not tested yet"
