"""Number formats of a device: bfloat16 that it has, TF32 in place of float32."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import torch

from benchmark.records import environment

AMPERE = 8  # major compute capability of the first NVIDIA GPUs with bfloat16 and TF32 ("CUDA C++ Programming Guide")

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
        return environment.cpu_has_bfloat16()
    # Not torch.cuda.is_bf16_supported: it asks the current device.
    return torch.version.hip is not None or torch.cuda.get_device_properties(device).major >= AMPERE
