"""Compares time and memory of training in the plain way and in the harness's."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import get_args

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from benchmark.config.execution import Execution
from benchmark.config.protocol import Protocol
from benchmark.config.registry import ModelEntry
from benchmark.data.batches import TrainingBatches
from benchmark.data.packs import Pack
from benchmark.devices.launch_mode import Launch
from benchmark.devices.precision import to_device
from benchmark.devices.process_memory import free_as_usual
from benchmark.efficiency.memory import in_fresh_process, peak_growth
from benchmark.records.speedup_record import SpeedupComparison
from benchmark.speedup import plain
from benchmark.speedup.feeding import Pictures
from benchmark.speedup.forwards import random_image, set_allocator
from benchmark.speedup.networks import build
from benchmark.speedup.setting import SpeedupSetting, Way
from benchmark.training.loop import train

OURS = (
    "float32, channels last, attention without its matrix, what a norm made computed again, fused Adam, "
    "no wait between steps, freed memory kept"
)
STEPS = 3  # per round; the time of the first is left out, since it also sets up the optimiser's state


def train_step(entry: ModelEntry, size: int, protocol: Protocol, setting: SpeedupSetting) -> SpeedupComparison:
    """Compare training steps at batch 1 on an image that already lies in memory."""
    networks = {way: network_of(way, entry, setting) for way in get_args(Way)}
    times = setting.in_turn(lambda way: _step_times(way, networks[way], size, protocol, setting))
    free_as_usual()
    return setting.comparison(
        what="train_step",
        model=entry.name,
        size=size,
        unit="ms",
        **times,
        plain_form=plain.STEP,
        our_form=_ours(setting),
    )


def train_step_memory(entry: ModelEntry, size: int, protocol: Protocol, setting: SpeedupSetting) -> SpeedupComparison:
    """Compare by how much a process grows at most in its first training step at batch 1."""
    slow, fast = (in_fresh_process(_growth, way, entry, size, protocol, setting) for way in get_args(Way))
    return setting.comparison(
        what="train_step_memory",
        model=entry.name,
        size=size,
        unit="bytes",
        plain=(slow,),
        ours=(fast,),
        plain_form=plain.STEP,
        our_form=_ours(setting),
    )


def epochs(entry: ModelEntry, pictures: Pictures, protocol: Protocol, setting: SpeedupSetting) -> SpeedupComparison:
    """Compare images per second of whole epochs at batch 1, decoding or gathering included."""
    networks = {way: network_of(way, entry, setting) for way in get_args(Way)}
    ours = TrainingBatches(pictures.parts, pictures.size, protocol, 0, setting.device)
    epoch = protocol.model_copy(update={"training": protocol.training.model_copy(update={"epochs": 1})})

    def run(way: Way) -> None:
        if way == "ours":
            launch = Launch(networks[way], setting.device, "auto")
            train(networks[way], ours, lambda: [], epoch, lambda done, total: None, launch=launch)
        else:
            loader = DataLoader(plain.PlainImages(pictures.files), batch_size=1, shuffle=True)
            plain.train(networks[way], loader, protocol, lambda loss: None)

    def measure(way: Way) -> list[float]:
        set_allocator(way)
        return setting.images_per_second(len(pictures.files), lambda: run(way))

    speeds = setting.in_turn(measure)
    free_as_usual()
    return setting.comparison(
        what="training",
        model=entry.name,
        size=pictures.size,
        unit="images/s",
        **speeds,
        plain_form=f"{plain.STEP}; {plain.FEEDING}",
        our_form=f"{_ours(setting)}; pixels gathered from a pack",
    )


def _ours(setting: SpeedupSetting) -> str:
    return f"{OURS}, as a CUDA graph (run --execution auto)" if setting.kind == "cuda" else OURS


def network_of(way: Way, entry: ModelEntry, setting: SpeedupSetting) -> nn.Module:
    """Return a network in train mode on its device, laid out as a way has it."""
    network = build(entry).train()
    return to_device(network, setting.device) if way == "ours" else plain.plain_form(network).to(setting.device)


def _step_times(way: Way, network: nn.Module, size: int, protocol: Protocol, setting: SpeedupSetting) -> list[float]:
    """Return the milliseconds of all steps of a round but the first."""
    ends: list[float] = []

    def ended(*_: object) -> None:
        setting.wait()
        ends.append(time.perf_counter())

    take(way, network, size, STEPS, protocol, setting, ended)
    return [1e3 * (end - start) for start, end in itertools.pairwise(ends)]


def take(
    way: Way,
    network: nn.Module,
    size: int,
    steps: int,
    protocol: Protocol,
    setting: SpeedupSetting,
    on_step: Callable[..., None] = lambda *_: None,
    execution: Execution = "auto",
) -> None:
    """Train on one random image, which ``run`` gathers anew for every step and the plain way holds as a tensor."""
    set_allocator(way)
    pixels = (random_image(size) * 255).to(torch.uint8)
    if way == "plain":
        example = (pixels.float() / 255, (pixels > 127).float())
        plain.train(network, itertools.repeat(example, steps), protocol, on_step)
        return
    images = pixels.permute(0, 2, 3, 1).numpy()
    pack = Pack("bench", "", images, (images[..., 0] > 127).astype(np.uint8), ())
    # One round for all: validation rounds wait for the device and keep a copy of the weights.
    changed = {"training": protocol.training.model_copy(update={"steps": steps, "validate_every": steps})}
    batches = TrainingBatches([(pack, [0])], size, protocol, 0, setting.device)
    launch = Launch(network, setting.device, execution)
    train(network, batches, lambda: [], protocol.model_copy(update=changed), on_step, launch=launch)


def _growth(way: Way, entry: ModelEntry, size: int, protocol: Protocol, setting: SpeedupSetting) -> int:
    network = network_of(way, entry, setting)
    return peak_growth(lambda: take(way, network, size, 1, protocol, setting), setting.threads)
