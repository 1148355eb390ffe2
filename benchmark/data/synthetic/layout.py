"""Holds a drawn layout as bars and vias with net numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

# Two nets are drawn at least this far apart. PIL's polygons grow by up to 1 px a side, which leaves the 5 px that the
# masks promise.
MIN_GAP_PX = 7.0


@dataclass(frozen=True)
class MetalBar:
    """A straight piece of metal: a rectangle with rounded corners around the line from one point to another."""

    net: int  # number of the net, from 1
    start: tuple[float, float]  # x, y in pixels
    end: tuple[float, float]  # x, y in pixels; equal to ``start`` for a pad
    width: float  # across the line, pixels
    extend: float  # length of the bar beyond both points, pixels


@dataclass(frozen=True)
class Via:
    """A via: its net, its centre (x, y) and its radius in pixels."""

    net: int
    centre: tuple[float, float]
    radius: float


@dataclass
class Canvas:
    """Bars and vias on an area that reaches beyond the shown window."""

    size: tuple[int, int]  # height and width of the canvas, pixels
    corner_px: float  # radius that rounds the corners
    bars: list[MetalBar] = field(default_factory=list)  # the layer that is labelled
    vias: list[Via] = field(default_factory=list)  # on bars
    # bars of the layer below, which shows through and is labelled nowhere
    lower: list[MetalBar] = field(default_factory=list)
    # isolated shapes that look like tracks and are labelled nowhere
    decoration: list[MetalBar] = field(default_factory=list)
    facts: dict[str, float] = field(default_factory=dict)  # values drawn from the seed, for the manifest
    nets: int = 0  # number of nets

    def new_net(self) -> int:
        """Return the number of the next net."""
        self.nets += 1
        return self.nets
