"""How work is given to a device: what is chosen, what is refused, and compiled training against plain training."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmark.config import execution
from benchmark.config.execution import Execution
from benchmark.config.protocol import Protocol, load_protocol
from benchmark.config.setting_types import Determinism
from benchmark.data.batches import Batch, TrainingBatches, evaluation_batches
from benchmark.data.packs import Pack
from benchmark.devices.hardware_slots import Hardware
from benchmark.devices.launch_mode import Launch
from benchmark.runs.jobs import TrainJob
from benchmark.runs.train import train_and_test
from benchmark.study.plan import make_plan
from benchmark.study.study import Study
from benchmark.training import loop
from benchmark.utils.errors import UserError
from tests.benchmark.conftest import SMALL
from tests.benchmark.tiny import Comparable, TinyNet

CPU = torch.device("cpu")

needs_a_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++"))), reason="torch.compile needs a C++ compiler on a CPU; found none"
)


@pytest.mark.parametrize(
    ("asked", "device", "mode"),
    [("auto", "cpu", "eager"), ("auto", "cuda", "graph"), ("eager", "cuda", "eager"), ("graph", "cuda", "graph")],
)
def test_auto_is_graphs_on_a_gpu_and_plain_on_a_cpu(asked: Execution, device: str, mode: str) -> None:
    assert Launch(nn.Identity(), torch.device(device), asked).mode == mode


@pytest.mark.parametrize(
    ("asked", "device", "determinism", "message"),
    [
        ("graph", "cpu", "seeded", "--execution graph: replays CUDA graphs, and the device is a CPU"),
        ("compile", "cuda:0", "deterministic", "--execution compile: .* determinism=deterministic forbids"),
        ("compile", "cpu", "deterministic", "determinism=seeded"),
    ],
)
def test_what_cannot_be_is_refused(asked: Execution, device: str, determinism: Determinism, message: str) -> None:
    with pytest.raises(UserError, match=message):
        execution.refuse(asked, device, determinism)


@pytest.mark.parametrize("asked", ["auto", "eager", "graph"])
def test_gpu_may_be_deterministic_in_every_other_way(asked: Execution) -> None:
    execution.refuse(asked, "cuda:1", "deterministic")


def test_study_hands_it_to_its_runs_and_keeps_their_keys(small: Protocol, make_study: Callable[..., Study]) -> None:
    study = make_study(small)
    plain = make_plan(study).todo
    study.execution = "auto"
    asked = make_plan(study).todo
    assert {job.execution for job in plain} == {"eager"}
    assert {job.execution for job in asked} == {"auto"}
    assert [job.key for job in asked] == [job.key for job in plain]
    with pytest.raises(UserError, match="--execution graph"):
        Study(study.folder, small, study.models, study.tasks, Hardware("cpu", 1), study.cache, execution="graph")


@pytest.mark.parametrize("asked", ["auto", "eager"])
def test_record_says_how_it_was_computed(small: Protocol, make_job: Callable[..., TrainJob], asked: Execution) -> None:
    record = train_and_test(replace(make_job(small), execution=asked), lambda *_: None)
    assert record.environment["execution"] == "eager"
    assert "execution_reason" not in record.environment


def broken(*arguments: object, **settings: object) -> Callable[..., object]:
    def compiled(*inputs: object) -> object:
        raise RuntimeError("No working C++ compiler found in /usr/lib/there: list\nand more")

    return compiled


def test_without_a_compiler_a_run_is_plain_and_says_why(
    small: Protocol, make_job: Callable[..., TrainJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = train_and_test(make_job(small, name="plain"), lambda *_: None)
    monkeypatch.setattr(torch, "compile", broken)
    fallen = train_and_test(replace(make_job(small, name="fallen"), execution="compile"), lambda *_: None)
    assert fallen.metrics == plain.metrics
    assert fallen.environment["execution"] == "eager"
    reason = "not compiled: RuntimeError: No working C++ compiler found in there: list"
    assert fallen.environment["execution_reason"] == reason


def test_what_a_compiled_call_changed_before_it_failed_is_put_back() -> None:
    network, x = TinyNet().train(), torch.rand(2, 1, 8, 8)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    launch = Launch(nn.Identity(), CPU)
    launch.network, launch.mode = network, "compile"
    seen: list[Tensor] = []

    def fails_at_first(x: Tensor) -> Tensor:
        seen.append(torch.rand(1))
        assert torch.equal(network.norm.running_mean, before["norm.running_mean"])
        network(x)
        if len(seen) == 1:
            raise RuntimeError("no kernel for the second half")
        return x

    launch.of(fails_at_first)(x)
    assert torch.equal(*seen)
    assert network.norm.num_batches_tracked == 1
    torch.set_rng_state(state)
    assert torch.equal(torch.rand(1), seen[0])


def train(network: nn.Module, pack: Pack, protocol: Protocol, launch: Launch) -> loop.TrainingResult:
    division = pack.divide(protocol)
    batches = TrainingBatches([(pack, division.train)], 32, protocol, 0, CPU)

    def validation() -> Iterator[Batch]:
        return evaluation_batches(pack, division.val, 32, 2, CPU)

    return loop.train(network, batches, validation, protocol, lambda *_: None, launch=launch)


@needs_a_compiler
@pytest.mark.slow
def test_compiled_training_is_the_plain_one_but_for_rounding_and_its_weights_keep_their_names(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    # An odd batch ends each epoch, and norms are estimated anew before each validation.
    protocol = load_protocol("quick", [*SMALL, "training.steps=6", "training.validate_every=3"])
    curves, states = [], []
    asked: tuple[Execution, ...] = ("eager", "compile")
    for one in asked:
        torch.manual_seed(0)
        network = Comparable()
        launch = Launch(network, CPU, one)
        trained = train(network, pack, protocol, launch)
        assert launch.facts() == {"execution": one}
        curves.append(torch.tensor([(row.train_loss, row.validation_loss) for row in trained.history]))
        states.append(network.state_dict())
    torch.testing.assert_close(*curves, rtol=1e-4, atol=1e-5)
    assert list(states[1]) == list(states[0]) == list(Comparable().state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=1e-4)
