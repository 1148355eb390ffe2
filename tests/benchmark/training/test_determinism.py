"""Runs that repeat themselves: the two modes, what a record says of them, and equal bits for every network."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmark.config import code_identity, registry
from benchmark.config.protocol import Protocol, load_protocol
from benchmark.data.batches import TrainingBatches, evaluation_batches
from benchmark.data.packs import Pack
from benchmark.devices import precision
from benchmark.records.run_record import Record
from benchmark.records.store import WEIGHTS, Store
from benchmark.runs import train
from benchmark.runs.failures import describe_failure
from benchmark.runs.jobs import TrainJob
from benchmark.runs.train import train_and_test
from benchmark.study.study import Study
from benchmark.training import determinism, loop
from tests.benchmark.conftest import SMALL, TINY
from tests.benchmark.pretend import Pretend, do
from tests.benchmark.tiny import Puts, Raises, TinyNet
from tests.network_tester import networks

CPU = torch.device("cpu")
MakeJob = Callable[..., TrainJob]


def train_job(job: TrainJob) -> Record:
    return train_and_test(job, lambda *_: None)


def of(job: TrainJob, name: str) -> TrainJob:
    (entry,) = registry.select(f"{TINY}:{name}" if name[0].isupper() else name)
    parts = job.key_parts.model_copy(update={"model": code_identity.identity(entry)})
    return replace(job, entry=entry, key_parts=parts)


def operations(network: nn.Module, protocol: Protocol) -> list[str] | None:
    return determinism.nondeterministic_operations(network, 1, protocol.input.size, protocol.input.channels, protocol)


def flags() -> tuple[bool, ...]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.is_warn_always_enabled(),
        torch.backends.cudnn.benchmark,
    )


def test_probe_names_what_torch_flags_and_leaves_everything_as_it_was(small: Protocol) -> None:
    network, plain = Puts(), TinyNet()
    weights, state, before = copy.deepcopy(network.state_dict()), torch.get_rng_state(), flags()
    for _ in range(2):  # a warning that shows once per process would be missed by the second
        assert operations(network, small) == ["put_"]
    assert operations(plain, small) == []
    assert flags() == before
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_probe_that_fails_tells_nothing_and_stops_nothing(small: Protocol) -> None:
    before = flags()
    assert operations(Raises(), small) is None
    assert flags() == before


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("cumsum_cuda_kernel does not have a deterministic implementation, but you set", ["cumsum_cuda_kernel"]),
        ("Memory Efficient attention defaults to a non-deterministic algorithm. To", ["Memory Efficient attention"]),
        ("this operation is not deterministic because it uses CuBLAS and you have CUDA >= 10.2.", ["CuBLAS"]),
        ("The given NumPy array is not writable", []),
    ],
)
def test_torch_s_words_on_a_gpu_are_understood(small: Protocol, message: str, expected: list[str]) -> None:
    network = TinyNet()
    for _ in range(2):
        network.register_forward_hook(lambda *_: warnings.warn(message, stacklevel=1))
    assert operations(network, small) == expected


@pytest.mark.parametrize(("name", "expected"), [("TinyNet", []), ("Puts", ["put_"])])
def test_record_lists_the_mode_and_the_operations(
    small: Protocol, make_job: MakeJob, name: str, expected: list[str]
) -> None:
    environment = train_job(of(make_job(small), name)).environment
    assert environment["determinism"] == "seeded"
    assert environment["nondeterministic_operations"] == expected


def test_probe_changes_no_bit_of_the_trained_weights(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    # Dropout is drawn from torch's random state, and averages of BatchNorm, here never taken anew, remember every
    # forward: a trace of the probe would show.
    protocol = load_protocol("quick", [*SMALL, "training.norm_reestimation_batches=0"])
    files = []
    for name in ("with", "without"):
        job = of(make_job(protocol, name=name), "Dropping")
        train_job(job)
        files.append(Store(job.study).run_folder(("omc-syn",), "dropping", 0) / WEIGHTS)
        monkeypatch.setattr(determinism, "nondeterministic_operations", lambda *_: [])
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.fixture
def deterministic() -> Protocol:
    return load_protocol("quick", [*SMALL, "determinism=deterministic"])


def test_deterministic_mode_holds_during_a_run_and_ends_with_it(
    deterministic: Protocol, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(train, "evaluate", lambda *_: seen.append(flags()) or [])
    before = flags()
    assert train_job(make_job(deterministic)).environment["determinism"] == "deterministic"
    assert seen == [(True, False, False, False)]
    assert flags() == before


def test_deterministic_mode_refuses_an_operation_by_name(deterministic: Protocol, make_job: MakeJob) -> None:
    before = flags()
    with pytest.raises(determinism.NotDeterministicError) as caught:
        train_job(of(make_job(deterministic), "Puts"))
    assert flags() == before
    failure = describe_failure(caught.value, "")
    assert failure.kind == "not_deterministic"
    assert "put_ has no deterministic kernel" in failure.message
    assert "--set determinism=seeded" in failure.message


def test_another_error_stays_what_it_is(deterministic: Protocol, make_job: MakeJob) -> None:
    with pytest.raises(RuntimeError, match="the sort of bug"):
        train_job(of(make_job(deterministic), "Raises"))


def test_worker_s_environment_follows_the_mode(small: Protocol, deterministic: Protocol, make_job: MakeJob) -> None:
    assert make_job(small).on("cuda:0").variables == {}
    assert make_job(deterministic, name="other").on("cuda:0").variables == {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}


def test_failed_run_s_record_lists_the_mode_too(deterministic: Protocol, make_study: Callable[..., Study]) -> None:
    study = make_study(deterministic)
    do(study, Pretend(fail=[f"omc-syn tinynet repeat {repeat}" for repeat in range(3)]))
    assert {record.environment["determinism"] for _, record in study.store.records()} == {"deterministic"}


@pytest.mark.parametrize("name", networks(everyday=("eal_icnet", "esnet")))
def test_two_trainings_of_any_network_give_the_same_bits(pack: Pack, make_job: MakeJob, name: str) -> None:
    protocol = load_protocol("quick", [*SMALL, "training.batch=2", "training.steps=1", "training.validate_every=1"])
    division = pack.divide(protocol)
    job = of(make_job(protocol), name)

    network = train.build_network(job)
    assert determinism.nondeterministic_operations(network, job.entry.multiple, 32, 1, protocol) == []

    def trained() -> dict[str, torch.Tensor]:
        network = precision.to_device(train.build_network(job), CPU)
        torch.manual_seed(7)
        batches = TrainingBatches([(pack, division.train)], 32, protocol, 0, CPU)
        loop.train(
            network, batches, lambda: evaluation_batches(pack, division.val, 32, 2, CPU), protocol, lambda *_: None
        )
        with torch.inference_mode():
            (batch,) = evaluation_batches(pack, division.test, 32, 2, CPU)
            return {**network.state_dict(), "logits": network.eval()(batch.images)}

    first, second = trained(), trained()
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


@pytest.mark.gpu
def test_gpu_repeats_itself_bit_for_bit_in_the_deterministic_mode(
    deterministic: Protocol, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    files: list[Path] = []
    for name in ("a", "b"):
        job = replace(of(make_job(deterministic, name=name), "eal_icnet"), device="cuda:0")
        assert train_job(job).environment["nondeterministic_operations"] is not None
        files.append(Store(job.study).run_folder(("omc-syn",), "eal_icnet", 0) / WEIGHTS)
    assert files[0].read_bytes() == files[1].read_bytes()
