"""Tests the estimate of a plan's time, its sources, and concurrent runs."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmark.cli.progress import duration
from benchmark.config import registry
from benchmark.config.protocol import Protocol, load_protocol
from benchmark.data.datasets import Source
from benchmark.devices import facts
from benchmark.devices.hardware_slots import Hardware
from benchmark.records.efficiency_record import Conditions, Latency
from benchmark.records.store import Store
from benchmark.study.plan import make_plan
from benchmark.study.study import Study
from benchmark.study.time_estimate import count_tiles
from tests.benchmark.conftest import SMALL
from tests.benchmark.report import fake

MakeStudy = Callable[..., Study]
# Four steps of four images, three repeats; and one measurement, whose timings the protocol limits to one second.
IMAGES, REPEATS, MEASURING_S = 16, 3, 5.0
ONE = Hardware("cpu", 1)


@pytest.fixture
def make(make_study: MakeStudy, small: Protocol, tmp_path: Path) -> MakeStudy:
    """A study with a cache of its own, on the given hardware."""

    def study(hardware: Hardware = ONE, *classes: str) -> Study:
        created = make_study(small, *classes)
        created.hardware, created.cache = hardware, tmp_path / "times"
        created.__post_init__()
        return created

    return study


def figures(study: Study, folder: str, size: int = 32, **changes: object) -> float:
    """Write figures of the small network into a study; return seconds of a forward."""
    place = study.folder.parent / folder
    fake.write_efficiency(place, "tinynet", size, name=facts.cpu_name(), **({"threads": 1} | changes))
    result = study.figures.of(study.models[0], size)
    return result.latency.p50_ms / 1000 if result else 0.0


def test_estimate_is_a_guess_until_a_run_was_timed_here(make: MakeStudy) -> None:
    study = make()
    guessed = make_plan(study)
    assert (guessed.basis, guessed.seconds > MEASURING_S) == ("macs", True)
    study.costs.remember(guessed.todo[0], 8.0)
    plan = make_plan(make())
    assert plan.basis == "runs"
    assert plan.seconds == pytest.approx(REPEATS * 8.0 + MEASURING_S)


@pytest.mark.parametrize("folder", ["small", "profile"])
def test_latencies_of_the_study_or_of_profile_stand_in_for_runs(make: MakeStudy, folder: str) -> None:
    study = make()
    forward = figures(study, folder)
    plan = make_plan(study)
    measuring = MEASURING_S * (folder == "profile")  # the study still needs figures of its own
    assert plan.basis == "latencies"
    assert plan.seconds == pytest.approx(REPEATS * IMAGES * 3 * forward + measuring)
    study.costs.remember(plan.todo[0], 8.0)
    assert make_plan(study).basis == "runs"


def test_latencies_at_another_size_are_scaled_with_the_area(make: MakeStudy) -> None:
    study = make()
    forward = figures(study, "profile", size=64)
    assert make_plan(study).seconds == pytest.approx(REPEATS * IMAGES * 3 * forward / 4 + MEASURING_S)
    nearer = figures(study, "profile", size=32)
    assert make_plan(study).seconds == pytest.approx(REPEATS * IMAGES * 3 * nearer + MEASURING_S)


def test_hindered_latencies_are_no_basis(make: MakeStudy) -> None:
    study = make()
    figures(study, "busy", hindered=("the processor was taken away for 60% of the time",))
    assert make_plan(study).basis == "macs"
    forward = figures(study, "profile", size=64)  # farther, and unhindered
    plan = make_plan(study)
    assert plan.basis == "latencies"
    assert plan.seconds == pytest.approx(REPEATS * IMAGES * 3 * forward / 4 + MEASURING_S)


def test_run_with_fewer_threads_than_were_measured_with_is_slower_in_proportion(make: MakeStudy) -> None:
    study = make()
    forward = figures(study, "profile", threads=4)
    assert make_plan(study).seconds == pytest.approx(REPEATS * IMAGES * 3 * 4 * forward + MEASURING_S)


def test_figures_of_another_machine_or_version_are_no_measure_of_this_one(make: MakeStudy) -> None:
    study = make()
    fake.write_efficiency(study.folder.parent / "profile", "tinynet", 32, name="another processor", threads=1)
    assert make_plan(study).basis == "macs"
    figures(study, "profile")
    assert make_plan(study).basis == "latencies"
    study.models = [replace(study.models[0], version=2)]
    assert make_plan(study).basis == "macs"


def test_times_of_one_gpu_are_no_measure_of_another(make: MakeStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = {"cuda:0": "NVIDIA H200", "cuda:1": "NVIDIA GeForce RTX 4060 Ti"}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", gpus.__getitem__)
    study = make(Hardware("cuda:0", 1))
    study.costs.remember(make_plan(study).todo[0], 8.0)
    assert make_plan(make(Hardware("cuda:0", 1))).basis == "runs"
    assert make_plan(make(Hardware("cuda:1", 1))).basis == "macs"


@pytest.mark.parametrize(
    ("energy", "budget", "seconds"), [(False, None, 14.0), (True, None, 24.0), (True, 2.0, 5.0), (False, 20.0, 14.0)]
)
def test_measurement_on_a_gpu_takes_longer_where_its_energy_is_read(
    make: MakeStudy,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    energy: bool,
    budget: float | None,
    seconds: float,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    if energy:
        (tmp_path / "pynvml.py").touch()
        monkeypatch.syspath_prepend(tmp_path)
    elif importlib.util.find_spec("pynvml") is not None:
        pytest.skip("nvidia-ml-py is installed")
    study = make(Hardware("cuda:0", 1))
    jobs = [replace(job, budget_s=budget) for job in make_plan(study).measurements]
    assert study.costs.estimate([], jobs)[0] == pytest.approx(seconds, abs=0.1)


@pytest.mark.parametrize(
    ("forward_s", "budget", "timed"),
    [
        (0.001, None, 0.01 + 3 + 1),  # ten warm-ups, 3 s of timings, 1 s for the throughput
        (0.5, None, 5 + 15 + 1),  # at least thirty timings
        (0.5, 10.0, 10),
        (0.001, 10.0, 0.01 + 3 + 1),  # the budget is a limit
        (2.0, 1.0, 8),  # a warm-up and three timings are always taken
    ],
)
def test_measurement_takes_what_its_forwards_and_the_protocol_s_budget_allow(
    make: MakeStudy, forward_s: float, budget: float | None, timed: float
) -> None:
    study = make()
    (job,) = make_plan(study).measurements
    moment = Conditions(clock_mhz=None, load_average=None)
    figures(study, "profile", latency=Latency.from_raw([1000 * forward_s] * 3, moment, moment))
    assert study.costs.seconds(replace(job, budget_s=budget)) == pytest.approx(4 + timed, rel=0.01)


@pytest.mark.parametrize(("patience", "early"), [("none", False), ("2", True)])
def test_training_with_patience_may_stop_early_so_its_time_is_a_guess(
    make_study: MakeStudy, tmp_path: Path, patience: str, early: bool
) -> None:
    study = make_study(load_protocol("quick", [*SMALL, f"training.patience={patience}"]))
    expected = make_plan(study).expected
    assert {job.may_stop_early for job in expected.jobs.values() if not job.exclusive} == {early}


def test_report_is_a_guess_until_this_machine_made_one(make: MakeStudy) -> None:
    study = make()
    before = make_plan(study).expected
    study.costs.remember_report(REPEATS, 2 * before.report)
    after = make_plan(make()).expected
    assert (before.report_timed, after.report_timed, after.report) == (False, True, pytest.approx(2 * before.report))


def test_figures_of_a_variant_are_not_its_parents(tmp_path: Path, source: Source) -> None:
    study = Study(tmp_path / "one", load_protocol("quick", SMALL), [], [], Hardware("cpu", 1), tmp_path)
    parent, variant = registry.select(["eal_icnet", "eal_icnet.no_tssa"])
    fake.write_efficiency(tmp_path / "profile", variant.name, 32, name=facts.cpu_name())
    assert study.figures.of(parent, 32) is None
    result = study.figures.of(variant, 32)
    assert result is not None
    assert result.model == "eal_icnet.no_tssa"


def test_whole_estimate_is_a_guess_if_one_network_has_no_figures(make: MakeStudy) -> None:
    study = make(ONE, "TinyNet", "Raises")
    study.costs.remember(make_plan(study).todo[0], 8.0)
    assert make_plan(study).basis == "macs"


def test_concurrent_runs_share_the_seconds_but_take_as_long_as_the_longest(make: MakeStudy) -> None:
    def seconds(workers: int) -> float:
        study = make(Hardware("cpu", workers, workers))  # one thread each, whatever their number
        study.costs.remember(make_plan(study).todo[0], 8.0)
        return make_plan(study).seconds - MEASURING_S

    assert seconds(2) == pytest.approx(REPEATS * 8.0 / 2)
    assert seconds(8) == pytest.approx(8.0)


@pytest.mark.parametrize(("partial", "expected"), [("false", 2 * 3), ("true", 2 * 4)])
def test_tiles_are_counted_as_packs_cut_them(source: Source, partial: str, expected: int) -> None:
    protocol = load_protocol("quick", [*SMALL, f"input.partial_tiles={partial}"])
    assert count_tiles(replace(source, count=5, shape=(128, 200)), protocol) == (5 * expected, 64)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(45, "45 s"), (720, "12 min"), (12000, "3 h 20 min"), (5 * 86400, "5 days"), (21 * 86400, "3 weeks")],
)
def test_durations_are_formatted_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize("content", ["{", "[]", '{"unet": "fast"}'])
def test_broken_times_of_earlier_runs_count_as_none(make: MakeStudy, content: str) -> None:
    file = make().costs.file
    file.parent.mkdir()
    file.write_text(content)
    assert make_plan(make()).basis == "macs"


def test_broken_figures_count_as_none(make: MakeStudy) -> None:
    study = make()
    figures(study, "profile")
    Store(study.folder.parent / "profile").efficiency_file("tinynet", 32, "cpu").write_text("{")
    assert make_plan(study).basis == "macs"
