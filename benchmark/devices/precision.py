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
# wrong or NaN weight gradients for channels-last convolutions dilated along the height; networks dilate at 1/4 of the
# input's size and below.
CPU_BFLOAT16_PX = 112

Operation = Literal["convolutions", "products"]


def _switch(operation: Operation) -> tuple[Any, str, Any, dict[bool, Any]]:
    """Return the owner, name and value of torch's TF32 switch, and its values for off and on."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    flag: Any = cudnn if operation == "convolutions" else matmul
    try:
        return flag, "allow_tf32", flag.allow_tf32, {False: False, True: True}
    except RuntimeError:  # the process uses the names of torch 2.9, and torch refuses to mix both ways
        word: Any = cudnn.conv if operation == "convolutions" else matmul  # type: ignore[attr-defined]
        return word, "fp32_precision", word.fp32_precision, {False: "ieee", True: "tf32"}


def rounds_to_tf32(operation: Operation) -> bool:
    """Tell whether a GPU's float32 convolutions or matrix products may round their operands to TF32."""
    if torch.version.hip is not None:
        return False  # AMD's libraries ignore these switches
    *_, value, values = _switch(operation)
    return bool(value == values[True])


@contextlib.contextmanager
def tf32(*, convolutions: bool | None = None, products: bool | None = None) -> Iterator[None]:
    """Allow or forbid TF32 on a GPU within the context; ``None`` changes nothing."""
    choices: dict[Operation, bool | None] = {"convolutions": convolutions, "products": products}
    with contextlib.ExitStack() as stack:
        for operation, allowed in choices.items():
            if allowed is not None:
                owner, name, value, values = _switch(operation)
                stack.callback(setattr, owner, name, value)
                setattr(owner, name, values[allowed])
        yield


def computes_bfloat16(device: torch.device) -> bool:
    """Tell whether a device has bfloat16 instructions; other devices emulate them, slower than float32."""
    if device.type != "cuda":
        return facts.cpu_has_bfloat16()
    # torch.cuda.is_bf16_supported would ask the current device.
    return torch.version.hip is not None or torch.cuda.get_device_properties(device).major >= AMPERE


def float32_precision() -> str:
    """Describe the rounding of a GPU's float32 kernels; torch's default for convolutions is TF32."""
    convolution = "tf32" if rounds_to_tf32("convolutions") else "ieee"
    return f"convolution {convolution}, matmul {'high' if rounds_to_tf32('products') else 'highest'}"


def autocast(device: torch.device, protocol: Protocol) -> contextlib.AbstractContextManager[object]:
    """Return the context in which a protocol's forwards run."""
    if compute_dtype(device, protocol) == "float32":
        return contextlib.nullcontext()
    # A captured graph must cast the weights in each replay: cached casts would be stale.
    capturing = device.type == "cuda" and torch.cuda.is_current_stream_capturing()
    return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=not capturing)


def compute_dtype(device: torch.device, protocol: Protocol) -> str:
    """Return the number format of convolutions and matrix products.

    It is bfloat16 where the protocol says so, the device has the instructions and its kernels are right
    (:data:`CPU_BFLOAT16_PX`).
    """
    if protocol.training.mixed_precision != "bfloat16" or not computes_bfloat16(device):
        return "float32"
    largest = max([protocol.input.size, *protocol.input.size_by_dataset.values()])
    return "bfloat16" if device.type == "cuda" or largest <= CPU_BFLOAT16_PX else "float32"


def to_device(network: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to a device in channels-last layout, the fastest layout of most networks' kernels."""
    return network.to(device).to(memory_format=torch.channels_last)


@contextlib.contextmanager
def using_threads(count: int | None) -> Iterator[int]:
    """Set the number of threads within the context (``None`` keeps it), and yield the number."""
    previous = torch.get_num_threads()
    torch.set_num_threads(count or previous)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(previous)
