"""Tests the requirements of another machine, and the flags of engines."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmark.config.protocol import Protocol, load_protocol
from benchmark.data.packs import open_pack, pack_path
from benchmark.devices.hardware_slots import Hardware, hardware_of_node
from benchmark.executors.choice import choose_executor
from benchmark.executors.events import Event
from benchmark.executors.remote import Parcel, parcels, refuse_missing_package, with_near_packs
from benchmark.executors.slurm import SlurmOptions
from benchmark.records import claims
from benchmark.records.run_record import Failure
from benchmark.records.store import Store
from benchmark.runs.jobs import Job, TrainJob
from benchmark.study.plan import make_plan
from benchmark.study.study import Study
from benchmark.utils.errors import UserError
from tests.benchmark.conftest import Call, tiny_run
from tests.benchmark.pretend import Pretend

MakeJob = Callable[..., TrainJob]


def silent(done: int, total: int) -> None: ...


def test_measurements_are_of_one_machine_and_each_run_goes_alone(
    make_study: Callable[..., Study], small: Protocol
) -> None:
    plan = make_plan(make_study(small, "TinyNet", "Raises"))
    first, *others = parcels([*plan.todo, *plan.measurements], near="/scratch")
    assert (first.jobs, first.exclusive) == (tuple(plan.measurements), True)
    assert [parcel.jobs for parcel in others] == [(job,) for job in plan.todo]
    assert {parcel.folder for parcel in others} == {Path.cwd()}


def test_machine_with_another_version_is_refused(make_job: MakeJob, small: Protocol) -> None:
    (parcel,) = parcels([make_job(small)])
    answer = replace(parcel, version="9.9, behaviour 9").perform(silent)
    assert isinstance(answer, UserError)
    assert re.search(r"a node has version .* expected 9\.9, behaviour 9; install the same", str(answer))


def test_machine_without_the_folder_or_the_study_is_refused(make_job: MakeJob, small: Protocol, tmp_path: Path) -> None:
    (parcel,) = parcels([make_job(small)])
    answer = replace(parcel, folder=tmp_path / "nowhere").perform(silent)
    assert re.search(r"nowhere: not there on a node .*folder that all share", str(answer))
    assert re.search(r"small: empty on a node; --results must lie on a disk", str(parcel.perform(silent)))


class Killed(Pretend):
    """Leaves the claim of a process that was killed."""

    def run(self, jobs: Sequence[Job]) -> Generator[Event, None, None]:
        jobs[0].folder.mkdir(parents=True)
        owner = {"machine": claims.machine(), "pid": 2**22 + 1, "started": 1.0}  # no process has so large a number
        (jobs[0].folder / "claim.1").write_text(json.dumps(owner))
        yield from super().run(jobs)


def test_machine_that_saw_a_run_fail_writes_its_record(make_study: Callable[..., Study], small: Protocol) -> None:
    study = make_study(small)
    study.store.write_protocol(study.protocol)
    job = make_plan(study).todo[0]
    executor: Any = Killed(fail=[job.label])
    ((failure, seconds),) = Parcel((job,), Path.cwd()).perform(silent, executor)
    assert isinstance(failure, Failure)
    assert seconds == 1.0
    record = Store(job.study).read_record(("omc-syn",), "tinynet", 0)
    assert record is not None
    assert record.failure == failure
    assert record.environment["cpu_cores"]
    assert not list(job.folder.glob("claim.*"))


def test_packs_are_read_from_a_node_s_own_disk(
    make_job: MakeJob, small: Protocol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(small)
    (source,) = job.task.sources
    shared = open_pack(source, small, job.cache)
    monkeypatch.setenv("SCRATCH", str(tmp_path))
    near = with_near_packs(job, "$SCRATCH/packs of mine")
    assert isinstance(near, TrainJob)
    assert near.cache == tmp_path / "packs of mine"
    copied = pack_path(source, small, near.cache)
    assert {file.name for file in copied.iterdir()} == {"images.npy", "masks.npy", "manifest.json"}
    assert (open_pack(source, small, near.cache).images == shared.images).all()
    assert [path.name for path in copied.parent.iterdir()] == [copied.name]  # nothing half-written

    before = (copied / "manifest.json").stat().st_mtime_ns
    assert with_near_packs(job, "$SCRATCH/packs of mine") == near
    assert (copied / "manifest.json").stat().st_mtime_ns == before

    monkeypatch.setenv("SLURM_TMPDIR", str(tmp_path / "slurm"))
    assert with_near_packs(job, None) == replace(job, cache=tmp_path / "slurm")


def test_full_disk_of_a_node_is_no_reason_to_fail(
    make_job: MakeJob, small: Protocol, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job(small)
    open_pack(job.task.sources[0], small, job.cache)
    (tmp_path / "full").write_text("not a folder")
    assert with_near_packs(job, str(tmp_path / "full")) == job
    assert "cannot be written" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"cache=\$NOWHERE_SET/x: a node's environment does not have that variable"):
        with_near_packs(job, "$NOWHERE_SET/x")


def test_missing_package_is_reported_and_other_errors_are_not() -> None:
    with pytest.raises(UserError, match=r"^benchmark: cannot be imported on a node; install the benchmark"):
        refuse_missing_package(RuntimeError("failed:\nModuleNotFoundError: No module named 'benchmark'\nmore"))
    refuse_missing_package(RuntimeError("anything else"))


def test_options_of_slurm_are_read() -> None:
    options = SlurmOptions.parse("partition=gpu,gpu2,time=1-02:03:30,array=16,mem=8.5,cache=$SLURM_TMPDIR/packs")
    assert options.partition == "gpu,gpu2"
    assert options.time == 24 * 60 + 2 * 60 + 4
    assert (options.array, options.mem, options.cache) == (16, 8.5, "$SLURM_TMPDIR/packs")
    assert SlurmOptions.parse("time=600").time == 600
    assert SlurmOptions.parse("") == SlurmOptions()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--executor", "slurm", "--slurm", "partion=gpu"], r"--slurm: no option 'partion'; did you mean 'partition'"),
        (["--executor", "slurm", "--slurm", "time=soon"], r"--slurm time=soon: .*integer"),
        (["--executor", "slurm", "--slurm", "time=2"], r"--slurm time=2: .*greater than or equal to 5"),
        (["--executor", "slurm", "--slurm", "account="], r"--slurm account: expected account=VALUE"),
        (["--slurm", "array=3"], r"--slurm: only with --executor slurm"),
        (["--ray-address", "auto"], r"--ray-address: only with --executor ray"),
        (["--executor", "slurm", "--workers", "3"], r"--workers: .*--slurm array=N decides"),
        (["--executor", "ray", "--ray-address", "auto", "--workers", "3"], r"--workers: .*cluster's CPUs and GPUs"),
        (["--executor", "slurm", "--per-gpu", "3"], r"--per-gpu: Slurm gives each job GPUs of its own"),
        (["--executor", "slurm", "--device", "auto"], r"--device auto: .*say --device cuda or --device cpu"),
        (["--executor", "slurm", "--device", "cuda:1"], r"--device cuda:1: .*say --device cuda or --device cpu"),
    ],
)
def test_flags_of_other_engines_are_refused(call: Call, arguments: list[str], message: str) -> None:
    code, out, err = call(*tiny_run(*arguments))
    assert code == 2, out
    assert re.search(message, err), err
    assert len(err.strip().splitlines()) == 1
    assert not Path("results").exists()


@pytest.mark.parametrize(("engine", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_missing_engine_is_refused_before_any_work(
    call: Call, monkeypatch: pytest.MonkeyPatch, engine: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    code, _, err = call(*tiny_run("--executor", engine))
    assert code == 2
    assert f"--executor {engine}: {package} is not installed; pip install -e '.[{engine}]'" in err
    assert not Path("results").exists()


def test_run_on_a_cluster_gets_the_flags_and_nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    none: dict[str, Any] = {"slurm": None, "address": None, "workers": None, "per_gpu": 1, "timeout_s": None}
    assert hardware_of_node("cuda", None, "slurm") == Hardware("cuda:0", 4, gpus=("cuda:0",), remote=True)
    assert hardware_of_node("cpu", 12, "slurm") == Hardware("cpu", 12, remote=True)
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    ray = choose_executor("ray", **none)
    assert (ray.address, ray.remote) == ("head:6379", True)
    assert "cluster at head:6379" in ray.line
    monkeypatch.delenv("RAY_ADDRESS")
    assert not choose_executor("ray", **none).remote
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert choose_executor("local", **none).line == ""


def test_times_of_a_cluster_are_kept_apart_from_this_machine_s(make_study: Callable[..., Study]) -> None:
    study = make_study(load_protocol("quick"))
    job = make_plan(study).todo[0]
    study.costs.remember(job, 100.0)
    here, study.costs.hardware = study.costs.hardware, Hardware("cpu", 1, remote=True)
    assert study.costs.seconds(job) != 100
    study.costs.remember(job, 7.0)
    assert study.costs.seconds(job) == 7
    study.costs.hardware = here
    assert study.costs.seconds(job) == 100
