"""Compares an exported file with torch, also at sizes that the capture never saw."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.special import expit
from torch import nn

from benchmark.predict.export.export_formats import Array, Forward, of_module
from benchmark.records.export_record import RANDOM, Check
from benchmark.utils import logs

#: float32 sums in another order: the networks of the registry mostly come to 1e-7 to 1e-5 of their logits.
TOLERANCE = 1e-4
#: Some networks amplify rounding beyond that. Their float64 then tells what is rounding: torch's float32 is off itself.
ROUNDINGS = 4
CONVENTION = (
    f"at most {TOLERANCE:g} of the largest |logit|, or {TOLERANCE:g} below 1; or else the file is at most "
    f"{ROUNDINGS} times as far from torch in float64 as torch in float32 is"
)
#: Height and width, pixels, beside those of the training: every network of the registry takes multiples of 32.
SIZES = ((128, 128), (160, 224), (224, 160))
#: About this large is the input whose sides are odd multiples of what a network's sides must divide by.
ODD = (96, 160)
BATCH = 3  # captured with two
MOST_WORDS = 160  # characters of an error


@dataclass(frozen=True)
class Range:
    """Which heights and widths a program takes.

    Attributes:
        step: they divide by it; ``None`` where there is one size only.
        least: the smallest of them, pixels.
    """

    step: int | None
    least: int


class ParityError(Exception):
    """An exported file that computes something else."""


def words(error: Exception) -> str:
    """Return an error's first line that says something, without folders; exporters put a page around it."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if line.startswith("Guard failed"):  # what follows is a formula over sizes of the exporter's naming
        return "captured programs take no such size (a guard of torch.export)"
    line = logs.without_folders(line)
    return line if len(line) <= MOST_WORDS else f"{line[:MOST_WORDS]}…"


def sizes(side: int, taken: Range) -> list[tuple[int, int, int]]:
    """Return the inputs ``(batch, height, width)`` to compare at.

    Args:
        side: of the training's inputs.
        taken: the sizes that the program takes.
    """
    if (step := taken.step) is None:
        return [(1, side, side), (BATCH, side, side)]
    near = (max(ODD[0], taken.least), max(ODD[1], taken.least + 2 * step))
    odd = [step * (-(-length // step) | 1) for length in near]
    found = [(1, side, side), (BATCH, odd[0], odd[1]), (1, taken.least, taken.least)]
    found += [(1, *size) for size in SIZES]
    return [
        (batch, height, width)
        for batch, height, width in dict.fromkeys(found)
        if min(height, width) >= taken.least and height % step == width % step == 0
    ]


@dataclass(frozen=True)
class Yardstick:
    """What a file is compared with.

    Attributes:
        torch: the network in float32, as it is tested.
        exact: the network in float64, asked for only where rounding is in doubt.
    """

    torch: Forward
    exact: Forward

    @classmethod
    def of(cls, network: nn.Module) -> Self:
        """Return that of a network, whose weights it leaves as they are."""

        def exact(image: Array) -> Array:
            double = of_module(copy.deepcopy(network).double())
            return double(image.astype(np.float64))

        return cls(of_module(network), exact)


def compare(yardstick: Yardstick, exported: Forward, image: Array, name: str, threshold: float) -> Check:
    """Give both the same images.

    Args:
        yardstick: the network.
        exported: the file.
        image: ``(N, C, H, W)``.
        name: what to call the images.
        threshold: of the foreground's probability.

    Raises:
        ParityError: the file does not run, or its logits have another shape, differ by more than rounding or are not
            finite.
    """
    batch, _, height, width = image.shape
    where = f"at {batch} x {height}x{width} ({name})"
    expected = yardstick.torch(image)
    try:
        found = exported(image)
    except Exception as error:  # runtimes raise their own
        raise ParityError(f"does not run {where}: {words(error)}") from error
    if expected.shape != found.shape:
        raise ParityError(f"logits of shape {found.shape} and torch's of {expected.shape} {where}")
    difference, largest = _distance(expected, found), float(np.abs(expected).max())
    rounding = None
    if not difference <= TOLERANCE * max(largest, 1):  # in this form NaN is refused too
        exact = yardstick.exact(image)
        rounding = _distance(expected, exact)
        if not _distance(found, exact) <= ROUNDINGS * rounding:
            raise ParityError(f"logits differ by {difference:.2g} of {largest:.2g} {where}")
    masks = [expit(logits) >= threshold for logits in (expected, found)]
    return Check(
        input=name,
        batch=batch,
        height=height,
        width=width,
        max_difference=difference,
        max_logit=largest,
        rounding=rounding,
        pixels=masks[0].size,
        differing_pixels=int((masks[0] != masks[1]).sum()),
    )


def _distance(one: Array, other: Array) -> float:
    return float(np.abs(one - other).max())


def range_of(yardstick: Yardstick, exported: Forward, channels: int, step: int) -> Range:
    """Find the smallest square that both take and agree at: layers need some pixels, and captured ones a few more.

    Raises:
        ParityError: they agree at no size up to 96x96; says why at the largest.
    """
    refusal = ParityError(f"steps of {step} pixels are too large")
    for least in range(step, max(ODD[0], 2 * step) + 1, step):
        try:
            compare(yardstick, exported, random_images(1, channels, least, least), RANDOM, 0.5)
        except (ParityError, ValueError, RuntimeError) as error:
            refusal = ParityError(words(error))
        else:
            return Range(step, least)
    raise refusal


def random_images(batch: int, channels: int, height: int, width: int) -> Array:
    """Return images ``(N, C, H, W)``, uniform in [0, 1], the same for the same arguments."""
    return np.random.default_rng((0, batch, height, width)).random((batch, channels, height, width), np.float32)


def inputs(channels: int, side: int, taken: Range, picture: tuple[str, Array] | None) -> list[tuple[str, Array]]:
    """Return what to compare on: random images of several sizes and numbers, and a picture.

    Args:
        channels: of the images.
        side: of the training's inputs.
        taken: the sizes that the program takes.
        picture: its name and ``(1, C, side, side)``.
    """
    found = [(RANDOM, random_images(batch, channels, height, width)) for batch, height, width in sizes(side, taken)]
    return [*found, *([picture] if picture is not None else [])]


def check(
    yardstick: Yardstick, exported: Forward, inputs: Iterable[tuple[str, Array]], threshold: float
) -> tuple[Check, ...]:
    """Compare on every input; as :func:`compare`."""
    return tuple(compare(yardstick, exported, image, name, threshold) for name, image in inputs)
