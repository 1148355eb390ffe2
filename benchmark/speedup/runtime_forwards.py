"""Compares forwards of ``predict`` with those of other runtimes."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from benchmark.config.registry import ModelEntry
from benchmark.devices.precision import using_threads
from benchmark.predict.fused_network import SIDE, Dtype, as_written, ready
from benchmark.predict.runtimes import RUNTIMES, Deployment, RuntimeName, open_all
from benchmark.records.speedup_record import RuntimeTimes, SpeedupComparison
from benchmark.speedup import plain
from benchmark.speedup.forwards import random_image, time_in_turn
from benchmark.speedup.networks import build
from benchmark.speedup.setting import SpeedupSetting
from benchmark.utils.errors import missing_packages

OTHERS: tuple[RuntimeName, ...] = ("compile", "onnxruntime", "openvino")


def beside_runtimes(
    entry: ModelEntry,
    size: int,
    setting: SpeedupSetting,
    dtype: Dtype = "float32",
    network: nn.Module | None = None,
    channels: int = 1,
) -> SpeedupComparison:
    """Compare forwards of one image by torch, as written and as ``predict`` runs it, and by the other runtimes.

    Args:
        entry: the network.
        size: of the image, pixels.
        setting: device, threads and duration.
        dtype: number format of all but the plain way.
        network: on the CPU, with weights; by default as :func:`benchmark.speedup.networks.build` makes it.
        channels: of the image.
    """
    network = (build(entry) if network is None else network).to(setting.device)
    side = min(size, -(-SIDE // entry.multiple) * entry.multiple)
    fused = ready(network, (1, channels, side, side), dtype)
    slow = plain.plain_form(copy.deepcopy(network)).eval()
    image = random_image(size, channels).to(setting.device)
    with using_threads(setting.threads), torch.inference_mode():
        opened, refusals = open_all(OTHERS, Deployment(fused, channels, size, setting.threads))
        expected = slow(image)

        def difference(other: nn.Module) -> float:
            logits: Tensor = other(image)
            return float((expected - logits.float()).abs().max())

        fast: dict[str, nn.Module] = {"ours": fused, **dict(opened.items())}
        differences = {name: difference(other) for name, other in fast.items()}
    raw_ms, hindered = time_in_turn({"plain": slow, **fast}, image, setting)
    others = [
        RuntimeTimes(
            runtime=name,
            version=None if missing_packages(*RUNTIMES[name].packages, extra="") else RUNTIMES[name].version,
            raw_ms=raw_ms.get(name, ()),
            max_difference=differences.get(name),
            refusal=refusals.get(name),
        )
        for name in OTHERS
    ]
    reason = as_written(fused)
    return setting.comparison(
        what="runtimes",
        model=entry.name,
        size=size,
        unit="ms",
        dtype=dtype,
        plain=raw_ms["plain"],
        ours=raw_ms["ours"],
        others=others,
        max_difference=differences["ours"],
        max_logit=float(expected.abs().max()),
        hindered=hindered,
        plain_form=plain.FORWARD,
        our_form=f"as written: {reason}" if reason else "batch norms folded, the form of predict, for the runtimes too",
    )
