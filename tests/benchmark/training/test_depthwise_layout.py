"""Layouts of depthwise convolutions: the same step in both, one choice per study, no choice on a CPU."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from benchmark.config.execution import Execution
from benchmark.config.protocol import Protocol
from benchmark.data.batches import TrainingBatches
from benchmark.data.packs import Pack
from benchmark.devices.launch_mode import Launch
from benchmark.devices.precision import to_device
from benchmark.records.store import Store
from benchmark.runs.train import train_and_test
from benchmark.study.plan import make_plan
from benchmark.study.study import Study
from benchmark.training.depthwise_layout import Layout, choose, depthwise, lay_out
from tests.benchmark.fake_gpu import FakeGPU, OnTheCPU, fake_gpu
from tests.benchmark.tiny import Depthwise, TinyNet

__all__ = ["fake_gpu"]

GPU = torch.device("cuda:0")
Mode = Literal["eager", "compile"]


def test_contiguous_maps_reach_depthwise_convolutions_alone_and_give_the_same_gradients() -> None:
    torch.manual_seed(0)
    network = to_device(Depthwise().double(), torch.device("cpu"))
    other, x = copy.deepcopy(network), torch.rand(2, 1, 8, 8, dtype=torch.float64)
    lay_out(other, "contiguous")
    (layer,) = depthwise(other)
    assert layer.weight.stride() == (9, 9, 3, 1)
    maps: list[Tensor] = []
    for module in (layer, other.head):
        module.register_forward_hook(lambda module, inputs, result: maps.append(inputs[0]))
    torch.testing.assert_close(other(x), network(x))
    assert maps[0].is_contiguous()
    for copied in (network, other):
        copied(x).square().sum().backward()
    for (name, value), again in zip(network.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(again.grad, value.grad, msg=name)
    assert list(other.state_dict()) == list(network.state_dict())


class Clock:
    """Says how long a step takes in each layout; ``None`` for a step that fails."""

    def __init__(self, last: float, contiguous: float | None) -> None:
        self.answers = {"channels_last": last, "contiguous": contiguous}
        self.asked: list[Layout] = []

    def __call__(self, launch: Launch, layout: Layout, *_: object) -> float:
        self.asked.append(layout)
        if (answer := self.answers[layout]) is None:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return answer


@pytest.mark.parametrize(
    ("contiguous", "layout"), [(5.0, "contiguous"), (9.9, "channels_last"), (20.0, "channels_last"), (None, None)]
)
def test_the_faster_layout_is_chosen_once_per_study_and_setting(
    contiguous: float | None, layout: Layout | None, small: Protocol, pack: Pack, tmp_path: Path, fake_gpu: FakeGPU
) -> None:
    batches = TrainingBatches([(pack, range(4))], 32, small, 0, GPU)
    clock, store, modes = Clock(10.0, contiguous), Store(tmp_path), ("eager", "eager", "graph")
    networks = [to_device(Depthwise(), torch.device("cpu")) for _ in modes]
    chosen = [
        choose(Launch(network, GPU, mode), batches, small, store, "net", clock)
        for network, mode in zip(networks, modes, strict=True)
    ]
    assert chosen == [layout or "channels_last"] * 3
    assert clock.asked == ["channels_last", "contiguous"] * 2  # not for the second run
    assert {bool(depthwise(network)[0]._forward_pre_hooks) for network in networks} == {layout == "contiguous"}
    kept = json.loads(store.layouts_file.read_text())
    times = {"channels_last_ms": 10.0, "contiguous_ms": contiguous} if contiguous else {}
    setting = "32x32, batch 4, float32, eager, NVIDIA GeForce RTX 4060 Ti"
    assert kept[f"net, {setting}"] == {"layout": chosen[0], **times}
    assert fake_gpu.emptied == 2
    assert [file.name for file in store.layouts_file.parent.iterdir()] == ["layouts.json"]


@pytest.mark.parametrize(
    ("network", "device", "execution"),
    [(Depthwise, "cpu", "eager"), (TinyNet, "cuda", "eager"), (Depthwise, "cuda", "compile")],
)
def test_nothing_is_chosen_on_a_cpu_without_depthwise_convolutions_or_for_a_compiler(
    network: type[nn.Module],
    device: str,
    execution: Literal["eager", "compile"],
    small: Protocol,
    pack: Pack,
    tmp_path: Path,
) -> None:
    batches = TrainingBatches([(pack, range(4))], 32, small, 0, torch.device(device))
    launch = Launch(network(), torch.device(device))
    launch.mode = execution
    assert choose(launch, batches, small, Store(tmp_path), "net", Clock(2.0, 1.0)) is None
    assert list(tmp_path.iterdir()) == []


def test_run_on_a_gpu_times_both_layouts_and_records_the_faster(
    small: Protocol, make_study: Callable[..., Study], fake_gpu: FakeGPU
) -> None:
    study = make_study(small, "Depthwise")
    with OnTheCPU():
        record = train_and_test(make_plan(study).todo[0].on("cuda:0"), lambda *_: None)
    (choice,) = json.loads(study.store.layouts_file.read_text()).values()
    assert set(choice) == {"layout", "channels_last_ms", "contiguous_ms"}
    assert record.environment["depthwise_layout"] == choice["layout"]


@pytest.mark.gpu
@pytest.mark.parametrize(("layout", "own_kernels"), [("channels_last", False), ("contiguous", True)])
def test_gpu_uses_torch_s_own_kernels_on_contiguous_maps_alone(layout: Layout, own_kernels: bool) -> None:
    network = to_device(Depthwise(), GPU)
    lay_out(network, layout)
    with torch.profiler.profile() as profile:
        network(torch.rand(2, 1, 32, 32, device=GPU))
    assert ("aten::_conv_depthwise2d" in {event.key for event in profile.key_averages()}) == own_kernels


@pytest.mark.gpu
@pytest.mark.parametrize("execution", ["eager", "graph"])
def test_gpu_trains_after_it_has_timed_both_layouts(
    execution: Execution, small: Protocol, make_study: Callable[..., Study]
) -> None:
    study = make_study(with_more_steps(small), "Depthwise")
    job = replace(make_plan(study).todo[0], device="cuda:0", execution=execution)
    record = train_and_test(job, lambda *_: None)
    (choice,) = json.loads(study.store.layouts_file.read_text()).values()
    assert set(choice) == {"layout", "channels_last_ms", "contiguous_ms"}
    assert record.environment["execution"] == execution


def with_more_steps(protocol: Protocol) -> Protocol:
    """A graph needs three plain steps with a whole batch; every second one is odd."""
    return protocol.model_copy(update={"training": protocol.training.model_copy(update={"steps": 12})})
