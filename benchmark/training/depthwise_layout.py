"""Chooses the layout of depthwise convolutions on a GPU, once per study."""

from __future__ import annotations

import copy
import gc
import json
import time
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from benchmark.config.protocol import Protocol
from benchmark.data.batches import Batch, TrainingBatches
from benchmark.devices.cuda_graphs import WARM_UP
from benchmark.devices.launch_mode import Launch
from benchmark.devices.precision import compute_dtype
from benchmark.records import claims
from benchmark.records.store import UNREADABLE, Store
from benchmark.training.loop import training_step
from benchmark.utils.files import write_atomically

Layout = Literal["channels_last", "contiguous"]

STEPS = 10  # timed per layout; the fastest counts, since other work only adds time
#: Least share of a step that contiguous maps must save: chance would choose between closer times.
LEAST_GAIN = 0.05
POLL_S = 1.0  # between two looks at the claim of another process


def depthwise(network: nn.Module) -> list[nn.Conv2d]:
    """Return the convolutions of a network that filter each channel alone."""
    layers = (layer for layer in network.modules() if isinstance(layer, nn.Conv2d))
    return [layer for layer in layers if layer.groups == layer.in_channels > 1]


def lay_out(network: nn.Module, layout: Layout) -> None:
    """Let a channels-last network's depthwise convolutions compute in a layout; the others stay channels last."""
    if layout == "channels_last":
        return
    for layer in depthwise(network):
        # Weights of one input channel have both layouts at once; their strides decide which one torch sees.
        layer.weight.data = layer.weight.data.clone(memory_format=torch.contiguous_format)
        layer.register_forward_pre_hook(_on_contiguous_maps)


def _on_contiguous_maps(layer: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (inputs[0].contiguous(),)


def step_milliseconds(launch: Launch, layout: Layout, batches: TrainingBatches, protocol: Protocol) -> float:
    """Return the time of a training step without the optimiser, of a copy of the network in a layout."""
    network, batch = copy.deepcopy(launch.network).train(), next(batches.epoch(0))
    lay_out(network, layout)

    def step(images: Tensor, masks: Tensor, counted: Tensor | None) -> Tensor:
        return training_step(network, Batch(images, masks, counted), batches, protocol)

    call, seconds = Launch(network, launch.device, launch.mode).of(step), []
    for _ in range(WARM_UP + 1 + STEPS):
        torch.cuda.synchronize(launch.device)
        started = time.perf_counter()
        call(batch.images, batch.masks, batch.counted)
        torch.cuda.synchronize(launch.device)
        seconds.append(time.perf_counter() - started)
    return 1e3 * min(seconds[-STEPS:])


def choose(
    launch: Launch,
    batches: TrainingBatches,
    protocol: Protocol,
    store: Store,
    name: str,
    measure: Callable[[Launch, Layout, TrainingBatches, Protocol], float] = step_milliseconds,
) -> Layout | None:
    """Lay out a network's depthwise convolutions as its study has chosen; without a choice, the faster way is chosen.

    Channels last, cuDNN computes them, slowly in some shapes (pytorch issue 34977); on contiguous maps, torch does, and
    maps are copied before and after. The ways round differently, so all repeats on GPUs of one name share a choice.
    Random numbers are drawn: seed after the call.

    Args:
        launch: of the network, channels last on its device.
        batches: of the training.
        protocol: all settings.
        store: the study, which keeps choices and times.
        name: of the network.
        measure: returns the milliseconds of a step.

    Returns:
        The layout; ``None`` without a choice: on a CPU, without depthwise convolutions, or if a compiler chooses.
    """
    if launch.device.type != "cuda" or launch.mode == "compile" or not depthwise(launch.network):
        return None
    numbers = f"{batches.size}x{batches.size}, batch {batches.batch}, {compute_dtype(launch.device, protocol)}"
    setting = f"{name}, {numbers}, {launch.mode}, {torch.cuda.get_device_name(launch.device)}"
    while (claim := claims.acquire(store.layouts_file.parent)) is None:
        time.sleep(POLL_S)
    with claim:
        choices = _read(store)
        layout: Layout = choices.get(setting, {}).get("layout")
        if layout not in get_args(Layout):
            layout, times = "channels_last", {}
            try:
                times = {f"{kind}_ms": measure(launch, kind, batches, protocol) for kind in get_args(Layout)}
                if times["contiguous_ms"] < (1 - LEAST_GAIN) * times["channels_last_ms"]:
                    layout = "contiguous"
            except Exception as error:  # too little memory, or a user's network; the training will report its fault
                print(f"depthwise convolutions stay channels last: {type(error).__name__}", flush=True)
            gc.collect()
            torch.cuda.empty_cache()
            choices[setting] = {"layout": layout, **times}
            write_atomically(store.layouts_file, (json.dumps(choices, indent=1) + "\n").encode())
    lay_out(launch.network, layout)
    return layout


def _read(store: Store) -> dict[str, Any]:
    try:
        return dict(json.loads(store.layouts_file.read_text("utf-8")))
    except UNREADABLE:  # missing or damaged: chosen anew
        return {}
