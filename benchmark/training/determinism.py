"""Selects torch's deterministic kernels and finds operations that lack them."""

from __future__ import annotations

import contextlib
import copy
import re
import warnings
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from benchmark.config.protocol import Protocol
from benchmark.config.setting_types import Determinism
from benchmark.devices.precision import autocast
from benchmark.training.losses import segmentation_loss

# Pixels. With smaller sides, deep networks have maps of a single pixel, which BatchNorm may refuse in training.
PROBE_PX = 64

# torch's words for an operation without a deterministic kernel, for an attention kernel that is deterministic only on
# demand, and, up to torch 2.13, for a product in a process whose environment lacks `jobs.CUBLAS`.
_WORDS = re.compile(
    r"(\S+) does not have a deterministic implementation"
    r"|([\w ]+ [Aa]ttention) defaults to a non-deterministic algorithm"
    r"|not deterministic because it uses (CuBLAS)"
)


class NotDeterministicError(RuntimeError):
    """An operation of a ``deterministic`` run has no deterministic kernel."""


@contextlib.contextmanager
def kernels(mode: Determinism) -> Iterator[None]:
    """Compute with the kernels of a mode, then restore torch's settings.

    ``seeded`` lets torch choose the fastest kernels; ``deterministic`` allows only kernels that repeat bit for bit.

    Raises:
        NotDeterministicError: an operation without a deterministic kernel, in ``deterministic``.
    """
    with _settings_restored():
        torch.use_deterministic_algorithms(mode == "deterministic")
        torch.backends.cudnn.benchmark = False  # its choice of kernels by their speed may vary between runs
        try:
            yield
        except RuntimeError as error:
            if mode == "deterministic" and (names := _names([str(error)])):
                raise NotDeterministicError(
                    f"{names[0]} has no deterministic kernel on this device; leave the operation out of the network, "
                    "or use --set determinism=seeded"
                ) from error
            raise


def nondeterministic_operations(
    network: nn.Module, multiple: int, size: int, channels: int, protocol: Protocol
) -> list[str] | None:
    """Return the operations of a training step without a deterministic kernel on the network's device.

    A copy of the network takes one step on two small images of noise; the network and all random states do not change.
    In ``seeded`` runs further operations may vary, such as convolutions on a GPU, whose deterministic kernels torch
    uses in ``deterministic`` runs only.

    Args:
        network: on the device of its training.
        multiple: divisor of its input's height and width.
        size: side of its input, pixels; the step uses a smaller side if possible.
        channels: of its input.
        protocol: all settings.

    Returns:
        torch's names of the operations, sorted; ``None`` if the step failed.
    """
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    side = min(size, -(-PROBE_PX // multiple) * multiple)
    with (
        _settings_restored(),
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        torch.set_warn_always(True)  # some operations warn only once per process
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            with autocast(device, protocol):
                logits = copy.deepcopy(network).train()(torch.rand((2, channels, side, side), device=device))
            loss = segmentation_loss(logits, torch.zeros_like(logits), protocol.loss)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward unannotated
        except Exception:  # a user's network may raise anything; the training itself will report the fault
            return None
    return _names([str(warning.message) for warning in caught])


@contextlib.contextmanager
def _settings_restored() -> Iterator[None]:
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    warn_always, cudnn_benchmark = torch.is_warn_always_enabled(), torch.backends.cudnn.benchmark
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        torch.set_warn_always(warn_always)
        torch.backends.cudnn.benchmark = cudnn_benchmark


def _names(messages: Sequence[str]) -> list[str]:
    return sorted({match[match.lastindex or 0] for message in messages for match in _WORDS.finditer(message)})
