"""Measures a device's highest rates of multiply-accumulates and of memory traffic."""

from __future__ import annotations

import functools
from statistics import median

import torch

from benchmark.devices.precision import rounds_to_tf32, tf32
from benchmark.devices.process_memory import fits_into_memory
from benchmark.efficiency.latency import time_steps
from benchmark.records.efficiency_record import DType, EfficiencySettings, Limits

#: A few timings of each limit, whose median is reported.
TIMINGS = EfficiencySettings(min_iterations=5, min_seconds=0.1)
PROBE = EfficiencySettings(min_iterations=3, min_seconds=0)
#: Least duration of a product, in ms: overheads such as starting threads and packing are then small.
LONG_MS = 10.0
SMALLEST_SIDE, LARGEST_SIDE = 256, 8192
#: Bytes of the copied array: several times the caches of GPUs and of all but a few server CPUs.
COPIED_BYTES = 256 << 20


@torch.inference_mode()
def measure_limits(device: torch.device, dtype: DType) -> Limits:
    """Measure both limits in this process, with its threads; takes about half a second.

    One limit is the rate of a product of two square matrices. The other is the rate of a copy, in bytes read and
    written. On a GPU, a float32 product may use TF32 if the networks' convolutions may.

    Args:
        device: the measured device.
        dtype: number format of the matrices and of the copied array.

    Raises:
        RuntimeError: the device has no product in this number format, or not enough memory.
    """
    try:
        # torch lets a GPU's convolutions use TF32, and not its products.
        with tf32(products=rounds_to_tf32("convolutions") if device.type == "cuda" else None):
            side, product_ms = _product(device, getattr(torch, dtype))
        copied, copy_ms = _copy(device, getattr(torch, dtype))
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()  # the next measurement may need it in other pieces
    return Limits(
        macs_per_second=side**3 / product_ms * 1e3,
        bytes_per_second=2 * copied / copy_ms * 1e3,
        product_side=side,
        copied_bytes=copied,
    )


def _product(device: torch.device, dtype: torch.dtype) -> tuple[int, float]:
    """Return the side of the matrices and the median time of their product in ms."""
    side = SMALLEST_SIDE
    while True:
        # Not zeros: a GPU that multiplies them draws less power and keeps higher clocks.
        a, b = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))
        step = functools.partial(torch.mm, a, b, out=torch.empty_like(a))
        step()
        if side == LARGEST_SIDE or min(time_steps(step, PROBE, device)) >= LONG_MS:
            return side, median(time_steps(step, TIMINGS, device))
        side *= 2


def _copy(device: torch.device, dtype: torch.dtype) -> tuple[int, float]:
    """Return the bytes of an array and the median time of its copy in ms."""
    copied = COPIED_BYTES
    while device.type == "cpu" and not fits_into_memory(2 * copied):
        copied //= 2
    source, target = (torch.ones(copied // dtype.itemsize, dtype=dtype, device=device) for _ in range(2))
    step = functools.partial(target.copy_, source)
    step()
    return copied, median(time_steps(step, TIMINGS, device))
