"""Sets how a device computes: number formats, TF32, threads and memory layout."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import nn

from benchmark.config.protocol import Protocol
from benchmark.devices import facts

AMPERE = 8  # major compute capability of the first NVIDIA GPUs with bfloat16 and TF32 ("CUDA C++ Programming Guide")

# Side of the largest input that a CPU computes in bfloat16. On maps of 29 px and more, torch 2.14's CPU kernels return
# wrong or NaN weight gradients for channels-last convolutions that are dilated along the height; networks dilate at 1/4
# of the input's size and below.
CPU_BFLOAT16_PX = 112

#: (owner, attribute) of a switch of torch: as a flag, and, from torch 2.9 on, as a word.
_Switch = tuple[tuple[Any, str], tuple[Any, str]]


def _switches() -> dict[Literal["convolutions", "products"], _Switch]:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    return {
        "convolutions": ((cudnn, "allow_tf32"), (getattr(cudnn, "conv", None), "fp32_precision")),
        "products": ((matmul, "allow_tf32"), (matmul, "fp32_precision")),
    }


def rounds_to_tf32(what: Literal["convolutions", "products"]) -> bool:
    """Tell whether a GPU's float32 convolutions or matrix products may round their operands to TF32."""
    if torch.version.hip is not None:
        return False  # AMD's libraries leave these switches alone
    flag, word = _switches()[what]
    try:
        return bool(getattr(*flag))
    except RuntimeError:  # somebody has set the word, and torch refuses to mix both ways
        return bool(getattr(*word) == "tf32")


@contextlib.contextmanager
def tf32(*, convolutions: bool | None = None, products: bool | None = None) -> Iterator[None]:
    """Allow or forbid TF32 on a GPU for a while; ``None`` leaves it as it is."""
    switches = _switches()
    with contextlib.ExitStack() as stack:
        for value, (flag, word) in ((convolutions, switches["convolutions"]), (products, switches["products"])):
            if value is not None:
                stack.enter_context(_switched(flag, word, value))
        yield


@contextlib.contextmanager
def _switched(flag: tuple[Any, str], word: tuple[Any, str], value: bool) -> Iterator[None]:
    place: tuple[Any, str] = flag
    new: bool | str = value
    try:
        before = getattr(*flag)
    except RuntimeError:
        place, new, before = word, "tf32" if value else "ieee", getattr(*word)
    setattr(*place, new)
    try:
        yield
    finally:
        setattr(*place, before)


def computes_bfloat16(device: torch.device) -> bool:
    """Tell whether a device multiplies bfloat16 by itself; others emulate it, slower than float32."""
    if device.type != "cuda":
        return facts.cpu_has_bfloat16()
    # Not torch.cuda.is_bf16_supported: it asks the current device.
    return torch.version.hip is not None or torch.cuda.get_device_properties(device).major >= AMPERE


def float32_precision() -> str:
    """Return what a GPU's float32 kernels may round to: TF32 is torch's default for convolutions."""
    convolution = "tf32" if rounds_to_tf32("convolutions") else "ieee"
    return f"convolution {convolution}, matmul {'high' if rounds_to_tf32('products') else 'highest'}"


def autocast(device: torch.device, protocol: Protocol) -> contextlib.AbstractContextManager[object]:
    """Return the context in which a protocol's forwards run."""
    if compute_dtype(device, protocol) == "float32":
        return contextlib.nullcontext()
    # Weights that one replay has cast are stale in the next: what is captured casts them anew.
    capturing = device.type == "cuda" and torch.cuda.is_current_stream_capturing()
    return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=not capturing)


def compute_dtype(device: torch.device, protocol: Protocol) -> str:
    """Return the number format of convolutions and matrix products: bfloat16 where asked for, native and right.

    A CPU or GPU without bfloat16 instructions would emulate them, slower than float32; on larger inputs a CPU's kernels
    are wrong (see :data:`CPU_BFLOAT16_PX`).
    """
    if protocol.training.mixed_precision != "bfloat16" or not computes_bfloat16(device):
        return "float32"
    largest = max([protocol.input.size, *protocol.input.size_by_dataset.values()])
    return "bfloat16" if device.type == "cuda" or largest <= CPU_BFLOAT16_PX else "float32"


def to_device(network: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to a device, channels last: the layout in which the kernels of most networks are fastest."""
    return network.to(device).to(memory_format=torch.channels_last)


@contextlib.contextmanager
def using_threads(count: int | None) -> Iterator[int]:
    """Compute with a number of threads for a while; ``None`` keeps the process's own. Yields the number."""
    previous = torch.get_num_threads()
    torch.set_num_threads(count or previous)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(previous)
