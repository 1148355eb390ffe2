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
    """The heights and widths that a program takes: multiples of ``step`` pixels from ``least``; ``None``: one size."""

    step: int | None
    least: int


class ParityError(Exception):
    """An exported file does not agree with torch."""


def words(error: Exception) -> str:
    """Return the first non-empty line of an error without folders; exporters write a page around it."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if line.startswith("Guard failed"):  # the rest is a formula over sizes that the exporter named
        return "captured programs take no such size (a guard of torch.export)"
    line = logs.without_folders(line)
    return line if len(line) <= MOST_WORDS else f"{line[:MOST_WORDS]}…"


def sizes(side: int, span: Range) -> list[tuple[int, int, int]]:
    """Return the inputs ``(batch, height, width)`` for comparison; ``side`` is of the training's inputs."""
    if (step := span.step) is None:
        return [(1, side, side), (BATCH, side, side)]
    near = (max(ODD[0], span.least), max(ODD[1], span.least + 2 * step))
    odd = [step * (-(-length // step) | 1) for length in near]
    shapes = [(1, side, side), (BATCH, odd[0], odd[1]), (1, span.least, span.least)]
    shapes += [(1, *size) for size in SIZES]
    return [
        (batch, height, width)
        for batch, height, width in dict.fromkeys(shapes)
        if min(height, width) >= span.least and height % step == width % step == 0
    ]


@dataclass(frozen=True)
class Yardstick:
    """The network in float32 (``torch``), and in float64 (``exact``) where rounding is in doubt."""

    torch: Forward
    exact: Forward

    @classmethod
    def of(cls, network: nn.Module) -> Self:
        """Return the yardstick of a network, whose weights stay unchanged."""

        def exact(image: Array) -> Array:
            double = of_module(copy.deepcopy(network).double())
            return double(image.astype(np.float64))

        return cls(of_module(network), exact)


def compare(yardstick: Yardstick, exported: Forward, image: Array, name: str, threshold: float) -> Check:
    """Compare the logits of images ``(N, C, H, W)``, called ``name``; ``threshold`` is of the probability.

    Raises:
        ParityError: the file does not run, or its logits have another shape, differ by more than rounding or are not
            finite.
    """
    batch, _, height, width = image.shape
    where = f"at {batch} x {height}x{width} ({name})"
    expected = yardstick.torch(image)
    try:
        logits = exported(image)
    except Exception as error:  # runtimes raise their own
        raise ParityError(f"does not run {where}: {words(error)}") from error
    if expected.shape != logits.shape:
        raise ParityError(f"logits of shape {logits.shape} and torch's of {expected.shape} {where}")
    difference, largest = _distance(expected, logits), float(np.abs(expected).max())
    rounding = None
    if not difference <= TOLERANCE * max(largest, 1):  # in this form NaN is refused too
        exact = yardstick.exact(image)
        rounding = _distance(expected, exact)
        if not _distance(logits, exact) <= ROUNDINGS * rounding:
            raise ParityError(f"logits differ by {difference:.2g} of {largest:.2g} {where}")
    masks = [expit(values) >= threshold for values in (expected, logits)]
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


def _distance(logits: Array, others: Array) -> float:
    return float(np.abs(logits - others).max())


def range_of(yardstick: Yardstick, exported: Forward, channels: int, step: int) -> Range:
    """Return the sizes from the smallest square at which file and torch agree, since layers need some pixels.

    Raises:
        ParityError: they agree at no size up to 96x96; gives the reason at the largest.
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


def inputs(channels: int, side: int, span: Range, picture: tuple[str, Array] | None) -> list[tuple[str, Array]]:
    """Return named images for comparison: random ones of several sizes and numbers, and the picture if there is one."""
    named = [(RANDOM, random_images(batch, channels, height, width)) for batch, height, width in sizes(side, span)]
    return [*named, *([picture] if picture is not None else [])]


def check(
    yardstick: Yardstick, exported: Forward, inputs: Iterable[tuple[str, Array]], threshold: float
) -> tuple[Check, ...]:
    """Compare on every input; as :func:`compare`."""
    return tuple(compare(yardstick, exported, image, name, threshold) for name, image in inputs)
