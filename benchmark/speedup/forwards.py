"""Forwards: the plain form of a network against the one that ``predict`` uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from benchmark.config.registry import ModelEntry
from benchmark.devices.cuda_graphs import captured
from benchmark.devices.precision import using_threads
from benchmark.devices.process_memory import free_as_usual, keep_freed_memory
from benchmark.efficiency.hindrance import hindrances, undisturbed
from benchmark.efficiency.latency import measure_in_turn
from benchmark.efficiency.memory import in_fresh_process, peak_growth
from benchmark.predict.fused_network import SIDE, Dtype, FusedNetwork, ready
from benchmark.records.efficiency_record import Latency
from benchmark.records.speedup_record import SpeedupComparison
from benchmark.speedup import plain
from benchmark.speedup.networks import build
from benchmark.speedup.setting import Place

Way = Literal["plain", "ours"]
READY = "norms folded, channels last, wide padding apart, attention without its matrix, freed memory kept"


def forward(entry: ModelEntry, size: int, place: Place) -> SpeedupComparison:
    """Compare float32 forwards of one image: time, and the logits."""
    image = random_image(size).to(place.device)
    slow, fast = (of(way, entry, size, place) for way in get_args(Way))
    with torch.inference_mode():
        expected, found = slow(image), fast(image)
    return place.comparison(
        what="forward",
        model=entry.name,
        size=size,
        unit="ms",
        **_in_turn(slow, fast, image, place),
        plain_form=plain.FORWARD,
        our_form=f"float32, {_form(fast)}",
        max_difference=float((expected - found).abs().max()),
        max_logit=float(expected.abs().max()),
    )


def half_forward(
    entry: ModelEntry, size: int, place: Place, trained: nn.Module | None, images: Sequence[Tensor]
) -> SpeedupComparison:
    """Compare a float32 forward of the plain form with a bfloat16 one: time, and the masks of trained weights.

    Args:
        entry: the network.
        size: of the timed image, pixels.
        place: where to measure.
        trained: the network with weights of a study; ``None`` leaves masks out.
        images: test images of that study, each ``(1, C, H, W)``.
    """
    image = random_image(size).to(place.device)
    slow, fast = of("plain", entry, size, place), of("ours", entry, size, place, "bfloat16")
    pixels = differing = 0
    if trained is not None:
        trained = trained.to(place.device)
        shown = ready(trained, images[0].shape, "bfloat16")
        trained = plain.plain_form(trained)
        for one in (image.to(place.device) for image in images):
            with torch.inference_mode():
                masks = [network(one) >= 0 for network in (trained, shown)]
            pixels += masks[0].numel()
            differing += int((masks[0] != masks[1]).sum())
    return place.comparison(
        what="forward",
        model=entry.name,
        size=size,
        dtype="bfloat16",
        unit="ms",
        **_in_turn(slow, fast, image, place),
        plain_form=plain.FORWARD,
        our_form=f"bfloat16 autocast, {_form(fast)}",
        pixels=pixels or None,
        differing_pixels=differing if pixels else None,
    )


def replayed(entry: ModelEntry, size: int, place: Place) -> SpeedupComparison:
    """Compare an eager float32 forward of the plain form with replays of a bfloat16 one, captured as a CUDA graph."""
    image = random_image(size).to(place.device)
    slow, fast = of("plain", entry, size, place), of("ours", entry, size, place, "bfloat16")
    with torch.inference_mode():
        graph = captured(fast, image)
        expected, found = slow(image), graph(image).float()
    return place.comparison(
        what="replayed",
        model=entry.name,
        size=size,
        dtype="bfloat16",
        unit="ms",
        **_in_turn(slow, lambda _: graph.replay(), image, place),
        plain_form=plain.FORWARD,
        our_form=f"bfloat16 autocast, {_form(fast)}, replayed as a CUDA graph",
        max_difference=float((expected - found).abs().max()),
        max_logit=float(expected.abs().max()),
    )


def forward_memory(entry: ModelEntry, size: int, place: Place) -> SpeedupComparison:
    """Compare by how much a process grows at most while it predicts one image."""
    slow, fast = (in_fresh_process(_growth, way, entry, size, place) for way in get_args(Way))
    return place.comparison(
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


def of(way: Way, entry: ModelEntry, size: int, place: Place, dtype: Dtype = "float32") -> nn.Module:
    """Return a network as most repositories run it, or as ``predict`` does."""
    network = build(entry).to(place.device)
    side = min(size, -(-SIDE // entry.multiple) * entry.multiple)
    return ready(network, (1, 1, side, side), dtype) if way == "ours" else plain.plain_form(network).eval()


def _growth(way: Way, entry: ModelEntry, size: int, place: Place) -> int:
    network, image = of(way, entry, size, place), random_image(size)

    def step() -> None:
        set_allocator(way)
        with torch.inference_mode():
            network(image)

    return peak_growth(step, place.threads)


def set_allocator(way: str) -> None:
    """Let memory be allocated as in a way from now on: ``run`` and ``predict`` keep what they free."""
    if way == "ours":
        keep_freed_memory()
    else:
        free_as_usual()


def random_image(size: int) -> Tensor:
    """Return an image ``(1, 1, size, size)``, uniform in [0, 1], the same at every call."""
    return torch.rand((1, 1, size, size), generator=torch.Generator().manual_seed(0))


def _in_turn(
    slow: Callable[[Tensor], Tensor], fast: Callable[[Tensor], Tensor], image: Tensor, place: Place
) -> dict[str, tuple[float, ...] | tuple[str, ...]]:
    """Time both ways in turn, again where something else had the processor, and say where it had it each time."""

    def step(network: Callable[[Tensor], Tensor]) -> Callable[[], None]:
        def once() -> None:
            with torch.inference_mode():
                network(image)
            place.wait()

        return once

    def hindered(latencies: dict[str, Latency]) -> tuple[str, ...]:
        return hindrances(latencies["plain"].waited if place.kind == "cpu" else None)

    with using_threads(place.threads):
        found, _ = undisturbed(
            lambda: measure_in_turn({"plain": step(slow), "ours": step(fast)}, place.timing, set_allocator),
            hindered,
            lambda latencies: latencies["plain"].p50_ms,
        )
    free_as_usual()
    return {"plain": found["plain"].raw_ms, "ours": found["ours"].raw_ms, "hindered": hindered(found)}
