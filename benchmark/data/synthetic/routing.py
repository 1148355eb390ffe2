"""Routed layers as in scanning electron micrographs: nets laid out on a grid, each node taken by one net only."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmark.data.synthetic.layout import MIN_GAP_PX, Canvas, MetalBar, Via

Generator = np.random.Generator


@dataclass(frozen=True)
class Wiring:
    """How nets are routed on a grid.

    Attributes:
        pitch: distance of grid lines, pixels.
        width: mean track width, pixels.
        width_sd: its standard deviation from net to net.
        length: median of the lognormal length of a net's first straight piece, pixels.
        length_sigma: standard deviation of its logarithm.
        gap: mean free space between two nets on one line, in pitches.
        fill: share of the places at which a net is tried.
        unevenness: 0 fills evenly; 1 leaves large areas empty.
        jog: chance that a line's end turns by 1-3 pitches.
        branch: chance of a stub off the middle of a line.
        via_pair: chance that an end carries two vias on a pad.
        via_single: chance that it carries one.
        via_radius: pixels.
        via_every: mean distance of further vias along a line, in pitches; 0 for none.
        pad: width of the metal around vias, pixels.
        bus: chance that a line is one of several of equal length.
        power: chance that a line is 2-3 times wider.
    """

    pitch: float
    width: float
    width_sd: float
    length: float
    length_sigma: float
    gap: float
    fill: float
    unevenness: float
    jog: float
    branch: float
    via_pair: float
    via_single: float
    via_radius: float
    via_every: float
    pad: float
    bus: float = 0.0
    power: float = 0.0


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
    layout = Canvas((height, width), corner_px=float(rng.uniform(7, 8)))
    fill = float(rng.uniform(0.6, 1.0))
    wiring = Wiring(
        pitch=45.3, width=21, width_sd=3.5, length=120, length_sigma=1.75, gap=2.6, fill=fill, unevenness=0.55,
        jog=0.22, branch=0.12, via_pair=0.46, via_single=0.1, via_radius=11.5, via_every=0, pad=35,
    )  # fmt: skip
    route(layout, rng, CanvasBox(0, 0, width, height), wiring, vertical=False)
    layout.lower = lower_layer(rng, height, width, wiring, vertical=True)
    layout.facts = {"pitch_px": wiring.pitch, "fill": fill}
    return layout


def miic(rng: Generator, height: int, width: int) -> Canvas:
    """Buses, dog-bones with double vias, power lines and empty areas; pitch 27-128 px, median 51, as in MIIC."""
    pitch = float(np.clip(51 * np.exp(rng.normal(0, 0.35)), 27, 128))
    vertical = bool(rng.random() < 0.5)
    layout = Canvas((height, width), corner_px=float(rng.uniform(2, 0.12 * pitch)))
    wiring = Wiring(
        pitch=pitch, width=0.46 * pitch, width_sd=0.02 * pitch, length=7 * pitch, length_sigma=1.2, gap=1.6, fill=0.8,
        unevenness=0.5, jog=0.25, branch=0.05, via_pair=0.45, via_single=0.15, via_radius=0.19 * pitch, via_every=0,
        pad=0.56 * pitch, bus=0.25, power=0.06,
    )  # fmt: skip
    route(layout, rng, CanvasBox(0, 0, width, height), wiring, vertical=vertical)
    layout.lower = lower_layer(rng, height, width, wiring, vertical=not vertical)
    layout.facts = {"pitch_px": pitch, "vertical": float(vertical)}
    return layout


def lower_layer(rng: Generator, height: int, width: int, wiring: Wiring, *, vertical: bool) -> list[MetalBar]:
    """Route the layer below across the upper one, sparser and a little wider."""
    below = Canvas((height, width), corner_px=0)
    scale = float(rng.uniform(1.0, 1.5))
    sparse = replace(
        wiring, pitch=scale * wiring.pitch, width=1.1 * scale * wiring.width, width_sd=0, pad=wiring.pitch,
        length=3 * wiring.length, fill=0.6, via_pair=0, via_single=0, via_every=0,
    )  # fmt: skip
    route(below, rng, CanvasBox(0, 0, width, height), sparse, vertical=vertical)
    return below.bars


class _Grid:
    """Which grid nodes of a box are taken, and the way from a node (line, position) to pixels."""

    def __init__(self, box: CanvasBox, pitch: float, vertical: bool) -> None:
        self.pitch, self.vertical, self.box = pitch, vertical, box
        across, along = (box.w, box.h) if vertical else (box.h, box.w)
        self.lines, self.nodes = max(int(across // pitch), 0), max(int(along // pitch), 0)
        # What is left over is shared by both sides, so that boxes side by side keep their distance.
        self.offset = ((along - self.nodes * pitch) / 2, (across - self.lines * pitch) / 2)
        self.taken = np.zeros((self.lines, self.nodes), np.bool_)

    def free(self, line: int, node: int) -> bool:
        return 0 <= line < self.lines and 0 <= node < self.nodes and not self.taken[line, node]

    def free_from(self, line: int, node: int, step: int) -> int:
        """Count the free nodes along a line, from a node on in one direction."""
        row = self.taken[line, node:] if step > 0 else self.taken[line, node::-1]
        hits = np.flatnonzero(row)
        return int(hits[0]) if hits.size else row.size

    def point(self, line: float, node: float) -> tuple[float, float]:
        along = self.offset[0] + (node + 0.5) * self.pitch
        across = self.offset[1] + (line + 0.5) * self.pitch
        dx, dy = (across, along) if self.vertical else (along, across)
        return self.box.x + dx, self.box.y + dy


def route(layout: Canvas, rng: Generator, box: CanvasBox, wiring: Wiring, *, vertical: bool) -> None:
    """Fill a box with nets on a grid; a node belongs to one net only, which is what keeps nets apart."""
    grid = _Grid(box, wiring.pitch, vertical)
    if grid.lines < 1 or grid.nodes < 1:
        return
    widest = wiring.pitch - MIN_GAP_PX
    patches = _smooth(rng, grid.lines, grid.nodes, 8)
    chance = wiring.fill * (1 - wiring.unevenness * (1 + np.tanh(2 * patches)) / 2)
    for line in rng.permutation(grid.lines).tolist():
        # Lines start before the box, so that its border cuts nets as a window of a larger layout would.
        node = -int(rng.integers(0, 12))
        while node < grid.nodes:
            count = max(1, round(wiring.length * float(np.exp(rng.normal(0, wiring.length_sigma))) / wiring.pitch))
            first = max(node, 0)
            local = chance[line, min(first + count // 2, grid.nodes - 1)]
            if first < node + count and rng.random() < local and grid.free(line, first):
                width = float(np.clip(rng.normal(wiring.width, wiring.width_sd), 0.6 * wiring.width, widest))
                last = first + min(node + count - first, grid.free_from(line, first, 1)) - 1
                _place(layout, rng, grid, wiring, line, (first, last), width)
            node += count + int(rng.geometric(1 / wiring.gap))


def _place(
    layout: Canvas, rng: Generator, grid: _Grid, wiring: Wiring, line: int, span: tuple[int, int], width: float
) -> None:
    """Lay a line, and beside it what may come with one: the rest of a bus, the width of a power line, bends, vias."""
    first, last = span
    long = last - first >= 4
    if long and rng.random() < wiring.power and len(_free_lines(grid, line, span, 2)) == 2:
        grid.taken[line : line + 2, first : last + 1] = True
        broad = min(float(rng.uniform(2, 3)) * width, width + wiring.pitch)
        start, end = (line + 0.5, first), (line + 0.5, last)
        layout.bars.append(_bar(grid, layout.new_net(), start, end, broad, width / 2))
        return
    if long and rng.random() < wiring.bus:
        for each in _free_lines(grid, line, span, int(rng.integers(3, 9))):
            grid.taken[each, first : last + 1] = True
            pull = float(rng.uniform(0, 0.2)) * width
            layout.bars.append(_bar(grid, layout.new_net(), (each, first), (each, last), width, width / 2 - pull))
        return

    grid.taken[line, first : last + 1] = True
    net = layout.new_net()
    pull = float(rng.uniform(0, 0.2)) * width
    layout.bars.append(_bar(grid, net, (line, first), (line, last), width, width / 2 - pull))
    ends = ((first, -1), (last, 1))
    for node, step in ends if first < last else ends[:1]:
        tip, ahead = _bend(layout, rng, grid, wiring, net, (line, node), step, width)
        # A line of one node would be a dot; it ends in a pad for certain.
        _end_vias(layout, rng, grid, wiring, net, tip, ahead, must=first == last)
    if last - first >= 2 and rng.random() < wiring.branch:
        node = int(rng.integers(first + 1, last))
        step = 1 if rng.random() < 0.5 else -1
        if grid.free(line + step, node):
            grid.taken[line + step, node] = True
            layout.bars.append(_bar(grid, net, (line, node), (line + step, node), width, 0))
    if wiring.via_every:
        for node in range(first, last + 1):
            if rng.random() < 1 / wiring.via_every:
                layout.vias.append(Via(net, grid.point(line, node), wiring.via_radius))


def _bar(
    grid: _Grid, net: int, start: tuple[float, float], end: tuple[float, float], width: float, extend: float
) -> MetalBar:
    return MetalBar(net, grid.point(*start), grid.point(*end), width, extend)


def _free_lines(grid: _Grid, line: int, span: tuple[int, int], wanted: int) -> range:
    """Return up to ``wanted`` neighbouring lines, from ``line`` on, that are free over the whole span."""
    count = 1
    while count < wanted and line + count < grid.lines and not grid.taken[line + count, span[0] : span[1] + 1].any():
        count += 1
    return range(line, line + count)


def _bend(
    layout: Canvas,
    rng: Generator,
    grid: _Grid,
    wiring: Wiring,
    net: int,
    end: tuple[int, int],
    step: int,
    width: float,
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Perhaps turn a line's end aside by 1-3 pitches and on again; return the new end and its direction."""
    line, node = end
    if rng.random() >= wiring.jog:
        return end, (0, step)
    side = 1 if rng.random() < 0.5 else -1
    wanted = int(rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15]))
    reach = 0
    while reach < wanted and grid.free(line + side * (reach + 1), node):
        reach += 1
        grid.taken[line + side * reach, node] = True
    if not reach:
        return end, (0, step)
    corner = line + side * reach
    layout.bars.append(_bar(grid, net, (line, node), (corner, node), width, width / 2))
    if rng.random() < 0.5:
        return (corner, node), (side, 0)
    on = 0
    wanted = int(rng.geometric(0.4))
    while on < wanted and grid.free(corner, node + step * (on + 1)):
        on += 1
        grid.taken[corner, node + step * on] = True
    if on:
        layout.bars.append(_bar(grid, net, (corner, node), (corner, node + step * on), width, width / 2))
    return (corner, node + step * on), (0, step)


def _end_vias(
    layout: Canvas,
    rng: Generator,
    grid: _Grid,
    wiring: Wiring,
    net: int,
    end: tuple[int, int],
    ahead: tuple[int, int],
    must: bool,
) -> None:
    """Perhaps end a line in a pad with one via or two, the second straight ahead or aside."""
    line, node = end
    draw = rng.random() * (wiring.via_pair if must else 1)
    if draw >= wiring.via_pair + wiring.via_single:
        return
    pad = min(wiring.pad, wiring.pitch - MIN_GAP_PX)
    centres: list[tuple[float, float]] = [end]
    if draw < wiring.via_pair:
        aside = (ahead[1], ahead[0]) if rng.random() < 0.5 else (-ahead[1], -ahead[0])
        for step in (ahead, aside) if rng.random() < 0.5 else (aside, ahead):
            if grid.free(line + step[0], node + step[1]):
                grid.taken[line + step[0], node + step[1]] = True
                # The two vias of a HY5SYN pair lie 33-36 px apart on a pitch of 45.3 px.
                centres.append((line + 0.76 * step[0], node + 0.76 * step[1]))
                break
    layout.bars.append(_bar(grid, net, centres[0], centres[-1], pad, pad / 2))
    layout.vias += [Via(net, grid.point(*centre), wiring.via_radius) for centre in centres]


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
