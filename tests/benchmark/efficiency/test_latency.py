from __future__ import annotations

import contextlib
import functools
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor, nn

from benchmark.efficiency import latency
from benchmark.efficiency.latency import measure_in_turn, measure_latency, measure_throughput
from benchmark.records.efficiency_record import Conditions, EfficiencySettings, Latency

STEADY = Conditions(clock_mhz=2000.0, load_average=0.5)
SHORT = EfficiencySettings(
    warm_up=2, min_iterations=5, min_seconds=0, throughput_batches=(1, 2, 4), throughput_seconds=0.1
)


class Counting(nn.Module):
    """Remembers how it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []
        self.inference: set[bool] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.batches.append(len(x))
        self.inference.add(torch.is_inference_mode_enabled())
        return x + 1


def summary(raw_ms: list[float]) -> Latency:
    return Latency.from_raw(raw_ms, STEADY, STEADY)


def test_percentiles_are_numpy_s() -> None:
    raw_ms = np.random.default_rng(0).gamma(2, 3, 300).round(4).tolist()
    result = summary(raw_ms)
    assert result.p50_ms == np.percentile(raw_ms, 50)
    assert result.p90_ms == np.percentile(raw_ms, 90)
    assert result.p99_ms == np.percentile(raw_ms, 99)
    assert result.raw_ms == tuple(raw_ms)


def test_99th_percentile_needs_300_timings() -> None:
    assert summary([1.0] * 299).p99_ms is None
    assert summary([1.0] * 300).p99_ms == 1.0


def test_fps_is_the_inverse_of_the_median() -> None:
    assert summary([4.0, 5.0, 100.0]).fps == 200.0


def test_timings_follow_the_warm_up_one_image_at_a_time_in_inference_mode() -> None:
    network = Counting()
    result, energy = measure_latency(network, torch.rand(1, 1, 8, 8), SHORT)
    assert len(result.raw_ms) == 5
    assert all(ms > 0 for ms in result.raw_ms)
    assert network.batches == [1] * (2 + 5)
    assert network.inference == {True}
    assert energy is None


def test_timings_go_on_until_the_seconds_are_over(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(np.arange(1000) / 8)
    monkeypatch.setattr(latency, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    result, _ = measure_latency(Counting(), torch.rand(1, 1, 8, 8), SHORT.model_copy(update={"min_seconds": 4.0}))
    assert set(result.raw_ms) == {125.0}
    # The end lies 32 readings of the clock away: the first 5 forwards take 2 each, the others 3.
    assert len(result.raw_ms) == 5 + 7


class Clock:
    """Stands still but for forwards, which take a second each."""

    def __init__(self) -> None:
        self.now = 0.0
        self.forwards = 0

    def perf_counter(self) -> float:
        return self.now

    def network(self, image: Tensor) -> Tensor:
        self.now += 1
        self.forwards += 1
        return image


@pytest.mark.parametrize(
    ("budget", "warm_ups", "timings"),
    [
        (None, 10, 30),
        (1000.0, 10, 30),  # no more than the protocol
        (20.0, 5, 15),  # a quarter for the warm-up
        (4.0, 1, 3),
        (0.5, 1, 3),  # at least
    ],
)
def test_budget_ends_warm_up_and_timings(
    monkeypatch: pytest.MonkeyPatch, budget: float | None, warm_ups: int, timings: int
) -> None:
    clock = Clock()
    monkeypatch.setattr(latency, "time", clock)
    settings = EfficiencySettings(budget_seconds=budget)
    result, _ = measure_latency(clock.network, torch.rand(1, 1, 8, 8), settings)  # type: ignore[arg-type]
    assert (result.warm_ups, len(result.raw_ms)) == (warm_ups, timings)
    assert clock.forwards == warm_ups + timings


def test_steps_in_turn_are_timed_after_one_of_their_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []

    def clock() -> float:
        log.append("clock")
        return len(log) / 4

    monkeypatch.setattr(latency, "time", SimpleNamespace(perf_counter=clock))
    steps = {name: functools.partial(log.append, name) for name in "ab"}
    result = measure_in_turn(steps, SHORT.model_copy(update={"min_iterations": 3}))
    timed = [*("a", "clock", "a", "clock"), *("b", "clock", "b", "clock")]
    assert log == ["a", "a", "b", "b", *(timed * 3)]
    assert {name: one.raw_ms for name, one in result.items()} == {"a": (500.0,) * 3, "b": (500.0,) * 3}
    # Two halves of a second a turn: 4 turns until 3.5 seconds are over.
    result = measure_in_turn(steps, SHORT.model_copy(update={"min_iterations": 3, "min_seconds": 3.5}))
    assert [len(one.raw_ms) for one in result.values()] == [4, 4]


def test_gpu_is_timed_by_events_and_synchronised_once(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []

    class Event:
        def record(self) -> None:
            log.append("record")

        def elapsed_time(self, stop: Event) -> float:
            log.append("read")
            return 1.5

    monkeypatch.setattr(torch.cuda, "Event", lambda *, enable_timing: Event())
    monkeypatch.setattr(torch.cuda, "device", contextlib.nullcontext)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: log.append("synchronize"))
    raw_ms = latency.time_steps(lambda: log.append("forward"), SHORT, torch.device("cuda:0"))
    assert raw_ms == [1.5] * 5
    assert log == ["record", "forward", "record"] * 5 + ["synchronize"] + ["read"] * 5


def test_throughput_is_that_of_the_best_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(latency, "time", clock)
    settings = SHORT.model_copy(update={"throughput_seconds": 60.0})
    throughput = measure_throughput(clock.network, torch.rand(1, 1, 8, 8), settings, None)  # type: ignore[arg-type]
    assert throughput is not None
    assert [(row.batch, row.images_per_second) for row in throughput.tried] == [(1, 1.0), (2, 2.0), (4, 4.0)]
    assert (throughput.batch, throughput.images_per_second, throughput.stopped) == (4, 4.0, None)


def test_throughput_stops_before_a_batch_that_would_take_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch)
    settings = SHORT.model_copy(update={"throughput_seconds": 2.5})
    result = measure_throughput(device.network(), torch.rand(1, 1, 8, 8), settings, None)
    assert result is not None
    assert [(row.batch, row.images_per_second) for row in result.tried] == [(1, 4.0), (2, 6.4)]
    assert result.stopped == "batch 4 would outlast the 2.5 s for throughput"


@pytest.mark.parametrize(("share_of_free", "batches"), [(2.0, None), (0.2, [1, 2])])
def test_throughput_stops_before_a_batch_that_would_not_fit_into_memory(
    monkeypatch: pytest.MonkeyPatch, share_of_free: float, batches: list[int] | None
) -> None:
    clock = Clock()
    monkeypatch.setattr(latency, "time", clock)
    settings = SHORT.model_copy(update={"throughput_seconds": 60.0})
    size = int(share_of_free * psutil.virtual_memory().available)
    throughput = measure_throughput(clock.network, torch.rand(1, 1, 8, 8), settings, size)  # type: ignore[arg-type]
    assert (throughput and [row.batch for row in throughput.tried]) == batches
    assert throughput is None or "free memory" in str(throughput.stopped)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_throughput_stops_where_memory_is_full(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def two_fit(images: Tensor) -> Tensor:
        if len(images) > 2:
            raise error
        return clock.network(images)

    clock = Clock()
    monkeypatch.setattr(latency, "time", clock)
    settings = SHORT.model_copy(update={"throughput_seconds": 60.0})
    result = measure_throughput(two_fit, torch.rand(1, 1, 8, 8), settings, None)  # type: ignore[arg-type]
    assert result is not None
    assert [row.batch for row in result.tried] == [1, 2]
    assert result.stopped == "batch 4 does not fit into memory"


def test_throughput_can_be_left_out() -> None:
    none = SHORT.model_copy(update={"throughput_seconds": 0.0})
    assert measure_throughput(Counting(), torch.rand(1, 1, 8, 8), none, None) is None


class Device:
    """A GPU with an energy counter of 50 W, and the clock beside it; a forward takes 3/16 s, and 1/16 s an image."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, unreadable: tuple[int, ...] = ()) -> None:
        self.now = 0.0
        self.readings = 0
        self.unreadable = unreadable
        monkeypatch.setattr(latency, "time", SimpleNamespace(perf_counter=lambda: self.now))
        monkeypatch.setattr(latency, "energy_joules", self.energy_joules)

    def energy_joules(self, device: torch.device) -> float | None:
        self.readings += 1
        return None if self.readings in self.unreadable else 1000 + 50 * self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def network(self) -> Counting:
        network = Counting()
        network.register_forward_hook(lambda module, inputs, output: self.wait((3 + len(output)) / 16))
        return network


def test_energy_is_that_of_an_image_at_batch_1_and_at_the_best_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch)
    network, image = device.network(), torch.rand(1, 1, 8, 8)
    result, energy = measure_latency(network, image, SHORT)
    assert energy == 50 / 4
    assert sum(result.raw_ms) >= 10_000  # though the settings ask for five forwards
    settings = SHORT.model_copy(update={"throughput_batches": (1, 2), "throughput_seconds": 60.0})
    began = device.now
    throughput = measure_throughput(network, image, settings, None)
    assert throughput is not None
    assert (throughput.batch, throughput.energy_j_per_image) == (2, 50 * 5 / 16 / 2)
    assert 10 <= device.now - began - 60 <= 12  # behind both batch sizes


@pytest.mark.parametrize("unreadable", [(1,), (2,), (3,)])
def test_energy_is_empty_where_the_counter_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, unreadable: tuple[int, ...]
) -> None:
    device = Device(monkeypatch, unreadable)
    settings = SHORT.model_copy(update={"throughput_batches": (1,), "throughput_seconds": 30.0})
    throughput = measure_throughput(device.network(), torch.rand(1, 1, 8, 8), settings, None)
    assert throughput is not None
    assert throughput.energy_j_per_image is None
    assert (device.now > 30) == (unreadable != (1,))  # and no time is spent where nothing can come of it


def test_cpu_s_throughput_has_no_energy() -> None:
    result = measure_throughput(Counting(), torch.rand(1, 1, 8, 8), SHORT, None)
    assert result is not None
    assert result.energy_j_per_image is None


@pytest.mark.gpu
def test_gpu_s_energy_is_a_sensible_number_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "ENERGY_SECONDS", 2.0)
    network = nn.Conv2d(1, 64, 3).cuda().eval()
    image = torch.rand(1, 1, 512, 512, device="cuda")
    _, single = measure_latency(network, image, SHORT)
    throughput = measure_throughput(network, image, SHORT, None)
    assert throughput is not None
    for joules in (single, throughput.energy_j_per_image):
        assert joules is None or 1e-6 < joules < 100


@pytest.mark.gpu
def test_gpu_s_timings_are_those_of_its_own_clock() -> None:
    network = nn.Conv2d(1, 8, 3).cuda().eval()
    result, _ = measure_latency(network, torch.rand(1, 1, 64, 64, device="cuda"), SHORT)
    assert len(result.raw_ms) == 5
    assert all(ms > 0 for ms in result.raw_ms)
