"""Tests the estimates of memory and disk against measurements, and the refusal of a full disk."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from benchmark.cli import plan_table
from benchmark.cli.progress import open_console
from benchmark.config import registry
from benchmark.config.protocol import Protocol, load_protocol
from benchmark.data.datasets import Source
from benchmark.data.packs import open_pack, pack_path
from benchmark.data.tasks import Task
from benchmark.devices import facts
from benchmark.devices.hardware_slots import Hardware
from benchmark.runs.jobs import KeepWeights
from benchmark.study import space_estimate
from benchmark.study.execute import execute
from benchmark.study.plan import make_plan
from benchmark.study.space_estimate import Needs
from benchmark.study.study import Study
from benchmark.utils.errors import UserError
from tests.benchmark.conftest import SMALL
from tests.benchmark.executors.in_process import InProcessExecutor
from tests.benchmark.report import fake

PARAMS = {"eal_icnet": 802_698, "unet": 13_394_177}
Make = Callable[..., Study]


@pytest.fixture
def make(tmp_path: Path, source: Source) -> Make:
    def study(
        *overrides: str, workers: int = 1, keep: KeepWeights = "best-repeat", models: str = "eal_icnet,unet"
    ) -> Study:
        protocol = load_protocol("quick", [*SMALL, *overrides])
        task, hardware = Task((source,), (source,)), Hardware("cpu", 2, workers)
        entries = registry.select(models)
        return Study(tmp_path / "results/small", protocol, entries, [task], hardware, tmp_path / "cache", keep)

    return study


def assess(study: Study) -> Needs:
    return space_estimate.estimate_needs(study, make_plan(study))


def test_pack_is_as_large_as_it_will_be(make: Make, source: Source) -> None:
    study = make()
    (estimate,) = assess(study).cache.parts.values()
    open_pack(source, study.protocol, study.cache)
    files = pack_path(source, study.protocol, study.cache).glob("*.npy")
    assert estimate == pytest.approx(sum(file.stat().st_size for file in files), abs=300)  # two headers
    assert assess(study).cache.parts == {}


@pytest.mark.parametrize(
    ("keep", "weights"), [("none", None), ("best-repeat", sum(PARAMS.values())), ("all", 3 * sum(PARAMS.values()))]
)
def test_kept_weights_are_counted(make: Make, keep: KeepWeights, weights: int | None) -> None:
    assert assess(make(keep=keep)).results.parts.get("weights") == (weights and 4 * weights)


def test_weights_that_better_ones_replace_need_no_more_disk(make: Make) -> None:
    study = make()
    file = study.store.run_folder(("omc-syn",), "unet", 2) / "best.safetensors"
    file.parent.mkdir(parents=True)
    file.touch()
    assert assess(study).results.parts["weights"] == 4 * PARAMS["eal_icnet"]


@pytest.mark.parametrize(("workers", "networks"), [(1, ["unet"]), (2, ["unet", "unet"])])
def test_checkpoints_are_those_of_the_largest_concurrent_runs(make: Make, workers: int, networks: list[str]) -> None:
    # Weights, Adam's two moments and the best weights, in the old file and in the new one.
    expected = 2 * 4 * 4 * sum(PARAMS[name] for name in networks)
    assert assess(make(workers=workers)).results.parts["checkpoints"] == expected


def test_files_of_a_real_run_take_no_more_than_was_foreseen(make_study: Make, small: Protocol) -> None:
    study = make_study(small)
    study.keep_weights = "all"
    study.models = [replace(study.models[0], params=65)]
    parts = assess(study).results.parts
    plan = make_plan(study)
    plan.todo[1:] = []
    execute(study, plan, InProcessExecutor(), lambda event: None)
    files = list(study.store.run_folder(("omc-syn",), "tinynet", 0).iterdir())
    taken = sum(file.stat().st_size for file in files if file.suffix != ".safetensors")
    assert 0 < taken <= parts["records"] / 3
    assert parts["weights"] == 3 * 4 * 65


def test_memory_follows_from_a_measured_training_step(make: Make) -> None:
    study = make("training.batch=8", "training.micro_batch=2")
    weights, peak = 4 * PARAMS["unet"], 300_000_000
    figures = fake.Memory(forward_peak_bytes=1, train_step_peak_bytes=peak, method="growth")
    for name in PARAMS:
        machine = facts.cpu_name()
        fake.write_efficiency(study.folder.parent / "profile", name, 64, name=machine, memory=figures)
    result = assess(study).memory
    assert result is not None
    # The step had gradients and two moments beside its activations; two images of a quarter of the area.
    activations = (peak - 3 * weights) * 2 / 4
    assert result.bytes == pytest.approx(space_estimate.PROCESS_BYTES + 5 * weights + activations)
    assert (result.largest, result.measured, result.runs) == ("unet", True, 1)


def test_memory_of_concurrent_runs_adds_up_and_a_guess_is_named(make: Make) -> None:
    one, two = (assess(make(workers=workers)).memory for workers in (1, 2))
    assert one is not None
    assert two is not None
    assert (two.bytes, two.runs, two.measured) == (2 * one.bytes, 2, False)


def test_no_study_is_refused_for_a_network_of_unknown_size_until_it_is_measured(make: Make) -> None:
    study = make(models="eal_icnet", keep="all")
    study.models = [replace(study.models[0], params=None)]
    result = assess(study)
    assert (result.unknown, result.results.parts.keys()) == (("eal_icnet",), {"records"})
    assert result.memory is not None
    assert result.memory.bytes > space_estimate.PROCESS_BYTES + 5 * 4 * space_estimate.UNKNOWN_PARAMS
    assert "not known before it is measured: eal_icnet" in told(result, study.hardware)
    fake.write_efficiency(study.folder, "eal_icnet", 32, name=facts.cpu_name(), params=1234)
    result = assess(study)
    assert (result.unknown, result.results.parts["weights"]) == ((), 3 * 4 * 1234)


def free(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=count))


def test_disk_that_is_too_full_is_refused_with_figures_and_remedies(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = assess(make())
    # Cache and results lie on one disk: either alone would fit.
    free(monkeypatch, result.cache.bytes + result.results.bytes - 1)
    with pytest.raises(
        UserError, match=r"about 486 MB, 82 kB in .*cache \(pack of omc-syn.*--keep-weights none"
    ) as error:
        assess(make()).refuse_full_disk()
    for word in ("486 MB in", "--cache", "--results", "weights 57 MB", "486 MB are free"):
        assert word in str(error.value)
    free(monkeypatch, result.cache.bytes + result.results.bytes)
    assess(make()).refuse_full_disk()


@pytest.mark.parametrize("disk", [-1, 1 << 65])
def test_two_disks_are_checked_separately(make: Make, disk: int) -> None:
    result = assess(make())
    cache = replace(result.cache, disk=disk, free=result.cache.bytes)
    replace(result, cache=cache, results=replace(result.results, free=result.results.bytes)).refuse_full_disk()
    with pytest.raises(UserError, match="not enough disk"):
        replace(result, cache=replace(cache, free=result.cache.bytes - 1)).refuse_full_disk()


def test_split_that_no_images_can_fill_is_refused(make: Make) -> None:
    study = make()
    assert space_estimate.refuse_unfillable(study, make_plan(study)) == []
    study = make("split.counts=[7,2,2]")
    with pytest.raises(UserError, match=r"omc-syn"):
        space_estimate.refuse_unfillable(study, make_plan(study))


def told(found: Needs, hardware: Hardware) -> str:
    text = io.StringIO()
    plan_table.print_needs(open_console(file=text, width=400), found, hardware)
    return text.getvalue()


def test_plan_has_a_line_for_memory_and_one_for_each_disk(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    study = make(workers=2)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=50_000_000_000))
    lines = told(assess(study), study.hardware).splitlines()
    assert len(lines) == 3
    assert "for 2 runs at a time, most for unet (a rough rule" in lines[0]
    assert lines[0].endswith("50.0 GB free")
    assert "pack of omc-syn 82 kB" in lines[1]
    assert "weights 57 MB" in lines[2]


@pytest.mark.parametrize(
    ("hardware", "flag"), [(Hardware("cpu", 2, 2), "--workers"), (Hardware("cuda:0", 2, 2), "--per-gpu")]
)
def test_too_little_memory_is_a_warning_that_names_the_flags(make: Make, hardware: Hardware, flag: str) -> None:
    result = assess(make(workers=2))
    assert result.memory is not None
    text = told(replace(result, memory=replace(result.memory, free=1)), hardware)
    assert (
        f"Warning: that is more than there is; runs may fail as out_of_memory. Try fewer runs at a time ({flag})"
        in text
    )
    assert "--set training.micro_batch" in text


def test_finished_study_needs_nothing(make: Make) -> None:
    study = make()
    for job in make_plan(study).todo:
        study.store.write_run(job.record(status="ok"), {}, [], None)
    result = assess(study)
    assert (result.memory, result.cache.bytes, result.results.bytes) == (None, 0, 0)
    assert told(result, study.hardware) == ""
