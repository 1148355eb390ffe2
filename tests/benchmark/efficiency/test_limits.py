from __future__ import annotations

import functools
import time

import numpy as np
import pytest
import torch

from benchmark.efficiency import limits
from benchmark.efficiency.limits import measure_limits

CPU = torch.device("cpu")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LARGEST_SIDE", 512)
    monkeypatch.setattr(limits, "COPIED_BYTES", 16 << 20)
    monkeypatch.setattr(limits, "TIMINGS", limits.PROBE)


@pytest.mark.usefixtures("small")
def test_limits_are_rates_of_work_done_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step takes 2 ms by a clock that is told: the rates follow by hand."""
    monkeypatch.setattr(limits, "time_steps", lambda step, settings, device: [9.0, 2.0, 1.0])
    result = measure_limits(CPU, "float32")
    assert (result.product_side, result.copied_bytes) == (512, 16 << 20)
    assert result.macs_per_second == 512**3 / 2e-3
    assert result.bytes_per_second == 2 * (16 << 20) / 2e-3


def test_products_are_enlarged_until_one_takes_long_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "COPIED_BYTES", 1 << 20)

    def timed(step: functools.partial[object], settings: object, device: object) -> list[float]:
        side = len(step.keywords["out"]) if step.keywords else 0
        return [float(side >= 1024) * limits.LONG_MS or 1.0]

    monkeypatch.setattr(limits, "time_steps", timed)
    assert measure_limits(CPU, "float32").product_side == 1024


@pytest.mark.usefixtures("small")
def test_limits_are_near_what_numpy_reaches() -> None:
    """Numpy's product and copy, timed in turn with torch's, are of the same order."""
    # So small that OpenBLAS computes it in one thread: several wait for each other as soon as another process runs.
    a = np.random.default_rng(0).random((64, 64), np.float32)
    array = np.ones(4 << 20, np.float32)
    target = np.empty_like(array)
    macs, moved, products, copies = [], [], [], []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(5):  # other work on the machine slows one of the two in a single turn
            result = measure_limits(CPU, "float32")
            macs.append(result.macs_per_second)
            moved.append(result.bytes_per_second)
            products.append(fastest(lambda: [a @ a for _ in range(100)]))
            copies.append(fastest(lambda: np.copyto(target, array)))
    finally:
        torch.set_num_threads(threads)
    assert 0.1 < max(macs) / (100 * 64**3 / min(products)) < 10
    assert 0.1 < max(moved) / (2 * array.nbytes / min(copies)) < 10


def fastest(step: object) -> float:
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        step()  # type: ignore[operator]
        taken.append(time.perf_counter() - start)
    return min(taken)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_limits_of_other_number_formats(dtype: str) -> None:
    assert measure_limits(CPU, dtype).bytes_per_second > 0  # type: ignore[arg-type]


def test_small_memory_is_given_a_small_array(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LARGEST_SIDE", 256)
    monkeypatch.setattr(limits, "fits_into_memory", lambda needed: needed <= 10 << 20)
    assert measure_limits(CPU, "float32").copied_bytes == 4 << 20


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_gpu_s_limits(dtype: str) -> None:
    result = measure_limits(torch.device("cuda"), dtype)  # type: ignore[arg-type]
    assert result.macs_per_second > 1e11
    assert result.bytes_per_second > 1e10
