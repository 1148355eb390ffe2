"""Stores efficiency figures of one network on one device; reading needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, Self

import numpy as np
from pydantic import Field

from benchmark.records.schema import Filed, Frozen

SCHEMA: Final = 1

#: Fewer timings give no 99th percentile, which would rest on fewer than three values.
P99_SAMPLES = 300

#: Relative. Clocks of a boosting processor jitter by a few percent; a tenth changes the ranking of close networks.
TOLERANCE = 0.1

#: A device below this share of its best rate was hindered. On two virtual cores, products moved between 0.55 and 1 with
#: unchanged latencies; with products or copies below half, latencies were up to twice as long.
HINDERED_SHARE = 0.5

#: Raised when the way of measuring changes, so that no study takes over earlier figures.
MEASURING: Final = 1

#: Least duration of an energy measurement: a GPU updates its counter a few dozen times a second, and its power settles
#: only after seconds.
ENERGY_SECONDS = 10.0

DType = Literal["float32", "float16", "bfloat16"]
#: Execution of a forward: as the network is written, as one CUDA graph, or compiled by torch.
Form = Literal["eager", "graph", "compile"]


class EfficiencySettings(Frozen):
    """Duration and form of a network's measurement."""

    warm_up: int = Field(10, ge=0, description="forwards before the first timing")
    min_iterations: int = Field(30, ge=1, description="timed forwards, at least")
    min_seconds: float = Field(3.0, ge=0, description="time spent on timed forwards, at least; 10 is right for a GPU")
    throughput_batches: tuple[int, ...] = Field((1, 2, 4, 8, 16, 32), description="batch sizes to try, ascending")
    throughput_seconds: float = Field(5.0, ge=0, description="for all batch sizes together; 0 leaves throughput out")
    budget_seconds: float | None = Field(None, gt=0, description="limit of warm-up, timings and throughput together")
    memory: bool = Field(True, description="measure peak memory of a forward and of a training step")
    memory_format: Literal["contiguous", "channels_last"] = "contiguous"
    #: Of torch.compile for the timings; none runs eagerly.
    compile_mode: Literal["default", "reduce-overhead", "max-autotune"] | None = None
    cuda_graph: bool = Field(False, description="time replays of a CUDA graph")

    @classmethod
    def for_device(cls, device: str, form: Form = "eager") -> Self:
        """Return the defaults: 3 s of timings on a CPU, 10 s on a GPU, whose clocks take longer to settle.

        Args:
            device: ``cpu``, ``cuda`` or ``cuda:N``.
            form: forms other than ``eager`` use channels last, the layout of the fastest kernels.
        """
        return cls(
            min_seconds=10.0 if device.startswith("cuda") else 3.0,
            memory_format="contiguous" if form == "eager" else "channels_last",
            compile_mode="default" if form == "compile" else None,
            cuda_graph=form == "graph",
        )

    @property
    def form(self) -> Form:
        """Execution of a forward."""
        return "compile" if self.compile_mode else "graph" if self.cuda_graph else "eager"


class Conditions(Frozen):
    """State of the device at one moment; ``None`` if the system does not report it."""

    clock_mhz: float | None = Field(description="the CPU's mean core clock, or the GPU's SM clock")
    load_average: float | None = Field(description="the system's load average over one minute")


class Latency(Frozen):
    """Time of a forward at batch 1; percentiles interpolate linearly between the raw timings."""

    raw_ms: tuple[float, ...] = Field(min_length=1, description="every timed forward, in order")
    p50_ms: float
    p90_ms: float
    p99_ms: float | None = Field(description=f"from {P99_SAMPLES} timings on")
    fps: float = Field(description="1000 / p50_ms")
    before: Conditions = Field(description="after the warm-up, before the first timing")
    after: Conditions = Field(description="after the last timing")
    warm_ups: int | None = Field(None, description="forwards before the first timing; none: as in the settings")
    waited: float | None = Field(None, description="share of the time that a thread waited for a processor, if known")

    @classmethod
    def from_raw(
        cls,
        raw_ms: Sequence[float],
        before: Conditions,
        after: Conditions,
        warm_ups: int | None = None,
        waited: float | None = None,
    ) -> Self:
        """Summarise timings in milliseconds, rounded to 0.1 µs: finer digits are noise and double the file."""
        raw_ms = [round(ms, 4) for ms in raw_ms]
        p50, p90, p99 = (float(value) for value in np.percentile(raw_ms, (50, 90, 99)))
        return cls(
            raw_ms=tuple(raw_ms),
            p50_ms=p50,
            p90_ms=p90,
            p99_ms=p99 if len(raw_ms) >= P99_SAMPLES else None,
            fps=1000 / p50,
            before=before,
            after=after,
            warm_ups=warm_ups,
            waited=waited,
        )


class BatchThroughput(Frozen):
    """Images per second at one batch size."""

    batch: int
    images_per_second: float


class Throughput(Frozen):
    """The best of several batch sizes."""

    batch: int
    images_per_second: float
    tried: tuple[BatchThroughput, ...]
    stopped: str | None = Field(description="why larger batch sizes were not tried")
    energy_j_per_image: float | None = Field(
        None, description="of the whole GPU at this batch size, over ENERGY_SECONDS"
    )


class Memory(Frozen):
    """Peak memory at batch 1; the record's warnings explain a missing figure, which is ``None``."""

    forward_peak_bytes: int | None
    train_step_peak_bytes: int | None
    method: str = Field(description="what the two figures count and how they were taken")


class Limits(Frozen):
    """Rates of the device just before the latency measurement, in the same process, threads and number format."""

    macs_per_second: float = Field(gt=0, description="of a product of two square matrices")
    bytes_per_second: float = Field(gt=0, description="read and written while an array is copied")
    product_side: int = Field(description="rows and columns of the matrices")
    copied_bytes: int = Field(description="size of the array")


class Origin(Frozen):
    """Machine, way and time of a measurement; a study that takes it over must agree in all but the time."""

    machine: str = Field(description="hash of the machine and its start, without its name")
    measuring: int = Field(description="raised when the harness measures in another way")
    variables: dict[str, str] = Field(description="environment variables that choose kernels or their threads")
    measured: str = Field(description="when, UTC")
    taken_from: str | None = Field(None, description="the other study that measured them")


class EfficiencyRecord(Filed):
    """One network at one input size on one device, in one number format, with one number of threads."""

    schema_: Literal[1] = Field(SCHEMA, alias="schema")
    model: str
    model_version: int
    network_code: str | None = Field(None, description="hash of a user's network and all that it imports")
    weights: str | None = Field(None, description="hash of the file of weights; none for random ones")
    height: int
    width: int
    in_channels: int
    classes: int
    device: Literal["cpu", "cuda"]
    device_name: str = Field(description="model name of the processor or GPU")
    dtype: DType
    float32_precision: str = Field(description="of float32 kernels; TF32 is a GPU's default for convolutions")
    threads: int
    torch: str = Field(description="version")
    settings: EfficiencySettings
    params: int = Field(description="trainable parameters that forward reaches")
    unused_params: dict[str, int] = Field(description="trainable parameters that never take part: name -> count")
    macs: int = Field(description="multiply-accumulates of one image")
    flops: int = Field(description="2 * macs")
    macs_by_operator: dict[str, int]
    #: Of one image: inputs, weights and outputs of every operator once, attention without its matrix.
    bytes_moved: int | None = None
    limits: Limits | None = Field(None, description="none in older files, and if not measurable")
    limits_after: Limits | None = Field(None, description="just after the latency; none in older files")
    tries: int = Field(1, description="measurements until one was unhindered; the earlier ones are not stored")
    hindered: tuple[str, ...] = Field((), description="signs of other load in all tries: times are then not compared")
    origin: Origin | None = Field(None, description="none in older files, which no other study takes over")
    #: ``kept``: while timed, the process kept freed memory for its next use, as training and predict do; none: it
    #: returned large blocks (older files, other C libraries than glibc, GPUs).
    freed_memory: Literal["kept"] | None = None
    latency: Latency
    throughput: Throughput | None
    memory: Memory | None
    energy_j_per_image: float | None = Field(description="of the whole GPU at batch 1; needs nvidia-ml-py")
    warnings: tuple[str, ...]
