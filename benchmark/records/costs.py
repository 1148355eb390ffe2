"""Defines every cost of a network: its name, unit, meaning and measurement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from benchmark.records.efficiency_record import ENERGY_SECONDS, P99_SAMPLES, EfficiencySettings

GPU_MEMORY = (
    "torch.cuda.max_memory_allocated without what the process held before: weights, activations and workspace; "
    "a training step adds gradients and Adam"
)
CPU_MEMORY = (
    "growth of the resident set in a fresh process, from the network built and the kernels loaded to the peak: "
    "activations and workspace without weights; a training step adds gradients and Adam"
)
#: Holds for every cost.
MEASURED_BY = (
    "`run` measures each network at the input size of its datasets, `profile` at any size, on the device, in the "
    "number format and with the threads that the table names"
)

_CPU, _GPU = EfficiencySettings.for_device("cpu"), EfficiencySettings.for_device("cuda")
_COUNTED = "counted at the input size without computing; the same on every device"
_TIMED = (
    f"forwards of one image that lies on the device already, after {_CPU.warm_up} others; at least "
    f"{_CPU.min_iterations} timings, {_CPU.min_seconds:g} s on a CPU and {_GPU.min_seconds:g} s on a GPU"
)
_THROUGHPUT = (
    f"batches of {', '.join(map(str, _CPU.throughput_batches))} images, {_CPU.throughput_seconds:g} s together; the "
    "fastest counts"
)
_MEMORY = f"on a GPU: {GPU_MEMORY}; on a CPU: {CPU_MEMORY}"
_ENERGY = (
    f"the GPU's own counter, idle power included, over at least {ENERGY_SECONDS:g} s; needs "
    "`pip install -e '.[energy]'`"
)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """A figure of a network's efficiency.

    Attributes:
        name: key in CSV files and of ``report --columns``.
        display: name in tables.
        topic: costs that ``explain`` prints together.
        definition: its meaning, in words.
        measured: the way in which it is taken.
        unit: as printed; blank for a plain number.
        scale: printed value per stored value.
        digits: printed decimals.
        higher_is_better: direction of rankings; ``None`` for a figure that ranks nothing.
    """

    name: str
    display: str
    topic: str
    definition: str
    measured: str
    unit: str = ""
    scale: float = 1.0
    digits: int = 2
    higher_is_better: bool | None = False


#: In the order of tables.
_ALL = (
    Cost(
        name="params", display="Params", topic="parameters", unit="M", scale=1e-6, digits=3, measured=_COUNTED,
        definition="trainable parameters that the forward pass reaches",
    ),
    Cost(
        name="unused_params", display="Unused", topic="parameters", unit="M", scale=1e-6, digits=3, measured=_COUNTED,
        definition="trainable parameters that the forward pass never reaches", higher_is_better=None,
    ),
    Cost(
        name="macs", display="MACs", topic="operations", unit="G", scale=1e-9, digits=3, measured=_COUNTED,
        definition="multiply-accumulates of convolutions, linear layers, matrix products and attention for one image",
    ),
    Cost(
        name="flops", display="FLOPs", topic="operations", unit="G", scale=1e-9, digits=3, measured=_COUNTED,
        definition="2 × MACs",
    ),
    Cost(
        name="latency_p50_ms", display="p50", topic="latency", unit="ms", measured=_TIMED,
        definition="median latency at batch 1",
    ),
    Cost(
        name="latency_p90_ms", display="p90", topic="latency", unit="ms", measured=_TIMED,
        definition="90th percentile of the latency at batch 1",
    ),
    Cost(
        name="latency_p99_ms", display="p99", topic="latency", unit="ms",
        definition="99th percentile of the latency at batch 1", measured=f"{_TIMED}; from {P99_SAMPLES} timings on",
    ),
    Cost(
        name="fps", display="FPS", topic="latency", digits=1, measured=_TIMED, higher_is_better=True,
        definition="1000 / median latency in ms at batch 1",
    ),
    Cost(
        name="images_per_second", display="Images/s", topic="throughput", digits=1, measured=_THROUGHPUT,
        definition="throughput at the best Batch", higher_is_better=True,
    ),
    Cost(
        name="images_per_second_batch", display="Batch", topic="throughput", digits=0, measured=_THROUGHPUT,
        definition="batch size of the highest throughput", higher_is_better=None,
    ),
    Cost(
        name="forward_peak_bytes", display="Forward", topic="memory", unit="MiB", scale=2**-20, digits=1,
        definition="peak memory of one forward pass at batch 1", measured=_MEMORY,
    ),
    Cost(
        name="train_step_peak_bytes", display="Step", topic="memory", unit="MiB", scale=2**-20, digits=1,
        definition="peak memory of one training step at batch 1", measured=_MEMORY,
    ),
    Cost(
        name="energy_j_per_image", display="Energy", topic="energy", unit="J", digits=3, measured=_ENERGY,
        definition="joules per image at batch 1, of the whole GPU",
    ),
    Cost(
        name="energy_j_per_image_batch", display="Energy at Batch", topic="energy", unit="J", digits=3,
        definition="joules per image at the best Batch, of the whole GPU", measured=_ENERGY,
    ),
)  # fmt: skip
COSTS: Mapping[str, Cost] = MappingProxyType({cost.name: cost for cost in _ALL})
