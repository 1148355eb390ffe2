"""Tests Ray: another node does the runs of a killed node, once; every task ends in a record or a typed failure."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmark.config.protocol import Protocol, load_protocol
from benchmark.devices.hardware_slots import Hardware
from benchmark.executors.events import Event, Finished, Started, Step
from benchmark.executors.ray import ENVIRONMENT, OBJECT_STORE, RayExecutor, outcome_of, visible_gpus
from benchmark.executors.remote import parcels
from benchmark.records import claims
from benchmark.records.run_record import Failure, Record
from benchmark.runs.jobs import TrainJob
from benchmark.study.execute import execute
from benchmark.study.plan import make_plan
from benchmark.study.study import Study
from benchmark.utils.errors import UserError
from tests.benchmark.conftest import SMALL, TINY, Call, tiny_run
from tests.benchmark.executors.in_process import InProcessExecutor, outcomes
from tests.benchmark.pretend import trainings

os.environ.update(ENVIRONMENT)  # read when Ray is imported
ray = pytest.importorskip("ray", reason="needs Ray: pip install -e '.[ray]'")

NODE = Hardware("cpu", 1, remote=True)
# Seconds until a silent node counts as dead: 3 x 1 in place of 5 x 3.
QUICK = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 1000, "health_check_failure_threshold": 3}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "object_store_memory": OBJECT_STORE, "include_dashboard": False, "_system_config": QUICK}
    created = Cluster(initialize_head=True, head_node_args=head)
    created.add_node(num_cpus=1, object_store_memory=OBJECT_STORE)
    yield created
    created.shutdown()


def quick(**more: object) -> Protocol:
    return load_protocol("quick", [*SMALL, *(f"{name.replace('__', '.')}={value}" for name, value in more.items())])


@pytest.mark.slow
def test_runs_of_a_killed_node_continue_elsewhere_and_each_is_done_once(
    make_study: Callable[..., Study], cluster: Any
) -> None:
    study = make_study(quick(repeats=3, training__steps=32), "Slow", name="ray")
    study.hardware = NODE
    cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE)
    steps: dict[str, int] = {}
    events: list[Event] = []

    def emit(event: Event) -> None:
        events.append(event)
        if isinstance(event, Step):
            steps[event.job.label] = event.done
        if isinstance(event, Finished):
            del steps[event.job.label]
        # Two runs have left a checkpoint behind, one on each node.
        if len(cluster.worker_nodes) == 2 and sum(done >= 4 for done in steps.values()) == 2:
            here = ray.get_runtime_context().get_node_id()
            others = [node for node in cluster.worker_nodes if node.node_id != here]
            cluster.remove_node(others[0], allow_graceful=False)

    execute(study, trainings(make_plan(study)), RayExecutor(NODE, address=cluster.address), emit)
    assert len(cluster.worker_nodes) == 1
    assert not ray.is_initialized()
    ends = outcomes(events)
    assert [type(outcome) for outcome in ends.values()] == [Record] * 3
    assert sum(isinstance(event, Finished) for event in events) == 3
    assert sum(isinstance(event, Started) for event in events) in (3, 4)
    logs = [(study.store.run_folder(("omc-syn",), "slow", repeat) / "log.txt").read_text() for repeat in range(3)]
    assert sorted(log.count("begun") for log in logs) == [1, 1, 2]

    here = make_study(study.protocol, "TinyNet", name="local")
    execute(here, trainings(make_plan(here)), InProcessExecutor(), lambda event: None)
    assert [record.metrics for _, record in study.store.records()] == [
        record.metrics for _, record in here.store.records()
    ]
    assert not list(study.folder.rglob("claim.*"))
    assert not list(study.folder.rglob("last.pt"))


@pytest.mark.slow
def test_runs_one_after_the_other_on_a_node_share_a_process_that_ends_with_the_study(
    make_study: Callable[..., Study], cluster: Any
) -> None:
    study = make_study(quick(repeats=4, training__steps=4), "TinyNet")
    study.hardware = NODE
    logged: list[int] = []

    def processes() -> list[int]:
        result = []
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                if "multiprocessing.spawn" in " ".join(child.cmdline()):
                    result.append(child.pid)
        return result

    def emit(event: Event) -> None:
        if isinstance(event, Finished):
            assert isinstance(event.outcome, Record)
            logged.extend(processes())

    execute(study, trainings(make_plan(study)), RayExecutor(NODE, address=cluster.address), emit)
    assert 1 <= len(set(logged)) <= 2  # four runs, on one node or two
    deadline = time.monotonic() + 20
    while processes() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not processes()


def test_failures_are_rows_and_a_crashing_network_takes_no_other_along(
    make_study: Callable[..., Study], cluster: Any
) -> None:
    study = make_study(quick(repeats=1), "Dies", "TinyNet")
    study.hardware = NODE
    events: list[Event] = []
    execute(study, trainings(make_plan(study)), RayExecutor(NODE, address=cluster.address), events.append)
    ends = outcomes(events)
    assert isinstance(ends["omc-syn tinynet repeat 0"], Record)
    assert ends["omc-syn dies repeat 0"].kind == "worker_died"
    assert "SIGKILL" in ends["omc-syn dies repeat 0"].message
    assert [record.status for _, record in study.store.records()] == ["failed", "ok"]
    (died,) = (record for _, record in study.store.records() if record.model == "dies")
    assert died.environment["cpu"]  # written where it ran


@pytest.mark.slow
def test_closing_the_iterator_ends_what_the_cluster_is_doing(make_study: Callable[..., Study], cluster: Any) -> None:
    study = make_study(quick(repeats=1), "Waits")
    plan = trainings(make_plan(study))
    study.store.write_protocol(study.protocol)
    events = RayExecutor(NODE, address=cluster.address).run(plan.todo)
    folder = plan.todo[0].folder
    for event in events:
        deadline = time.monotonic() + 60
        while isinstance(event, Started) and claims.holder(folder) is None and time.monotonic() < deadline:
            time.sleep(0.2)
        break
    assert claims.holder(folder) is not None
    events.close()
    deadline = time.monotonic() + 20
    while claims.holder(folder) is not None and time.monotonic() < deadline:
        time.sleep(0.2)
    assert claims.holder(folder) is None
    assert not ray.is_initialized()


@pytest.mark.slow
def test_run_that_hangs_is_ended(make_study: Callable[..., Study], cluster: Any) -> None:
    study = make_study(quick(repeats=1), "Waits", "TinyNet")
    study.hardware = NODE
    events: list[Event] = []
    execute(study, trainings(make_plan(study)), RayExecutor(NODE, address=cluster.address, timeout_s=40), events.append)
    ends = outcomes(events)
    assert ends["omc-syn waits repeat 0"].kind == "timeout"
    assert isinstance(ends["omc-syn tinynet repeat 0"], Record)


def test_worker_without_the_package_is_reported(
    make_job: Callable[..., TrainJob], cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = types.ModuleType("benchmark_of_the_sender")
    monkeypatch.setitem(sys.modules, package.__name__, package)
    exec("def perform(): return []", package.__dict__)
    ray.init(cluster.address, log_to_driver=False)
    try:
        with pytest.raises(UserError, match=r"^benchmark_of_the_sender: cannot be imported on a node; install"):
            list(outcome_of(ray, ray.remote(package.perform).remote(), [make_job(quick())], 0.0))
    finally:
        ray.shutdown()


@pytest.mark.slow
def test_exhausted_node_is_a_typed_failure(make_study: Callable[..., Study], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.01")  # any machine uses more than a hundredth of its memory
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    study = make_study(quick(repeats=1), "Waits")
    events: list[Event] = []
    execute(study, trainings(make_plan(study)), RayExecutor(Hardware("cpu", 1)), events.append)
    (outcome,) = outcomes(events).values()
    assert isinstance(outcome, Failure)
    assert outcome.kind == "out_of_memory"


@pytest.mark.slow
def test_ray_of_this_machine_does_a_whole_study_and_ends(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TINY.parents[2]), prepend=os.pathsep)  # workers start in an empty folder
    code, out, err = call(*tiny_run("--executor", "ray"))
    assert code == 0, err
    assert "Engine: a Ray of this machine" in out
    assert "[1/1] omc-syn tinynet repeat 0: ok" in out
    assert not ray.is_initialized()


def test_long_folder_for_temporary_files_is_refused_with_the_remedy(
    make_job: Callable[..., TrainJob], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder := tmp_path / ("scratch" * 10)).mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    with pytest.raises(UserError, match=r"^--executor ray: .* 107 bytes.*: set RAY_TMPDIR to a short folder"):
        next(RayExecutor(Hardware("cpu", 1)).run([make_job(quick())]))


def test_unreachable_cluster_is_refused(make_job: Callable[..., TrainJob]) -> None:
    with pytest.raises(UserError, match=r"^--ray-address 127.0.0.1:9: Ray cannot be reached or started"):
        list(RayExecutor(NODE, address="127.0.0.1:9").run([make_job(quick())]))


class OfThree:
    """What ``ray.nodes`` says of a cluster."""

    @staticmethod
    def nodes() -> list[dict[str, Any]]:
        result = [{"CPU": 64.0}, {"CPU": 16.0, "GPU": 8.0}, {"CPU": 8.0, "GPU": 2.0}]
        return [{"Alive": True, "Resources": node} for node in result] + [{"Alive": False, "Resources": {}}]


def test_runs_ask_for_a_share_of_a_gpu_and_measurements_for_a_whole_node(make_study: Callable[..., Study]) -> None:
    plan = make_plan(make_study(quick(repeats=1)))
    measurements, run = parcels([*plan.todo, *plan.measurements])
    cuda = RayExecutor(Hardware("cuda:0", 4, gpus=("cuda:0",), remote=True), per_gpu=4)
    assert cuda.needs(OfThree, run) == {"num_cpus": 4, "num_gpus": 0.25}
    assert cuda.needs(OfThree, measurements) == {"num_cpus": 16, "num_gpus": 1}
    cpu = RayExecutor(Hardware("cpu", 4, remote=True))
    assert cpu.needs(OfThree, run) == {"num_cpus": 4, "num_gpus": 0}
    assert cpu.needs(OfThree, measurements) == {"num_cpus": 64, "num_gpus": 0}
    large = RayExecutor(replace(cpu.hardware, threads=128))
    assert large.needs(OfThree, measurements) == {"num_cpus": 128, "num_gpus": 0}


@pytest.mark.parametrize(("before", "inside"), [(None, "1,2"), ("4,5,6", "5,6")])
def test_ray_sees_the_gpus_that_were_asked_for(
    monkeypatch: pytest.MonkeyPatch, before: str | None, inside: str
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if before is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
    with visible_gpus(("cuda:1", "cuda:2")):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == inside
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == before
