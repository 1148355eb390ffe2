"""Draws whole chips: blocks of different material side by side."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.random import Generator

from benchmark.data.synthetic.layout import Canvas, MetalBar, Via
from benchmark.data.synthetic.routing import CanvasBox, Wiring, lower_layer, route


def omc(rng: Generator, height: int, width: int, *, vias_everywhere: bool = False) -> Canvas:
    """Cut the canvas into boxes with bus channels between them, and fill each box with one material."""
    pitch = float(rng.uniform(28, 42))
    canvas = Canvas((height, width), corner_px=float(rng.uniform(2, 5)))
    wiring = Wiring(
        pitch=pitch, width=float(rng.uniform(0.46, 0.58)) * pitch, width_sd=0.03 * pitch, length=5 * pitch,
        length_sigma=1.1, gap=1.5, fill=0.9, unevenness=0.35, jog=0.4, branch=0.15, via_pair=0, via_single=0.35,
        via_radius=0.17 * pitch, via_every=4 if vias_everywhere else 0, pad=0.66 * pitch, bus=0.2, power=0.05,
    )  # fmt: skip
    # Pads, plates and dummy fill carry no via; where vias are the target they are rarer.
    _fill(canvas, rng, wiring, (3, 3, 1.5, 3, 2, 0.3, 0.5, 0.2) if vias_everywhere else (3, 3, 1.5, 3, 2, 1, 1, 0.8))
    canvas.decoration = _decoration(rng, height, width)
    return canvas


def omv(rng: Generator, height: int, width: int) -> Canvas:
    """The material of :func:`omc` with vias along every track, which are the target."""
    return omc(rng, height, width, vias_everywhere=True)


def one_metal(rng: Generator, height: int, width: int) -> Canvas:
    """A die with one layer of metal, as dense as T84C00 and 54HC32: pitch 11-30 px, regions of diffusion below."""
    pitch, least_gap = float(np.exp(rng.uniform(np.log(11), np.log(30)))), 5.0
    canvas = Canvas((height, width), corner_px=float(rng.uniform(1.5, 4)))
    wiring = Wiring(
        pitch=pitch, width=min(float(rng.uniform(0.55, 0.72)) * pitch, pitch - least_gap), width_sd=0.08 * pitch,
        length=5 * pitch, length_sigma=1.1, gap=1.0, fill=1.0, unevenness=0, jog=0.8, branch=0.4, via_pair=0.05,
        via_single=0.5, via_radius=float(rng.uniform(0.2, 0.3)) * pitch, via_every=4, pad=0.72 * pitch, bus=0.2,
        power=0.25, least_gap=least_gap, passes=3,
    )  # fmt: skip
    _fill(canvas, rng, wiring, (3, 3, 1, 2, 2, 0.5, 2.5, 0.1))
    for _ in range(rng.poisson(height * width / 120**2)):
        x, y = float(rng.uniform(0, width)), float(rng.uniform(0, height))
        broad, length = float(rng.uniform(20, 110)), float(rng.uniform(10, 160))
        end = (x + length, y) if rng.random() < 0.5 else (x, y + length)
        canvas.decoration.append(MetalBar(1, (x, y), end, broad, 0))
    return canvas


def _fill(canvas: Canvas, rng: Generator, wiring: Wiring, weights: tuple[float, ...]) -> None:
    """Fill the canvas box by box, each with one material by its weight; then route the layer below."""
    (height, width), counts = canvas.size, dict.fromkeys((material.__name__.strip("_") for material in MATERIALS), 0)
    share = np.array(weights) / sum(weights)
    for box, is_channel in _cut(rng, CanvasBox(0, 0, width, height), wiring.pitch):
        if is_channel:
            _channel(canvas, rng, box, wiring)
            continue
        material = MATERIALS[rng.choice(len(MATERIALS), p=share)]
        counts[material.__name__.strip("_")] += 1
        material(canvas, rng, box if material is _wires else _inset(box, wiring.pitch / 2), wiring)
    canvas.lower = lower_layer(rng, height, width, wiring, vertical=bool(rng.random() < 0.5))
    canvas.facts = {"pitch_px": wiring.pitch, **{f"blocks_{name}": float(count) for name, count in counts.items()}}


def _cut(rng: Generator, box: CanvasBox, pitch: float) -> list[tuple[CanvasBox, bool]]:
    """Cut a box in two, again and again, down to 8-16 pitches; between two parts there may be a channel."""
    longer = max(box.w, box.h)
    if longer < float(rng.uniform(8, 16)) * pitch:
        return [(box, False)]
    channel = float(rng.integers(2, 5)) * pitch if rng.random() < 0.4 else 0.0
    at = float(rng.uniform(0.35, 0.65)) * (longer - channel)
    size, corner = ("w", "x") if box.w >= box.h else ("h", "y")
    edge = getattr(box, corner)
    first = replace(box, **{size: at})
    middle = [(replace(box, **{corner: edge + at, size: channel}), True)] if channel else []
    rest = replace(box, **{corner: edge + at + channel, size: longer - at - channel})
    return _cut(rng, first, pitch) + middle + _cut(rng, rest, pitch)


def _wires(canvas: Canvas, rng: Generator, box: CanvasBox, wiring: Wiring) -> None:
    """Routing, in either direction."""
    route(canvas, rng, box, wiring, vertical=bool(rng.random() < 0.5))


def _channel(canvas: Canvas, rng: Generator, box: CanvasBox, wiring: Wiring) -> None:
    """A bus along a channel between two blocks."""
    bus = replace(wiring, length=40 * wiring.pitch, length_sigma=0.8, jog=0, branch=0, unevenness=0, bus=0)
    route(canvas, rng, box, bus, vertical=box.h > box.w)


def _diagonal_bus(canvas: Canvas, rng: Generator, box: CanvasBox, wiring: Wiring) -> None:
    """Parallel lines that change level together at 45 degrees."""
    # At 45 degrees lines lie closer by the square root of two, and a bend juts out by 0.2 widths.
    step = (wiring.width + wiring.least_gap) * np.sqrt(2) + 0.4 * wiring.width
    drop = min(float(rng.uniform(0.3, 0.6)) * box.h, 0.6 * box.w)
    bend = box.x + float(rng.uniform(0.1, 0.9)) * (box.w - drop)
    down = bool(rng.random() < 0.5)
    for y in np.arange(box.y + wiring.width / 2, box.y + box.h - drop - wiring.width / 2, step).tolist():
        levels = (y, y + drop) if down else (y + drop, y)
        points = [(box.x, levels[0]), (bend, levels[0]), (bend + drop, levels[1]), (box.x + box.w, levels[1])]
        net = canvas.new_net()
        for start, end in pairwise(points):
            canvas.bars.append(MetalBar(net, start, end, wiring.width, wiring.width * 0.2))
        if rng.random() < wiring.via_single:
            canvas.vias.append(Via(net, points[0], wiring.via_radius))


def _cell_rows(canvas: Canvas, rng: Generator, box: CanvasBox, wiring: Wiring) -> None:
    """Rows of cells: supply rails with rungs, and between them short pieces that touch neither rail."""
    rail, pitch = 1.3 * wiring.width, wiring.pitch
    row = float(rng.integers(4, 6)) * pitch
    for y in np.arange(box.y + rail / 2, box.y + box.h - rail / 2, row).tolist():
        net = canvas.new_net()
        canvas.bars.append(MetalBar(net, (box.x, y), (box.x + box.w, y), rail, 0))
        has_next = y + row < box.y + box.h - rail / 2
        for x in np.arange(box.x + pitch, box.x + box.w - pitch / 2, pitch).tolist() if has_next else []:
            draw = rng.random()
            top, bottom = y + rail / 2 + wiring.least_gap, y + row - rail / 2 - wiring.least_gap
            if draw < 0.3:
                reach = float(rng.uniform(0.25, 0.5)) * row
                canvas.bars.append(MetalBar(net, (x, y), (x, y + reach), wiring.width, 0))
                if rng.random() < 0.5:
                    canvas.vias.append(Via(net, (x, y + reach - wiring.width / 2), wiring.via_radius))
            elif draw < 0.8:
                low = top + float(rng.uniform(0, 0.3)) * (bottom - top)
                high = bottom - float(rng.uniform(0, 0.3)) * (bottom - top)
                own = canvas.new_net()
                canvas.bars.append(MetalBar(own, (x, low), (x, high), wiring.width, 0))
                canvas.vias.append(Via(own, (x, (low + high) / 2), wiring.via_radius))


def _memory(canvas: Canvas, rng: Generator, box: CanvasBox, wiring: Wiring) -> None:
    """An array of one cell: bit lines, and between two of them a dog-bone with two vias."""
    line, bone = 0.9 * wiring.width, 1.1 * wiring.width
    period_x = line + bone + 2 * wiring.least_gap + 2
    period_y = float(rng.uniform(1.6, 2.4)) * wiring.pitch
    for x in np.arange(box.x + line / 2, box.x + box.w - line / 2, period_x).tolist():
        canvas.bars.append(MetalBar(canvas.new_net(), (x, box.y), (x, box.y + box.h), line, 0))
        middle = x + period_x / 2
        if middle + bone / 2 + wiring.least_gap > box.x + box.w:
            continue
        for y in np.arange(box.y + bone, box.y + box.h - period_y, period_y).tolist():
            net, end = canvas.new_net(), y + period_y - bone - wiring.least_gap
            canvas.bars.append(MetalBar(net, (middle, y), (middle, end), 0.8 * bone, 0.4 * bone))
            canvas.vias += [Via(net, (middle, at), wiring.via_radius) for at in (y, end)][: 2 if end - y > bone else 1]


def _pads(canvas: Canvas, rng: Generator, box: CanvasBox, wiring: Wiring) -> None:
    """Square pads, each with a lead."""
    side = float(rng.uniform(2.5, 4)) * wiring.pitch
    step = side + float(rng.uniform(1, 2)) * wiring.pitch
    for y in np.arange(box.y + side / 2, box.y + box.h - side / 2, step).tolist():
        for x in np.arange(box.x + side / 2, box.x + box.w - side / 2, step).tolist():
            net = canvas.new_net()
            canvas.bars.append(MetalBar(net, (x, y), (x, y), side, side / 2))
            lead = (step - wiring.least_gap) - side / 2
            if x + lead < box.x + box.w and rng.random() < 0.7:
                canvas.bars.append(MetalBar(net, (x, y), (x + lead, y), wiring.width, 0))


def _wide_metal(canvas: Canvas, rng: Generator, box: CanvasBox, wiring: Wiring) -> None:
    """One plate with stress-relief slots."""
    net, pitch = canvas.new_net(), wiring.pitch
    slot = wiring.pitch - 0.4 * wiring.width
    wall = float(rng.uniform(1.5, 2.5)) * pitch
    xs = np.arange(box.x + wall / 2, box.x + box.w - wall / 2, wall + slot).tolist()
    if not xs:
        return
    for x in xs:
        canvas.bars.append(MetalBar(net, (x, box.y), (x, box.y + box.h), wall, 0))
    for y in np.arange(box.y + pitch, box.y + box.h - pitch, float(rng.uniform(4, 7)) * pitch).tolist():
        canvas.bars.append(MetalBar(net, (xs[0], y), (xs[-1], y), 1.2 * pitch, 0))
    canvas.bars.append(MetalBar(net, (xs[0], box.y + pitch / 2), (xs[-1], box.y + pitch / 2), pitch, 0))


def _dummy_fill(canvas: Canvas, rng: Generator, box: CanvasBox, wiring: Wiring) -> None:
    """Floating squares that even out the polishing."""
    side = float(rng.uniform(0.9, 1.5)) * wiring.pitch
    step = side + float(rng.uniform(0.6, 1.0)) * wiring.pitch
    for i, y in enumerate(np.arange(box.y + side / 2, box.y + box.h - side / 2, step).tolist()):
        shift = (i % 2) * step / 3
        for x in np.arange(box.x + side / 2 + shift, box.x + box.w - side / 2, step).tolist():
            canvas.bars.append(MetalBar(canvas.new_net(), (x, y), (x, y), side, side / 2))


MATERIALS = (_wires, _wires, _diagonal_bus, _cell_rows, _memory, _pads, _wide_metal, _dummy_fill)


def _decoration(rng: Generator, height: int, width: int) -> list[MetalBar]:
    """Isolated shapes at any angle, in clumps: diffusion, markers and remains below the tracks.

    On average a clump in 480x480 px: a full image has about one, most small windows have none.
    """
    shapes = []
    for _ in range(rng.poisson(height * width / 480**2)):
        centre = rng.uniform(0, width), rng.uniform(0, height)
        for _ in range(int(rng.integers(4, 10))):
            x, y = (float(at + rng.normal(0, 45)) for at in centre)
            angle, length, broad = float(rng.uniform(0, np.pi)), float(rng.uniform(0, 90)), float(rng.uniform(14, 40))
            end = (x + length * np.cos(angle), y + length * np.sin(angle))
            shapes.append(MetalBar(1, (x, y), end, broad, broad / 2))
    return shapes


def _inset(box: CanvasBox, by: float) -> CanvasBox:
    return CanvasBox(box.x + by, box.y + by, max(box.w - 2 * by, 0), max(box.h - 2 * by, 0))
