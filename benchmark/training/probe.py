"""Tries users' and smp's networks on zeros before any work."""

from __future__ import annotations

import contextlib
import copy
import faulthandler
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.config import code_identity
from benchmark.config.network_files import NetworkFile
from benchmark.config.registry import ModelEntry
from benchmark.utils.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

SMALL = 64  # pixels: on a CPU a forward of this side takes milliseconds, and five halvings leave more than one pixel
DRAWS = 4  # of random weights and images
CLASSES = 1

#: Part of torch's message if a norm over the batch gets a single value in training.
ONE_VALUE = "Expected more than 1 value per channel when training"


@dataclass(frozen=True)
class ProbeInput:
    """An input of a network in a study.

    Attributes:
        side: height and width, pixels.
        channels: of the image.
        images: number of images of a forward in training; ``None`` if the network is only tested on this input.
    """

    side: int
    channels: int
    images: int | None = None


def probe_networks(
    entries: Iterable[ModelEntry], inputs: Sequence[ProbeInput], warn: Callable[[str], None], *, on_cpu: bool = True
) -> None:
    """Build users' and smp's networks and compute forwards of zeros, on the meta device or else on the CPU.

    Built-in networks are skipped. Random states do not change.

    Args:
        entries: any networks.
        inputs: all inputs of these networks in the study.
        warn: called with warnings: forwards that cannot be tried, outputs that are not logits, imports whose changes
            would not be noticed.
        on_cpu: whether the networks will run on a CPU. If not, an exception is only a warning, since a network may put
            tensors onto a GPU itself.

    Raises:
        UserError: a network cannot be loaded or built, or its output is not a tensor of one logit per pixel.
    """
    for entry in dict.fromkeys(entry for entry in entries if entry.family == "user" or entry.packages):
        with _undisturbed():
            try:
                warnings = _probe(entry, list(dict.fromkeys(inputs)))
            except _RaisedError as error:
                if on_cpu:
                    raise UserError(str(error)) from error
                warnings = [f"{error} yet. It was tried on the CPU and may do better on the GPU"]
        for warning in warnings:
            warn(f"warning: {warning}")


def one_value_advice(images: int | None = None) -> str:
    """Return the remedy if a norm over the batch gets a single value; ``images`` counts those of one forward."""
    present = "" if images is None else f" (here {images})"
    return (
        f"a BatchNorm got a map of one pixel from one image: give each forward at least two images{present} with --set "
        "training.batch=8 (and training.micro_batch where that is set), the last of an epoch too, or use another norm"
    )


def wrong_output(output: object, shape: tuple[int, ...]) -> str:
    """Return the fault of a network's output in words; blank for logits of the expected shape.

    Args:
        output: of the network.
        shape: ``(N, classes, H, W)``.
    """
    import torch

    if isinstance(output, Mapping):
        return (
            f"returned a {type(output).__name__} with {', '.join(map(repr, output))}; return the tensor of logits alone"
        )
    if not isinstance(output, torch.Tensor):
        length = f" of {len(output)}" if isinstance(output, tuple | list) else ""
        return f"returned a {type(output).__name__}{length}; return the tensor of logits alone"
    returned = tuple(output.shape)
    if len(returned) != len(shape) or returned[0] != shape[0]:
        remedy = "keep the axes of images and channels, which squeeze() without an axis removes"
    elif returned[1] != shape[1] == returned[-1]:
        remedy = "put the channels before height and width, as permute(0, 3, 1, 2) does"
    elif returned[1] != shape[1]:
        remedy = "make the last layer give `classes` channels"
    elif returned != shape:
        remedy = "bring the logits to the image's size, as torch.nn.functional.interpolate(x, size=...) does"
    else:
        return "" if output.is_floating_point() else f"returned {output.dtype}; return logits, not a mask"
    return f"returned {_text(returned)}; expected {_text(shape)}: {remedy}"


class _RaisedError(Exception):
    """A user's network raised an exception."""


def _probe(entry: ModelEntry, inputs: Sequence[ProbeInput]) -> list[str]:
    warnings: list[str] = []
    for channels in dict.fromkeys(example.channels for example in inputs):
        try:
            network = entry.build(in_channels=channels, classes=CLASSES)
        except UserError:
            raise
        except Exception as error:
            raise _raised(entry, f"__init__ with in_channels={channels}, classes={CLASSES}", error) from error
        for example in inputs:
            if example.channels == channels:
                _refuse(entry, network, example)
        side = min(example.side for example in inputs)
        if entry.family == "user" and not warnings and _all_in_unit_interval(network, channels, side):
            warnings.append(
                f"{entry.target}: all outputs lie in [0, 1], as after a sigmoid; expected logits, which are 0 where "
                "foreground is as likely as background: such a network learns next to nothing. Leave out the sigmoid, "
                "softmax or clamp at its end"
            )
    return warnings + _unseen(entry)


def _refuse(entry: ModelEntry, network: nn.Module, example: ProbeInput) -> None:
    """Refuse a network whose output is not one logit per pixel, for two images and for one, in training too."""
    for images, training in ((2, False), (1, False), (1, True)):
        if training and example.images is None:
            continue
        try:
            shape, output = _forward(network.train(training), images, example)
        except Exception as error:
            if ONE_VALUE not in str(error):
                call = f"forward of {_text((images, example.channels, *[example.side] * 2))}{' in training' * training}"
                raise _raised(entry, call, error) from error
            if example.images == 1:
                raise UserError(f"{code_identity.label(entry)}: {one_value_advice(example.images)}") from error
            continue
        if wrong := wrong_output(output, shape):
            given = _text((images, example.channels, *shape[2:]))
            raise UserError(f"{code_identity.label(entry)}: forward of {given}{' in training' * training} {wrong}")
        if training and not output.requires_grad:
            raise UserError(
                f"{entry.target}: forward in training returned logits without a gradient; expected some that depend on "
                "its parameters: leave out detach() and no_grad(), and set requires_grad on what is to be trained"
            )


def _forward(network: nn.Module, images: int, example: ProbeInput) -> tuple[tuple[int, ...], Tensor]:
    """Return the expected shape and the output, on the meta device, else on a small input, else on a full one."""
    import torch

    def on(device: str, side: int) -> tuple[tuple[int, ...], Tensor]:
        tried = copy.deepcopy(network).to(device)
        with torch.set_grad_enabled(network.training):
            logits = tried(torch.zeros(images, example.channels, side, side, device=device))
        return (images, CLASSES, side, side), logits

    for device, side in (("meta", example.side), ("cpu", min(example.side, SMALL))):
        with contextlib.suppress(Exception):
            return on(device, side)
    return on("cpu", example.side)


def _all_in_unit_interval(network: nn.Module, channels: int, side: int) -> bool:
    """Return whether the outputs stay in [0, 1] for random weights and images; ``False`` if no forward works."""
    import torch

    tried = copy.deepcopy(network).eval()
    torch.manual_seed(0)
    side = min(side, SMALL)
    try:
        for draw in range(DRAWS):
            for weights in tried.parameters() if draw else ():
                # Noise about as large as the weights, so that outputs of many layers do not vanish or overflow.
                spread = weights.detach() if bool(weights.any()) else torch.full_like(weights, 0.1)
                weights.data = weights.detach() + spread * torch.randn_like(weights)
            with torch.no_grad():
                output = tried(3 * torch.randn(1, channels, side, side))
            if not bool(((output >= 0) & (output <= 1)).all()):
                return False
    except Exception:  # the network may not take this size; a run checks its own outputs after the first round
        return False
    return True


def _unseen(entry: ModelEntry) -> list[str]:
    """Return warnings of files that a network imports in a way that its key does not cover."""
    path = Path(entry.target.rpartition(":")[0])
    files = NetworkFile.at(path).unseen(code_identity.code_digest(entry) or "") if path.suffix == ".py" else []
    return [
        f"{entry.target}: imports {file} by a computed name, so that a change of it leaves older results valid; use an "
        "import statement"
        for file in files
    ]


def _raised(entry: ModelEntry, call: str, error: Exception) -> _RaisedError:
    return _RaisedError(code_identity.raised(entry, call, error))


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep the random state, and print the stack if compiled code crashes."""
    import torch

    with contextlib.suppress(OSError, ValueError, RuntimeError):  # a caller's stderr may be no file
        faulthandler.enable()
    with torch.random.fork_rng(devices=[]):
        yield


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
