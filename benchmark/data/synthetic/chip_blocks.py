"""Draws whole chips: blocks of different material side by side."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from benchmark.data.synthetic.layout import MIN_GAP_PX, Canvas, MetalBar, Via
from benchmark.data.synthetic.routing import CanvasBox, Generator, Wiring, lower_layer, route


def omc(rng: Generator, height: int, width: int) -> Canvas:
    """Blocks of different material side by side, as an optical microscope shows a whole chip."""
    return _blocks(rng, height, width, vias_everywhere=False)


def omv(rng: Generator, height: int, width: int) -> Canvas:
    """The material of :func:`omc` with vias along every track, which are the target."""
    return _blocks(rng, height, width, vias_everywhere=True)


def _blocks(rng: Generator, height: int, width: int, *, vias_everywhere: bool) -> Canvas:
    """Cut the canvas into boxes with bus channels between them and fill each with one material."""
    pitch = float(rng.uniform(28, 42))
    layout = Canvas((height, width), corner_px=float(rng.uniform(2, 5)))
    wiring = Wiring(
        pitch=pitch, width=float(rng.uniform(0.46, 0.58)) * pitch, width_sd=0.03 * pitch, length=5 * pitch,
        length_sigma=1.1, gap=1.5, fill=0.9, unevenness=0.35, jog=0.4, branch=0.15, via_pair=0, via_single=0.35,
        via_radius=0.17 * pitch, via_every=4 if vias_everywhere else 0, pad=0.66 * pitch, bus=0.2, power=0.05,
    )  # fmt: skip
    materials = [_wires, _wires, _diagonal_bus, _cell_rows, _memory, _pads, _wide_metal, _dummy_fill]
    # Pads, plates and dummy fill carry no via; where vias are the target they are rarer.
    weights = np.array([3, 3, 1.5, 3, 2, 0.3, 0.5, 0.2] if vias_everywhere else [3, 3, 1.5, 3, 2, 1, 1, 0.8])
    counts = dict.fromkeys((material.__name__.strip("_") for material in materials), 0)
    for box, is_channel in _cut(rng, CanvasBox(0, 0, width, height), pitch):
        material = _channel if is_channel else materials[rng.choice(len(materials), p=weights / weights.sum())]
        if not is_channel:
            counts[material.__name__.strip("_")] += 1
        material(layout, rng, box, wiring)
    layout.lower = lower_layer(rng, height, width, wiring, vertical=bool(rng.random() < 0.5))
    layout.decoration = _decoration(rng, height, width)
    layout.facts = {"pitch_px": pitch, **{f"blocks_{name}": float(count) for name, count in counts.items()}}
    return layout


def _cut(rng: Generator, box: CanvasBox, pitch: float) -> list[tuple[CanvasBox, bool]]:
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


def _wires(layout: Canvas, rng: Generator, box: CanvasBox, wiring: Wiring) -> None:
    """Routing, in either direction."""
    route(layout, rng, box, wiring, vertical=bool(rng.random() < 0.5))


def _channel(layout: Canvas, rng: Generator, box: CanvasBox, wiring: Wiring) -> None:
    """A bus along a channel between two blocks."""
    bus = replace(wiring, length=40 * wiring.pitch, length_sigma=0.8, jog=0, branch=0, unevenness=0, bus=0)
    route(layout, rng, box, bus, vertical=box.h > box.w)


def _diagonal_bus(layout: Canvas, rng: Generator, box: CanvasBox, wiring: Wiring) -> None:
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
            layout.bars.append(MetalBar(net, start, end, wiring.width, wiring.width * 0.2))
        if rng.random() < wiring.via_single:
            layout.vias.append(Via(net, points[0], wiring.via_radius))


def _cell_rows(layout: Canvas, rng: Generator, box: CanvasBox, wiring: Wiring) -> None:
    """Rows of cells: supply rails with rungs, and between them short pieces that touch neither rail."""
    inner = _inset(box, wiring.pitch / 2)
    rail, pitch = 1.3 * wiring.width, wiring.pitch
    row = float(rng.integers(4, 6)) * pitch
    for y in np.arange(inner.y + rail / 2, inner.y + inner.h - rail / 2, row).tolist():
        net = layout.new_net()
        layout.bars.append(MetalBar(net, (inner.x, y), (inner.x + inner.w, y), rail, 0))
        has_next = y + row < inner.y + inner.h - rail / 2
        for x in np.arange(inner.x + pitch, inner.x + inner.w - pitch / 2, pitch).tolist() if has_next else []:
            draw = rng.random()
            top, bottom = y + rail / 2 + MIN_GAP_PX, y + row - rail / 2 - MIN_GAP_PX
            if draw < 0.3:
                reach = float(rng.uniform(0.25, 0.5)) * row
                layout.bars.append(MetalBar(net, (x, y), (x, y + reach), wiring.width, 0))
                if rng.random() < 0.5:
                    layout.vias.append(Via(net, (x, y + reach - wiring.width / 2), wiring.via_radius))
            elif draw < 0.8:
                low = top + float(rng.uniform(0, 0.3)) * (bottom - top)
                high = bottom - float(rng.uniform(0, 0.3)) * (bottom - top)
                own = layout.new_net()
                layout.bars.append(MetalBar(own, (x, low), (x, high), wiring.width, 0))
                layout.vias.append(Via(own, (x, (low + high) / 2), wiring.via_radius))


def _memory(layout: Canvas, rng: Generator, box: CanvasBox, wiring: Wiring) -> None:
    """An array of one cell: bit lines, and between two of them a dog-bone with two vias."""
    inner = _inset(box, wiring.pitch / 2)
    line, bone = 0.9 * wiring.width, 1.1 * wiring.width
    period_x = line + bone + 2 * MIN_GAP_PX + 2
    period_y = float(rng.uniform(1.6, 2.4)) * wiring.pitch
    for x in np.arange(inner.x + line / 2, inner.x + inner.w - line / 2, period_x).tolist():
        layout.bars.append(MetalBar(layout.new_net(), (x, inner.y), (x, inner.y + inner.h), line, 0))
        middle = x + period_x / 2
        if middle + bone / 2 + MIN_GAP_PX > inner.x + inner.w:
            continue
        for y in np.arange(inner.y + bone, inner.y + inner.h - period_y, period_y).tolist():
            net, end = layout.new_net(), y + period_y - bone - MIN_GAP_PX
            layout.bars.append(MetalBar(net, (middle, y), (middle, end), 0.8 * bone, 0.4 * bone))
            layout.vias += [Via(net, (middle, at), wiring.via_radius) for at in (y, end)][: 2 if end - y > bone else 1]


def _pads(layout: Canvas, rng: Generator, box: CanvasBox, wiring: Wiring) -> None:
    """Square pads, each with a lead."""
    side = float(rng.uniform(2.5, 4)) * wiring.pitch
    step = side + float(rng.uniform(1, 2)) * wiring.pitch
    inner = _inset(box, wiring.pitch / 2)
    for y in np.arange(inner.y + side / 2, inner.y + inner.h - side / 2, step).tolist():
        for x in np.arange(inner.x + side / 2, inner.x + inner.w - side / 2, step).tolist():
            net = layout.new_net()
            layout.bars.append(MetalBar(net, (x, y), (x, y), side, side / 2))
            lead = (step - MIN_GAP_PX) - side / 2
            if x + lead < inner.x + inner.w and rng.random() < 0.7:
                layout.bars.append(MetalBar(net, (x, y), (x + lead, y), wiring.width, 0))


def _wide_metal(layout: Canvas, rng: Generator, box: CanvasBox, wiring: Wiring) -> None:
    """One plate with stress-relief slots."""
    inner = _inset(box, wiring.pitch / 2)
    net, pitch = layout.new_net(), wiring.pitch
    slot = wiring.pitch - 0.4 * wiring.width
    wall = float(rng.uniform(1.5, 2.5)) * pitch
    xs = np.arange(inner.x + wall / 2, inner.x + inner.w - wall / 2, wall + slot).tolist()
    if not xs:
        return
    for x in xs:
        layout.bars.append(MetalBar(net, (x, inner.y), (x, inner.y + inner.h), wall, 0))
    for y in np.arange(inner.y + pitch, inner.y + inner.h - pitch, float(rng.uniform(4, 7)) * pitch).tolist():
        layout.bars.append(MetalBar(net, (xs[0], y), (xs[-1], y), 1.2 * pitch, 0))
    layout.bars.append(MetalBar(net, (xs[0], inner.y + pitch / 2), (xs[-1], inner.y + pitch / 2), pitch, 0))


def _dummy_fill(layout: Canvas, rng: Generator, box: CanvasBox, wiring: Wiring) -> None:
    """Floating squares that even out the polishing."""
    side = float(rng.uniform(0.9, 1.5)) * wiring.pitch
    step = side + float(rng.uniform(0.6, 1.0)) * wiring.pitch
    inner = _inset(box, wiring.pitch / 2)
    for i, y in enumerate(np.arange(inner.y + side / 2, inner.y + inner.h - side / 2, step).tolist()):
        shift = (i % 2) * step / 3
        for x in np.arange(inner.x + side / 2 + shift, inner.x + inner.w - side / 2, step).tolist():
            layout.bars.append(MetalBar(layout.new_net(), (x, y), (x, y), side, side / 2))


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
