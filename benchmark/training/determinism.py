"""How strictly a run repeats itself: torch's deterministic kernels, and which operations have none."""

from __future__ import annotations

import contextlib
import copy
import re
import warnings
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from benchmark.config.protocol import Determinism, Protocol
from benchmark.devices.precision import autocast
from benchmark.training.loss import segmentation_loss

# Sides below this leave deep networks with maps of a pixel, on which BatchNorm may refuse to train.
PROBE_PX = 64

# torch's words for an operation without a deterministic kernel, for an attention kernel whose deterministic form it
# takes only where it must, and, up to torch 2.13, for a product in a process whose environment lacks `jobs.CUBLAS`.
_WORDS = re.compile(
    r"(\S+) does not have a deterministic implementation"
    r"|([\w ]+ [Aa]ttention) defaults to a non-deterministic algorithm"
    r"|not deterministic because it uses (CuBLAS)"
)


class NotDeterministicError(RuntimeError):
    """A run that must repeat itself met an operation without a deterministic kernel."""


@contextlib.contextmanager
def kernels(mode: Determinism) -> Iterator[None]:
    """Compute with the kernels of a mode and leave torch's settings as they were.

    ``seeded`` lets torch choose the fastest kernels; ``deterministic`` allows only those that give the same bits each
    time. Seeds are fixed in both.

    Raises:
        NotDeterministicError: an operation without a deterministic kernel, in ``deterministic``.
    """
    before = _settings()
    torch.use_deterministic_algorithms(mode == "deterministic")
    torch.backends.cudnn.benchmark = False  # it picks kernels by a race, which the same program may win differently
    try:
        yield
    except RuntimeError as error:
        if mode == "deterministic" and (names := _names([str(error)])):
            raise NotDeterministicError(
                f"{names[0]} has no deterministic kernel on this device; leave the operation out of the network, "
                "or use --set determinism=seeded"
            ) from error
        raise
    finally:
        _restore(before)


def nondeterministic_operations(
    network: nn.Module, multiple: int, size: int, channels: int, protocol: Protocol
) -> list[str] | None:
    """Name the operations of a training step for which torch has no deterministic kernel on the network's device.

    A copy of the network takes one step on two small images of noise, so the network and every random state stay as
    they were. In ``seeded`` runs further operations may vary, such as convolutions on a GPU: those for which torch has
    a deterministic kernel as well, which it uses in ``deterministic`` ones.

    Args:
        network: where it will be trained.
        multiple: what its input's height and width must divide by.
        size: side of its input; a smaller one is used where that is larger than needed.
        channels: of its input.
        protocol: all settings.

    Returns:
        The names as torch spells them, sorted; ``None`` where the step failed and nothing can be told.
    """
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    side = min(size, -(-PROBE_PX // multiple) * multiple)
    before = _settings()
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        torch.set_warn_always(True)  # some operations would warn once per process only
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            _step(copy.deepcopy(network), protocol, (2, channels, side, side), device)
        except Exception:  # a user's network may do anything; the training itself will tell what is wrong
            return None
        finally:
            _restore(before)
    return _names([str(warning.message) for warning in caught])


def _step(network: nn.Module, protocol: Protocol, shape: tuple[int, ...], device: torch.device) -> None:
    with autocast(device, protocol):
        logits = network.train()(torch.rand(shape, device=device))
    loss = segmentation_loss(logits, torch.zeros_like(logits), protocol.loss)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward unannotated


def _settings() -> tuple[bool, bool, bool, bool]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.is_warn_always_enabled(),
        torch.backends.cudnn.benchmark,
    )


def _restore(settings: tuple[bool, bool, bool, bool]) -> None:
    enabled, warn_only, always, race = settings
    torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
    torch.set_warn_always(always)
    torch.backends.cudnn.benchmark = race


def _names(messages: Sequence[str]) -> list[str]:
    found = [match for message in messages for match in _WORDS.finditer(message)]
    return sorted({match.group(match.lastindex or 0) for match in found})
