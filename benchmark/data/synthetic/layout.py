"""Vector layouts of the four families: bars and vias with net numbers, no two nets nearer than the minimum gap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Generator = np.random.Generator

# Two nets are drawn at least this far apart. PIL's polygons grow by up to 1 px a side, which leaves the 5 px that the
# masks promise.
MIN_GAP_PX = 7.0


@dataclass(frozen=True)
class Bar:
    """A straight piece of metal: a rectangle with rounded corners around the line from one point to another.

    Attributes:
        net: number of the net, from 1.
        start: x, y in pixels.
        end: x, y in pixels; equal to ``start`` for a pad.
        width: across the line, pixels.
        extend: how far the bar goes on beyond both points, pixels.
    """

    net: int
    start: tuple[float, float]
    end: tuple[float, float]
    width: float
    extend: float


@dataclass(frozen=True)
class Via:
    """A via: its net, its centre (x, y) and its radius in pixels."""

    net: int
    centre: tuple[float, float]
    radius: float


@dataclass
class Layout:
    """Bars and vias on a canvas that reaches beyond the window to be shown.

    Attributes:
        size: height and width of the canvas, pixels.
        corner_px: radius that rounds the corners.
        bars: the layer that is labelled.
        vias: on bars.
        lower: bars of the layer below, which shows through and is labelled nowhere.
        decoration: isolated shapes that look like tracks and are labelled nowhere.
        facts: what was drawn from the seed, for the manifest.
        nets: how many nets there are.
    """

    size: tuple[int, int]
    corner_px: float
    bars: list[Bar] = field(default_factory=list)
    vias: list[Via] = field(default_factory=list)
    lower: list[Bar] = field(default_factory=list)
    decoration: list[Bar] = field(default_factory=list)
    facts: dict[str, float] = field(default_factory=dict)
    nets: int = 0

    def new_net(self) -> int:
        """Return the number of the next net."""
        self.nets += 1
        return self.nets


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
class Box:
    """A rectangle of the canvas: left, top, width, height in pixels."""

    x: float
    y: float
    w: float
    h: float


def hy5syn(rng: Generator, height: int, width: int) -> Layout:
    """Routing of one metal layer on a grid of 45.3 px; every figure is calibrated on real HY5SYN labels.

    A net's length, bends and pads included, has a median of 154-261 px and a 95 % quantile of 918-1,679 px in six
    frames, 4-14 % of the straight length lies across the preferred direction, and a 1024x1024 window holds 28-41 nets.
    """
    layout = Layout((height, width), corner_px=float(rng.uniform(7, 8)))
    fill = float(rng.uniform(0.5, 1.0))
    wiring = Wiring(
        pitch=45.3, width=20, width_sd=3.5, length=120, length_sigma=1.75, gap=2.6, fill=fill, unevenness=0.55,
        jog=0.22, branch=0.12, via_pair=0.46, via_single=0.1, via_radius=11.5, via_every=0, pad=35,
    )  # fmt: skip
    _route(layout, rng, Box(0, 0, width, height), wiring, vertical=False)
    layout.lower = _lower_layer(rng, height, width, wiring, vertical=True)
    layout.facts = {"pitch_px": wiring.pitch, "fill": fill}
    return layout


def miic(rng: Generator, height: int, width: int) -> Layout:
    """Buses, dog-bones with double vias, power lines and empty areas; pitch 27-128 px, median 51, as in MIIC."""
    pitch = float(np.clip(51 * np.exp(rng.normal(0, 0.35)), 27, 128))
    vertical = bool(rng.random() < 0.5)
    layout = Layout((height, width), corner_px=float(rng.uniform(2, 0.12 * pitch)))
    wiring = Wiring(
        pitch=pitch, width=0.46 * pitch, width_sd=0.02 * pitch, length=7 * pitch, length_sigma=1.2, gap=1.6, fill=0.8,
        unevenness=0.5, jog=0.25, branch=0.05, via_pair=0.45, via_single=0.15, via_radius=0.19 * pitch, via_every=0,
        pad=0.56 * pitch, bus=0.25, power=0.06,
    )  # fmt: skip
    _route(layout, rng, Box(0, 0, width, height), wiring, vertical=vertical)
    layout.lower = _lower_layer(rng, height, width, wiring, vertical=not vertical)
    layout.facts = {"pitch_px": pitch, "vertical": float(vertical)}
    return layout


def omc(rng: Generator, height: int, width: int) -> Layout:
    """Blocks of different material side by side, as an optical microscope shows a whole chip."""
    return _blocks(rng, height, width, vias_everywhere=False)


def omv(rng: Generator, height: int, width: int) -> Layout:
    """The material of :func:`omc` with vias along every track, which are the target."""
    return _blocks(rng, height, width, vias_everywhere=True)


FAMILIES: dict[str, Callable[[Generator, int, int], Layout]] = {"hy5syn": hy5syn, "miic": miic, "omc": omc, "omv": omv}


def _lower_layer(rng: Generator, height: int, width: int, wiring: Wiring, *, vertical: bool) -> list[Bar]:
    """Route the layer below across the upper one, sparser and a little wider."""
    below = Layout((height, width), corner_px=0)
    scale = float(rng.uniform(1.0, 1.5))
    sparse = replace(
        wiring, pitch=scale * wiring.pitch, width=1.1 * scale * wiring.width, width_sd=0, pad=wiring.pitch,
        length=3 * wiring.length, fill=0.6, via_pair=0, via_single=0, via_every=0,
    )  # fmt: skip
    _route(below, rng, Box(0, 0, width, height), sparse, vertical=vertical)
    return below.bars


class _Grid:
    """Which grid nodes of a box are taken, and the way from a node (line, position) to pixels."""

    def __init__(self, box: Box, pitch: float, vertical: bool) -> None:
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


def _route(layout: Layout, rng: Generator, box: Box, wiring: Wiring, *, vertical: bool) -> None:
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
    layout: Layout, rng: Generator, grid: _Grid, wiring: Wiring, line: int, span: tuple[int, int], width: float
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
) -> Bar:
    return Bar(net, grid.point(*start), grid.point(*end), width, extend)


def _free_lines(grid: _Grid, line: int, span: tuple[int, int], wanted: int) -> range:
    """Return up to ``wanted`` neighbouring lines, from ``line`` on, that are free over the whole span."""
    count = 1
    while count < wanted and line + count < grid.lines and not grid.taken[line + count, span[0] : span[1] + 1].any():
        count += 1
    return range(line, line + count)


def _bend(
    layout: Layout, rng: Generator, grid: _Grid, wiring: Wiring, net: int, end: tuple[int, int], step: int, width: float
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
    layout: Layout,
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


# --- the blocks of an optical image ---------------------------------------------------------------------------------


def _blocks(rng: Generator, height: int, width: int, *, vias_everywhere: bool) -> Layout:
    """Cut the canvas into boxes with bus channels between them and fill each with one material."""
    pitch = float(rng.uniform(28, 42))
    layout = Layout((height, width), corner_px=float(rng.uniform(2, 5)))
    wiring = Wiring(
        pitch=pitch, width=float(rng.uniform(0.46, 0.58)) * pitch, width_sd=0.03 * pitch, length=5 * pitch,
        length_sigma=1.1, gap=1.5, fill=0.9, unevenness=0.35, jog=0.4, branch=0.15, via_pair=0, via_single=0.35,
        via_radius=0.17 * pitch, via_every=4 if vias_everywhere else 0, pad=0.66 * pitch, bus=0.2, power=0.05,
    )  # fmt: skip
    materials = [_wires, _wires, _diagonal_bus, _cell_rows, _memory, _pads, _wide_metal, _dummy_fill]
    # Pads, plates and dummy fill carry no via; where vias are the target they are rarer.
    weights = np.array([3, 3, 1.5, 3, 2, 0.3, 0.5, 0.2] if vias_everywhere else [3, 3, 1.5, 3, 2, 1, 1, 0.8])
    counts = dict.fromkeys((material.__name__.strip("_") for material in materials), 0)
    for box, is_channel in _cut(rng, Box(0, 0, width, height), pitch):
        material = _channel if is_channel else materials[rng.choice(len(materials), p=weights / weights.sum())]
        if not is_channel:
            counts[material.__name__.strip("_")] += 1
        material(layout, rng, box, wiring)
    layout.lower = _lower_layer(rng, height, width, wiring, vertical=bool(rng.random() < 0.5))
    layout.decoration = _decoration(rng, height, width)
    layout.facts = {"pitch_px": pitch, **{f"blocks_{name}": float(count) for name, count in counts.items()}}
    return layout


def _cut(rng: Generator, box: Box, pitch: float) -> list[tuple[Box, bool]]:
    """Cut a box in two, again and again, down to 8-16 pitches; between two parts there may be a channel."""
    longer = max(box.w, box.h)
    if longer < float(rng.uniform(8, 16)) * pitch:
        return [(box, False)]
    channel = float(rng.integers(2, 5)) * pitch if rng.random() < 0.4 else 0.0
    at = float(rng.uniform(0.35, 0.65)) * (longer - channel)
    if box.w >= box.h:
        parts = replace(box, w=at), replace(box, x=box.x + at, w=channel)
        rest = replace(box, x=box.x + at + channel, w=box.w - at - channel)
    else:
        parts = replace(box, h=at), replace(box, y=box.y + at, h=channel)
        rest = replace(box, y=box.y + at + channel, h=box.h - at - channel)
    middle = [(parts[1], True)] if channel else []
    return _cut(rng, parts[0], pitch) + middle + _cut(rng, rest, pitch)


def _wires(layout: Layout, rng: Generator, box: Box, wiring: Wiring) -> None:
    """Routing, in either direction."""
    _route(layout, rng, box, wiring, vertical=bool(rng.random() < 0.5))


def _channel(layout: Layout, rng: Generator, box: Box, wiring: Wiring) -> None:
    """A bus along a channel between two blocks."""
    bus = replace(wiring, length=40 * wiring.pitch, length_sigma=0.8, jog=0, branch=0, unevenness=0, bus=0)
    _route(layout, rng, box, bus, vertical=box.h > box.w)


def _diagonal_bus(layout: Layout, rng: Generator, box: Box, wiring: Wiring) -> None:
    """Parallel lines that change level together at 45 degrees."""
    inner = _inset(box, wiring.pitch / 2)
    # At 45 degrees lines lie closer by the square root of two, and a bend juts out by 0.2 widths.
    step = (wiring.width + MIN_GAP_PX) * np.sqrt(2) + 0.4 * wiring.width
    drop = min(float(rng.uniform(0.3, 0.6)) * inner.h, 0.6 * inner.w)
    bend = inner.x + float(rng.uniform(0.1, 0.9)) * (inner.w - drop)
    down = bool(rng.random() < 0.5)
    for y in np.arange(inner.y + wiring.width / 2, inner.y + inner.h - drop - wiring.width / 2, step).tolist():
        levels = (y, y + drop) if down else (y + drop, y)
        points = [(inner.x, levels[0]), (bend, levels[0]), (bend + drop, levels[1]), (inner.x + inner.w, levels[1])]
        net = layout.new_net()
        for start, end in pairwise(points):
            layout.bars.append(Bar(net, start, end, wiring.width, wiring.width * 0.2))
        if rng.random() < wiring.via_single:
            layout.vias.append(Via(net, points[0], wiring.via_radius))


def _cell_rows(layout: Layout, rng: Generator, box: Box, wiring: Wiring) -> None:
    """Rows of cells: supply rails with rungs, and between them short pieces that touch neither rail."""
    inner = _inset(box, wiring.pitch / 2)
    rail, pitch = 1.3 * wiring.width, wiring.pitch
    row = float(rng.integers(4, 6)) * pitch
    for y in np.arange(inner.y + rail / 2, inner.y + inner.h - rail / 2, row).tolist():
        net = layout.new_net()
        layout.bars.append(Bar(net, (inner.x, y), (inner.x + inner.w, y), rail, 0))
        has_next = y + row < inner.y + inner.h - rail / 2
        for x in np.arange(inner.x + pitch, inner.x + inner.w - pitch / 2, pitch).tolist() if has_next else []:
            draw = rng.random()
            top, bottom = y + rail / 2 + MIN_GAP_PX, y + row - rail / 2 - MIN_GAP_PX
            if draw < 0.3:
                reach = float(rng.uniform(0.25, 0.5)) * row
                layout.bars.append(Bar(net, (x, y), (x, y + reach), wiring.width, 0))
                if rng.random() < 0.5:
                    layout.vias.append(Via(net, (x, y + reach - wiring.width / 2), wiring.via_radius))
            elif draw < 0.8:
                low = top + float(rng.uniform(0, 0.3)) * (bottom - top)
                high = bottom - float(rng.uniform(0, 0.3)) * (bottom - top)
                own = layout.new_net()
                layout.bars.append(Bar(own, (x, low), (x, high), wiring.width, 0))
                layout.vias.append(Via(own, (x, (low + high) / 2), wiring.via_radius))


def _memory(layout: Layout, rng: Generator, box: Box, wiring: Wiring) -> None:
    """An array of one cell: bit lines, and between two of them a dog-bone with two vias."""
    inner = _inset(box, wiring.pitch / 2)
    line, bone = 0.9 * wiring.width, 1.1 * wiring.width
    period_x = line + bone + 2 * MIN_GAP_PX + 2
    period_y = float(rng.uniform(1.6, 2.4)) * wiring.pitch
    for x in np.arange(inner.x + line / 2, inner.x + inner.w - line / 2, period_x).tolist():
        layout.bars.append(Bar(layout.new_net(), (x, inner.y), (x, inner.y + inner.h), line, 0))
        middle = x + period_x / 2
        if middle + bone / 2 + MIN_GAP_PX > inner.x + inner.w:
            continue
        for y in np.arange(inner.y + bone, inner.y + inner.h - period_y, period_y).tolist():
            net, end = layout.new_net(), y + period_y - bone - MIN_GAP_PX
            layout.bars.append(Bar(net, (middle, y), (middle, end), 0.8 * bone, 0.4 * bone))
            layout.vias += [Via(net, (middle, at), wiring.via_radius) for at in (y, end)][: 2 if end - y > bone else 1]


def _pads(layout: Layout, rng: Generator, box: Box, wiring: Wiring) -> None:
    """Square pads, each with a lead."""
    side = float(rng.uniform(2.5, 4)) * wiring.pitch
    step = side + float(rng.uniform(1, 2)) * wiring.pitch
    inner = _inset(box, wiring.pitch / 2)
    for y in np.arange(inner.y + side / 2, inner.y + inner.h - side / 2, step).tolist():
        for x in np.arange(inner.x + side / 2, inner.x + inner.w - side / 2, step).tolist():
            net = layout.new_net()
            layout.bars.append(Bar(net, (x, y), (x, y), side, side / 2))
            lead = (step - MIN_GAP_PX) - side / 2
            if x + lead < inner.x + inner.w and rng.random() < 0.7:
                layout.bars.append(Bar(net, (x, y), (x + lead, y), wiring.width, 0))


def _wide_metal(layout: Layout, rng: Generator, box: Box, wiring: Wiring) -> None:
    """One plate with stress-relief slots."""
    inner = _inset(box, wiring.pitch / 2)
    net, pitch = layout.new_net(), wiring.pitch
    slot = wiring.pitch - 0.4 * wiring.width
    wall = float(rng.uniform(1.5, 2.5)) * pitch
    xs = np.arange(inner.x + wall / 2, inner.x + inner.w - wall / 2, wall + slot).tolist()
    if not xs:
        return
    for x in xs:
        layout.bars.append(Bar(net, (x, inner.y), (x, inner.y + inner.h), wall, 0))
    for y in np.arange(inner.y + pitch, inner.y + inner.h - pitch, float(rng.uniform(4, 7)) * pitch).tolist():
        layout.bars.append(Bar(net, (xs[0], y), (xs[-1], y), 1.2 * pitch, 0))
    layout.bars.append(Bar(net, (xs[0], inner.y + pitch / 2), (xs[-1], inner.y + pitch / 2), pitch, 0))


def _dummy_fill(layout: Layout, rng: Generator, box: Box, wiring: Wiring) -> None:
    """Floating squares that even out the polishing."""
    side = float(rng.uniform(0.9, 1.5)) * wiring.pitch
    step = side + float(rng.uniform(0.6, 1.0)) * wiring.pitch
    inner = _inset(box, wiring.pitch / 2)
    for i, y in enumerate(np.arange(inner.y + side / 2, inner.y + inner.h - side / 2, step).tolist()):
        shift = (i % 2) * step / 3
        for x in np.arange(inner.x + side / 2 + shift, inner.x + inner.w - side / 2, step).tolist():
            layout.bars.append(Bar(layout.new_net(), (x, y), (x, y), side, side / 2))


def _decoration(rng: Generator, height: int, width: int) -> list[Bar]:
    """Isolated shapes at any angle, in clumps: diffusion, markers and remains below the tracks.

    There is a clump in 240x240 px, so that a frame always has some and a small window often has none.
    """
    shapes = []
    for _ in range(max(1, round(height * width / 240**2))):
        centre = rng.uniform(0, width), rng.uniform(0, height)
        for _ in range(int(rng.integers(4, 10))):
            x, y = (float(at + rng.normal(0, 45)) for at in centre)
            angle, length, broad = float(rng.uniform(0, np.pi)), float(rng.uniform(0, 90)), float(rng.uniform(14, 40))
            end = (x + length * np.cos(angle), y + length * np.sin(angle))
            shapes.append(Bar(1, (x, y), end, broad, broad / 2))
    return shapes


def _inset(box: Box, by: float) -> Box:
    return Box(box.x + by, box.y + by, max(box.w - 2 * by, 0), max(box.h - 2 * by, 0))
