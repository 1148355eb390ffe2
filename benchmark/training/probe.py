"""Tries users' networks on zeros before any work."""

from __future__ import annotations

import contextlib
import copy
import faulthandler
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.config import network_files, registry
from benchmark.config.network_files import NetworkFile
from benchmark.config.registry import ModelEntry
from benchmark.utils.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

SMALL = 64  # pixels: on a CPU a forward of this side takes milliseconds, and five halvings leave more than one pixel
DRAWS = 4  # of random weights and images
CLASSES = 1

#: Of torch's message where a norm over the batch gets a single value to train on.
ONE_VALUE = "Expected more than 1 value per channel when training"


@dataclass(frozen=True)
class ProbeInput:
    """An input that a network will be given.

    Attributes:
        side: height and width, pixels.
        channels: of the image.
        images: of a forward in training; ``None`` where it is only tested.
    """

    side: int
    channels: int
    images: int | None = None


def probe_networks(
    entries: Iterable[ModelEntry], inputs: Sequence[ProbeInput], tell: Callable[[str], None], *, on_cpu: bool = True
) -> None:
    """Build users' networks and compute one forward of zeros each, on the meta device or else on the CPU.

    Nothing is done for the built-in networks. Random states stay as they are.

    Args:
        entries: any networks.
        inputs: all that they will be given.
        tell: called with warnings: forwards that cannot be tried, outputs that are no logits, code whose changes go
            unseen.
        on_cpu: whether they will run on a CPU. Otherwise an exception is a warning only, since a network may put
            tensors onto a GPU by itself.

    Raises:
        UserError: a network cannot be loaded or built, or its output is no tensor of one logit per pixel.
    """
    for entry in dict.fromkeys(entry for entry in entries if entry.family == "user"):
        with _undisturbed():
            try:
                warnings = _probe(entry, list(dict.fromkeys(inputs)))
            except _RaisedError as error:
                if on_cpu:
                    raise UserError(str(error)) from error
                warnings = [f"{error} yet. It was tried on the CPU and may do better on the GPU"]
        for warning in warnings:
            tell(f"warning: {warning}")


def one_value_advice(images: int | None = None) -> str:
    """Say what to do where a norm over the batch has a single value to train on."""
    found = "" if images is None else f" (here {images})"
    return (
        f"a BatchNorm got a map of one pixel from one image: give each forward at least two images{found} with --set "
        "training.batch=8 (and training.micro_batch where that is set), the last of an epoch too, or use another norm"
    )


def wrong_output(output: object, shape: tuple[int, ...]) -> str:
    """Say what is wrong with a network's output; blank where it is logits of a shape.

    Args:
        output: what the network returned.
        shape: ``(N, classes, H, W)``.
    """
    import torch

    if isinstance(output, Mapping):
        return (
            f"returned a {type(output).__name__} with {', '.join(map(repr, output))}; return the tensor of logits alone"
        )
    if not isinstance(output, torch.Tensor):
        of = f" of {len(output)}" if isinstance(output, tuple | list) else ""
        return f"returned a {type(output).__name__}{of}; return the tensor of logits alone"
    found = tuple(output.shape)
    if len(found) != len(shape) or found[0] != shape[0]:
        remedy = "keep the axes of images and channels, which squeeze() without an axis removes"
    elif found[1] != shape[1] == found[-1]:
        remedy = "put the channels before height and width, as permute(0, 3, 1, 2) does"
    elif found[1] != shape[1]:
        remedy = "make the last layer give `classes` channels"
    elif found != shape:
        remedy = "bring the logits to the image's size, as torch.nn.functional.interpolate(x, size=...) does"
    else:
        return "" if output.is_floating_point() else f"returned {output.dtype}; return logits, not a mask"
    return f"returned {_text(found)}; expected {_text(shape)}: {remedy}"


class _RaisedError(Exception):
    """A user's network raised something of its own."""


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
        if not warnings and _all_in_unit_interval(network, channels, min(example.side for example in inputs)):
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
                what = f"forward of {_text((images, example.channels, *[example.side] * 2))}{' in training' * training}"
                raise _raised(entry, what, error) from error
            if example.images == 1:
                raise UserError(f"{entry.target}: {one_value_advice(example.images)}") from error
            continue
        if wrong := wrong_output(output, shape):
            given = _text((images, example.channels, *shape[2:]))
            raise UserError(f"{entry.target}: forward of {given}{' in training' * training} {wrong}")
        if training and not output.requires_grad:
            raise UserError(
                f"{entry.target}: forward in training returned logits without a gradient; expected some that depend on "
                "its parameters: leave out detach() and no_grad(), and set requires_grad on what is to be trained"
            )


def _forward(network: nn.Module, images: int, example: ProbeInput) -> tuple[tuple[int, ...], Tensor]:
    """Return the expected shape and the output: computed nowhere, else small, else in full."""
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
    """Tell whether no weights and images make an output leave [0, 1]; also where none could be tried."""
    import torch

    tried = copy.deepcopy(network).eval()
    torch.manual_seed(0)
    side = min(side, SMALL)
    try:
        for draw in range(DRAWS):
            for weights in tried.parameters() if draw else ():
                # About as large as before, so that many layers together neither vanish nor overflow.
                spread = weights.detach() if bool(weights.any()) else torch.full_like(weights, 0.1)
                weights.data = weights.detach() + spread * torch.randn_like(weights)
            with torch.no_grad():
                output = tried(3 * torch.randn(1, channels, side, side))
            if not bool(((output >= 0) & (output <= 1)).all()):
                return False
    except Exception:  # at this size; a run looks at its own outputs after the first round
        return False
    return True


def _unseen(entry: ModelEntry) -> list[str]:
    """Warn of files that a network has imported in a way that its key does not see."""
    path = Path(entry.target.rpartition(":")[0])
    files = NetworkFile.at(path).unseen(registry.code_digest(entry) or "") if path.suffix == ".py" else []
    return [
        f"{entry.target}: imports {file} by a computed name, so that a change of it leaves older results valid; use an "
        "import statement"
        for file in files
    ]


def _raised(entry: ModelEntry, what: str, error: Exception) -> _RaisedError:
    where = network_files.location(error, registry.code(entry))
    told = f"{type(error).__name__}: {error}" + (f" ({where})" if where else "")
    return _RaisedError(f"{entry.target}: {what} raised {told}; correct it: nothing has been run")


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep the random state, and have a crash in compiled code tell its place."""
    import torch

    with contextlib.suppress(OSError, ValueError, RuntimeError):  # a caller's stderr may be no file
        faulthandler.enable()
    with torch.random.fork_rng(devices=[]):
        yield


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
