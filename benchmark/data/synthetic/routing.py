"""Routes nets on a grid, as in scanning electron micrographs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from benchmark.data.synthetic.layout import MIN_GAP_PX, Canvas, MetalBar, Via


@dataclass(frozen=True)
class Wiring:
    """Rules of routing on a grid."""

    pitch: float  # distance of grid lines, pixels
    width: float  # mean track width, pixels
    width_sd: float  # its standard deviation from net to net
    length: float  # median of the lognormal length of a net's first straight piece, pixels
    length_sigma: float  # standard deviation of its logarithm
    gap: float  # mean free space between two nets on one line, in pitches
    fill: float  # share of the places at which a net is tried
    unevenness: float  # 0 fills evenly; 1 leaves large areas empty
    jog: float  # chance that a line's end turns by 1-3 pitches
    branch: float  # chance of a stub off the middle of a line
    via_pair: float  # chance that an end carries two vias on a pad
    via_single: float  # chance that it carries one
    via_radius: float  # pixels
    via_every: float  # mean distance of further vias along a line, in pitches; 0 for none
    pad: float  # width of the metal around vias, pixels
    bus: float = 0.0  # chance that a line is one of several of equal length
    power: float = 0.0  # chance that a line is 2-3 times wider
    least_gap: float = MIN_GAP_PX  # between two nets as drawn; masks keep 2 px less
    passes: int = 1  # how often nets are tried; each further time fills places that are still free


@dataclass(frozen=True)
class CanvasBox:
    """A rectangle of the canvas: left, top, width, height in pixels."""

    x: float
    y: float
    w: float
    h: float


def hy5syn(rng: Generator, height: int, width: int) -> Canvas:
    """Routing of one metal layer on a grid of 45.3 px; every figure is calibrated on real HY5SYN labels.

    A net's length, bends and pads included, has a median of 154-261 px and a 95 % quantile of 918-1,679 px in six
    frames, 4-14 % of the straight length lies across the preferred direction, and a 1024x1024 window holds 28-41 nets.
    """
    canvas = Canvas((height, width), corner_px=float(rng.uniform(7, 8)))
    fill = float(rng.uniform(0.6, 1.0))
    wiring = Wiring(
        pitch=45.3, width=21, width_sd=3.5, length=120, length_sigma=1.75, gap=2.6, fill=fill, unevenness=0.55,
        jog=0.22, branch=0.12, via_pair=0.46, via_single=0.1, via_radius=11.5, via_every=0, pad=35,
    )  # fmt: skip
    route(canvas, rng, CanvasBox(0, 0, width, height), wiring, vertical=False)
    canvas.lower = lower_layer(rng, height, width, wiring, vertical=True)
    canvas.facts = {"pitch_px": wiring.pitch, "fill": fill}
    return canvas


def miic(rng: Generator, height: int, width: int) -> Canvas:
    """Buses, dog-bones with double vias, power lines and empty areas; pitch 27-128 px, median 51, as in MIIC."""
    pitch = float(np.clip(51 * np.exp(rng.normal(0, 0.35)), 27, 128))
    vertical = bool(rng.random() < 0.5)
    canvas = Canvas((height, width), corner_px=float(rng.uniform(2, 0.12 * pitch)))
    wiring = Wiring(
        pitch=pitch, width=0.46 * pitch, width_sd=0.02 * pitch, length=7 * pitch, length_sigma=1.2, gap=1.6, fill=0.8,
        unevenness=0.5, jog=0.25, branch=0.05, via_pair=0.45, via_single=0.15, via_radius=0.19 * pitch, via_every=0,
        pad=0.56 * pitch, bus=0.25, power=0.06,
    )  # fmt: skip
    route(canvas, rng, CanvasBox(0, 0, width, height), wiring, vertical=vertical)
    canvas.lower = lower_layer(rng, height, width, wiring, vertical=not vertical)
    canvas.facts = {"pitch_px": pitch, "vertical": float(vertical)}
    return canvas


def lower_layer(rng: Generator, height: int, width: int, wiring: Wiring, *, vertical: bool) -> list[MetalBar]:
    """Route the layer below across the upper one, sparser and a little wider."""
    below = Canvas((height, width), corner_px=0)
    scale = float(rng.uniform(1.0, 1.5))
    sparse = replace(
        wiring, pitch=scale * wiring.pitch, width=1.1 * scale * wiring.width, width_sd=0, pad=wiring.pitch,
        length=3 * wiring.length, fill=0.6, via_pair=0, via_single=0, via_every=0, passes=1,
    )  # fmt: skip
    route(below, rng, CanvasBox(0, 0, width, height), sparse, vertical=vertical)
    return below.bars


class _Router:
    """Routes nets on the grid of a box, and marks the grid nodes (line, position) that they take."""

    def __init__(self, canvas: Canvas, rng: Generator, box: CanvasBox, wiring: Wiring, vertical: bool) -> None:
        self.canvas, self.rng, self.box, self.wiring, self.vertical = canvas, rng, box, wiring, vertical
        pitch = wiring.pitch
        across, along = (box.w, box.h) if vertical else (box.h, box.w)
        self.lines, self.nodes = max(int(across // pitch), 0), max(int(along // pitch), 0)
        # Both sides share the rest, so that boxes side by side keep their distance.
        self.offset = ((along - self.nodes * pitch) / 2, (across - self.lines * pitch) / 2)
        self.taken = np.zeros((self.lines, self.nodes), np.bool_)

    def free(self, line: int, node: int) -> bool:
        return 0 <= line < self.lines and 0 <= node < self.nodes and not self.taken[line, node]

    def take(self, start: tuple[int, int], step: tuple[int, int], limit: int) -> int:
        """Take up to ``limit`` free nodes in a row, beginning beside a node; return their number."""
        (line, node), count = start, 0
        while count < limit and self.free(line := line + step[0], node := node + step[1]):
            self.taken[line, node] = True
            count += 1
        return count

    def point(self, line: float, node: float) -> tuple[float, float]:
        """Return x and y of a node in pixels."""
        along = self.offset[0] + (node + 0.5) * self.wiring.pitch
        across = self.offset[1] + (line + 0.5) * self.wiring.pitch
        dx, dy = (across, along) if self.vertical else (along, across)
        return self.box.x + dx, self.box.y + dy

    def add_bar(
        self, net: int, start: tuple[float, float], end: tuple[float, float], width: float, extend: float
    ) -> None:
        self.canvas.bars.append(MetalBar(net, self.point(*start), self.point(*end), width, extend))

    def side(self) -> int:
        return 1 if self.rng.random() < 0.5 else -1

    def free_lines(self, line: int, span: tuple[int, int], limit: int) -> range:
        """Return up to ``limit`` neighbouring lines, from ``line`` on, that are free over the whole span."""
        count = 1
        while count < limit and line + count < self.lines and not self.taken[line + count, span[0] : span[1] + 1].any():
            count += 1
        return range(line, line + count)

    def fill(self) -> None:
        """Fill the box with nets."""
        rng, wiring = self.rng, self.wiring
        patches = _smooth(rng, self.lines, self.nodes, 8)
        chance = wiring.fill * (1 - wiring.unevenness * (1 + np.tanh(2 * patches)) / 2)
        for line in rng.permutation(self.lines).tolist():
            # Lines start before the box, so that its border cuts nets as a window of a larger layout would.
            node = -int(rng.integers(0, 12))
            while node < self.nodes:
                count = max(1, round(wiring.length * float(np.exp(rng.normal(0, wiring.length_sigma))) / wiring.pitch))
                first = max(node, 0)
                local = chance[line, min(first + count // 2, self.nodes - 1)]
                if first < node + count and rng.random() < local and self.free(line, first):
                    width = rng.normal(wiring.width, wiring.width_sd)
                    width = float(np.clip(width, 0.6 * wiring.width, wiring.pitch - wiring.least_gap))
                    ahead = np.flatnonzero(self.taken[line, first : node + count])
                    last = (first + int(ahead[0]) if ahead.size else min(node + count, self.nodes)) - 1
                    self.place(line, (first, last), width)
                node += count + int(rng.geometric(1 / wiring.gap))

    def place(self, line: int, span: tuple[int, int], width: float) -> None:
        """Lay a power line, a bus, or a line with its bends, branch and vias."""
        canvas, rng, wiring = self.canvas, self.rng, self.wiring
        first, last = span
        long = last - first >= 4
        if long and rng.random() < wiring.power and len(self.free_lines(line, span, 2)) == 2:
            self.taken[line : line + 2, first : last + 1] = True
            broad = min(float(rng.uniform(2, 3)) * width, width + wiring.pitch)
            self.add_bar(canvas.new_net(), (line + 0.5, first), (line + 0.5, last), broad, width / 2)
            return
        is_bus = long and rng.random() < wiring.bus
        for track in self.free_lines(line, span, int(rng.integers(3, 9))) if is_bus else [line]:
            self.taken[track, first : last + 1] = True
            net = canvas.new_net()
            pull = float(rng.uniform(0, 0.2)) * width
            self.add_bar(net, (track, first), (track, last), width, width / 2 - pull)
        if is_bus:
            return
        ends = ((first, -1), (last, 1))
        for node, step in ends if first < last else ends[:1]:
            tip, ahead = self.bend(net, (line, node), step, width)
            # A line of one node would be a dot, so it always ends in a pad.
            self.end_vias(net, tip, ahead, must=first == last)
        if last - first >= 2 and rng.random() < wiring.branch:
            node = int(rng.integers(first + 1, last))
            side = self.side()
            if self.take((line, node), (side, 0), 1):
                self.add_bar(net, (line, node), (line + side, node), width, 0)
        if wiring.via_every:
            for node in range(first, last + 1):
                if rng.random() < 1 / wiring.via_every:
                    canvas.vias.append(Via(net, self.point(line, node), wiring.via_radius))

    def bend(self, net: int, end: tuple[int, int], step: int, width: float) -> tuple[tuple[int, int], tuple[int, int]]:
        """Perhaps turn a line's end aside by 1-3 pitches and back; return the new end and its direction."""
        line, node = end
        if self.rng.random() >= self.wiring.jog:
            return end, (0, step)
        side = self.side()
        reach = self.take(end, (side, 0), int(self.rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15])))
        if not reach:
            return end, (0, step)
        corner = line + side * reach
        self.add_bar(net, end, (corner, node), width, width / 2)
        if self.rng.random() < 0.5:
            return (corner, node), (side, 0)
        on = self.take((corner, node), (0, step), int(self.rng.geometric(0.4)))
        if on:
            self.add_bar(net, (corner, node), (corner, node + step * on), width, width / 2)
        return (corner, node + step * on), (0, step)

    def end_vias(self, net: int, end: tuple[int, int], ahead: tuple[int, int], must: bool) -> None:
        """Perhaps end a line in a pad with one via or two, the second straight ahead or aside."""
        rng, wiring = self.rng, self.wiring
        line, node = end
        draw = rng.random() * (wiring.via_pair if must else 1)
        if draw >= wiring.via_pair + wiring.via_single:
            return
        pad = min(wiring.pad, wiring.pitch - wiring.least_gap)
        centres: list[tuple[float, float]] = [end]
        if draw < wiring.via_pair:
            aside = (ahead[1], ahead[0]) if rng.random() < 0.5 else (-ahead[1], -ahead[0])
            for step in (ahead, aside) if rng.random() < 0.5 else (aside, ahead):
                if self.take(end, step, 1):
                    # The two vias of a HY5SYN pair lie 33-36 px apart on a pitch of 45.3 px.
                    centres.append((line + 0.76 * step[0], node + 0.76 * step[1]))
                    break
        self.add_bar(net, centres[0], centres[-1], pad, pad / 2)
        self.canvas.vias += [Via(net, self.point(*centre), wiring.via_radius) for centre in centres]


def route(canvas: Canvas, rng: Generator, box: CanvasBox, wiring: Wiring, *, vertical: bool) -> None:
    """Fill a box with nets on a grid; each node belongs to at most one net, which keeps nets apart."""
    router = _Router(canvas, rng, box, wiring, vertical)
    for _ in range(wiring.passes if router.lines and router.nodes else 0):
        router.fill()


def _smooth(rng: Generator, rows: int, columns: int, scale: int) -> NDArray[np.float64]:
    """Return noise of unit variance, bilinear between random values every ``scale`` nodes."""
    coarse = rng.standard_normal((rows // scale + 2, columns // scale + 2))
    y, x = np.arange(rows) / scale + rng.random(), np.arange(columns) / scale + rng.random()
    y, x = np.minimum(y, coarse.shape[0] - 1.001), np.minimum(x, coarse.shape[1] - 1.001)
    top, left = y.astype(int), x.astype(int)
    fy, fx = (y - top)[:, None], (x - left)[None]
    upper = coarse[np.ix_(top, left)] * (1 - fx) + coarse[np.ix_(top, left + 1)] * fx
    lower = coarse[np.ix_(top + 1, left)] * (1 - fx) + coarse[np.ix_(top + 1, left + 1)] * fx
    blend: NDArray[np.float64] = upper * (1 - fy) + lower * fy
    return blend
