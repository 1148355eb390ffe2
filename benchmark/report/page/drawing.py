"""What the page's plots are drawn with: axes, ticks, paths and the room that a text takes."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """A scale from figures to places in a drawing.

    Attributes:
        ends: the least and the greatest figure.
        places: where they lie.
        ticks: round figures between them.
        logarithmic: whether equal distances are equal ratios.
    """

    ends: tuple[float, float]
    places: tuple[float, float]
    ticks: tuple[float, ...]
    logarithmic: bool = False

    @classmethod
    def over(
        cls, ends: tuple[float, float], places: tuple[float, float], *, most: int = 7, logarithmic: bool = False
    ) -> Axis:
        """Choose ticks: steps of 1, 2 or 5 times a power of ten, or on a logarithmic axis such figures themselves."""
        low, high = ends if ends[0] < ends[1] else (ends[0], ends[0] + 1)
        chosen = (_log_ticks if logarithmic else _linear_ticks)(low, high, most)
        return cls((low, high), places, tuple(chosen), logarithmic)

    def place(self, figure: float) -> float:
        """Return where a figure lies."""
        low, high, at = *self.ends, figure
        if self.logarithmic:
            low, high, at = math.log10(low), math.log10(high), math.log10(figure)
        first, last = self.places
        return first + (at - low) / (high - low) * (last - first)


def _linear_ticks(low: float, high: float, most: int) -> list[float]:
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(step for factor in (1, 2, 5, 10, 20) if (high - low) / (step := factor * power) <= most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(count * step, 12) for count in range(first, last + 1)]


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [float(f"{factor}e{power}") for power in powers for factor in factors]
        found = [tick for tick in found if low <= tick <= high]
        if len(found) <= most:
            return found
    return found[:: -(-len(found) // most)]


def digits(ticks: Sequence[float]) -> int:
    """Return how many decimals tell ticks apart."""
    return next((count for count in range(7) if all(math.isclose(round(tick, count), tick) for tick in ticks)), 7)


def number(value: float) -> str:
    """Return a coordinate with one decimal, which is finer than a screen shows."""
    return f"{value:z.1f}".removesuffix(".0")


def path(points: Iterable[tuple[float, float]]) -> str:
    """Return the data of an SVG path through points; one point alone becomes a short dash."""
    found = [f"{number(x)} {number(y)}" for x, y in points]
    if not found:
        return ""
    return f"M{'L'.join(found)}" + "h.1" * (len(found) == 1)


def text_width(text: str, size: float) -> float:
    """Return at least the width of a text in any of the page's sans serif fonts, which a server cannot measure.

    Args:
        text: of one line.
        size: of the font; the width has the same unit.
    """
    return size * sum(_ems(character) for character in text)


def _ems(character: str) -> float:
    if unicodedata.east_asian_width(character) in "WF":
        return 1.05
    if character in "mwMW@%—":
        return 0.95
    return 0.75 if character.isupper() else 0.62


def shortened(text: str, most: int) -> str:
    """Cut a text to so many characters, the last of them an ellipsis."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
