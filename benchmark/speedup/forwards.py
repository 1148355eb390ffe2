"""Compares forwards of the plain form of a network with those of ``predict``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import get_args

import torch
from torch import Tensor, nn

from benchmark.config.registry import ModelEntry
from benchmark.devices.cuda_graphs import captured
from benchmark.devices.precision import using_threads
from benchmark.devices.process_memory import free_as_usual, keep_freed_memory
from benchmark.efficiency.hindrance import hindrances, measure_undisturbed
from benchmark.efficiency.latency import measure_in_turn
from benchmark.efficiency.memory import in_fresh_process, peak_growth
from benchmark.predict.fused_network import SIDE, Dtype, FusedNetwork, ready
from benchmark.records.efficiency_record import Latency
from benchmark.records.speedup_record import ComparedWork, SpeedupComparison
from benchmark.speedup import plain
from benchmark.speedup.networks import build
from benchmark.speedup.setting import SpeedupSetting, Way

READY = "norms folded, channels last, wide padding apart, attention without its matrix, freed memory kept"


def forward(entry: ModelEntry, size: int, setting: SpeedupSetting) -> SpeedupComparison:
    """Compare float32 forwards of one image: time, and the logits."""
    image = random_image(size).to(setting.device)
    slow, fast = (of(way, entry, size, setting) for way in get_args(Way))
    with torch.inference_mode():
        facts = _differences(slow(image), fast(image))
    form = f"float32, {_form(fast)}"
    return _timed("forward", entry, image, setting, slow, fast, our_form=form, **facts)


def half_forward(
    entry: ModelEntry, size: int, setting: SpeedupSetting, trained: nn.Module | None, images: Sequence[Tensor]
) -> SpeedupComparison:
    """Compare a float32 forward of the plain form with a bfloat16 one: time, and the masks of trained weights.

    Args:
        entry: the network.
        size: of the timed image, pixels.
        setting: device and duration.
        trained: the network with weights of a study; ``None`` leaves masks out.
        images: test images of that study, each ``(1, C, H, W)``.
    """
    image = random_image(size).to(setting.device)
    slow, fast = of("plain", entry, size, setting), of("ours", entry, size, setting, "bfloat16")
    pixels = differing = 0
    if trained is not None:
        trained = trained.to(setting.device)
        trained_fast = ready(trained, images[0].shape, "bfloat16")
        trained = plain.plain_form(trained)
        for test_image in (image.to(setting.device) for image in images):
            with torch.inference_mode():
                masks = [network(test_image) >= 0 for network in (trained, trained_fast)]
            pixels += masks[0].numel()
            differing += int((masks[0] != masks[1]).sum())
    facts = {"pixels": pixels or None, "differing_pixels": differing if pixels else None}
    form = f"bfloat16 autocast, {_form(fast)}"
    return _timed("forward", entry, image, setting, slow, fast, dtype="bfloat16", our_form=form, **facts)


def replayed(entry: ModelEntry, size: int, setting: SpeedupSetting) -> SpeedupComparison:
    """Compare an eager float32 forward of the plain form with replays of a bfloat16 one, captured as a CUDA graph."""
    image = random_image(size).to(setting.device)
    slow, fast = of("plain", entry, size, setting), of("ours", entry, size, setting, "bfloat16")
    with torch.inference_mode():
        graph = captured(fast, image)
        facts = _differences(slow(image), graph(image).float())
    form = f"bfloat16 autocast, {_form(fast)}, replayed as a CUDA graph"
    return _timed(
        "replayed", entry, image, setting, slow, lambda _: graph.replay(), dtype="bfloat16", our_form=form, **facts
    )


def forward_memory(entry: ModelEntry, size: int, setting: SpeedupSetting) -> SpeedupComparison:
    """Compare by how much a process grows at most while it predicts one image."""
    slow, fast = (in_fresh_process(_growth, way, entry, size, setting) for way in get_args(Way))
    return setting.comparison(
        what="forward_memory",
        model=entry.name,
        size=size,
        unit="bytes",
        plain=(slow,),
        ours=(fast,),
        plain_form=plain.FORWARD,
        our_form=f"float32, {READY}",
    )


def _form(network: nn.Module) -> str:
    """Say how ``predict`` runs a network; not every one has norms that can be folded."""
    return f"as written: {network.as_written}" if isinstance(network, FusedNetwork) and network.as_written else READY


def of(way: Way, entry: ModelEntry, size: int, setting: SpeedupSetting, dtype: Dtype = "float32") -> nn.Module:
    """Return a network as most repositories run it, or as ``predict`` does."""
    network = build(entry).to(setting.device)
    side = min(size, -(-SIDE // entry.multiple) * entry.multiple)
    return ready(network, (1, 1, side, side), dtype) if way == "ours" else plain.plain_form(network).eval()


def _growth(way: Way, entry: ModelEntry, size: int, setting: SpeedupSetting) -> int:
    network, image = of(way, entry, size, setting), random_image(size)

    def step() -> None:
        set_allocator(way)
        with torch.inference_mode():
            network(image)

    return peak_growth(step, setting.threads)


def set_allocator(way: str) -> None:
    """Let memory be allocated as in a way from now on: all but the plain one keep what they free, as ``predict``."""
    if way == "plain":
        free_as_usual()
    else:
        keep_freed_memory()


def random_image(size: int, channels: int = 1) -> Tensor:
    """Return an image ``(1, C, size, size)``, uniform in [0, 1], the same at every call."""
    return torch.rand((1, channels, size, size), generator=torch.Generator().manual_seed(0))


def _differences(expected: Tensor, logits: Tensor) -> dict[str, object]:
    return {"max_difference": float((expected - logits).abs().max()), "max_logit": float(expected.abs().max())}


def _timed(
    what: ComparedWork,
    entry: ModelEntry,
    image: Tensor,
    setting: SpeedupSetting,
    slow: Callable[[Tensor], Tensor],
    fast: Callable[[Tensor], Tensor],
    **facts: object,
) -> SpeedupComparison:
    """Time forwards of both ways in turn and record them."""
    raw_ms, signs = time_in_turn({"plain": slow, "ours": fast}, image, setting)
    return setting.comparison(
        what=what,
        model=entry.name,
        size=image.shape[-1],
        unit="ms",
        plain=raw_ms["plain"],
        ours=raw_ms["ours"],
        hindered=signs,
        plain_form=plain.FORWARD,
        **facts,
    )


def time_in_turn(
    networks: Mapping[str, Callable[[Tensor], Tensor]], image: Tensor, setting: SpeedupSetting
) -> tuple[dict[str, tuple[float, ...]], tuple[str, ...]]:
    """Time forwards of several networks in turn, again where another process disturbs them.

    Returns:
        The milliseconds of each network's forwards, and the signs of other load in all tries.
    """

    def step(network: Callable[[Tensor], Tensor]) -> Callable[[], None]:
        def forward_and_wait() -> None:
            with torch.inference_mode():
                network(image)
            setting.wait()

        return forward_and_wait

    steps, first = {name: step(network) for name, network in networks.items()}, next(iter(networks))

    def hindered(latencies: dict[str, Latency]) -> tuple[str, ...]:
        return hindrances(latencies[first].waited if setting.kind == "cpu" else None)

    with using_threads(setting.threads):
        latencies, _ = measure_undisturbed(
            lambda: measure_in_turn(steps, setting.timing, set_allocator),
            hindered,
            lambda latencies: latencies[first].p50_ms,
        )
    free_as_usual()
    return {name: latency.raw_ms for name, latency in latencies.items()}, hindered(latencies)
