"""Finds places for names beside marks where they cover nothing."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

#: Sides of a mark as shares of half the name's size, the preferred ones first: right, above, below, left, corners.
SIDES = np.array([
    (1, 0), (0, 1), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1),
    (0.5, 1), (0.5, -1), (-0.5, 1), (-0.5, -1), (1, 0.5), (1, -0.5), (-1, 0.5), (-1, -0.5),
])  # fmt: skip
STEPS = 20  # distances from the mark
# Costs of a place, in pixels of distance that a reader would rather follow a leader.
OUTSIDE, COVERED, COVERS = 1e6, 1e4, 1e3  # outside of the plot; name over a mark, bar or name; leader over those
CROSSES_BAR, ON_LINE, NEARER_TO_ANOTHER, CLOSE_TO_BAR, NEXT_SIDE = 40, 50, 30, 10, 0.2
ROUNDS = 10  # turns of each name at most; plots of forty networks need fewer

SHUFFLES = 12  # other orders of the turns


@dataclass(frozen=True)
class Obstacles:
    """Everything that a name may not cover, in pixels.

    Attributes:
        marks: (n, 2) centres of the marks.
        radii: (n,) their radii.
        bars: (n, 4) error bars as x0, y0, x1, y1.
        line: (m, 4) segments of a line that names avoid if there is room.
        frame: the plot as x0, y0, x1, y1.
    """

    marks: Floats
    radii: Floats
    bars: Floats
    line: Floats
    frame: Floats

    @property
    def mark_boxes(self) -> Floats:
        """(n, 4) boxes around the marks."""
        return np.hstack([self.marks - self.radii[:, None], self.marks + self.radii[:, None]])


def place(sizes: Sequence[tuple[float, float]], obstacles: Obstacles, gap_px: float, step_px: float) -> Floats:
    """Return the (n, 4) boxes of the names.

    Each name in turn takes its cheapest place beside the others, until none moves. If a name or a leader then covers
    something, other orders of the turns are tried, and the cheapest result counts.

    Args:
        sizes: width and height of each name in pixels.
        obstacles: marks, one for each name, and all else.
        gap_px: least distance of a name from a mark, an error bar or another name.
        step_px: how much further a name moves if nearer places are taken.
    """
    choices = [_choices(index, np.array(size), obstacles, gap_px, step_px) for index, size in enumerate(sizes)]
    lines = [leaders(obstacles.marks[index], boxes) for index, boxes in enumerate(choices)]
    own_costs = [_own_cost(index, choices[index], lines[index], obstacles, gap_px / 2) for index in range(len(sizes))]

    @functools.cache  # turns come to the same places again
    def cost(index: int, others: frozenset[tuple[int, int]]) -> Floats:
        if not others:
            return own_costs[index]
        names = np.array([choices[other][number] for other, number in others])
        drawn = np.array([lines[other][number] for other, number in others])
        covers = touches(lines[index], names).sum(1) + touches(drawn, choices[index]).sum(0)
        covers += _crosses(lines[index], drawn).sum(1)
        covered = _overlap(choices[index], _grown(names, gap_px / 2)).sum(1)
        total: Floats = own_costs[index] + COVERED * covered + COVERS * covers
        return total

    shuffle = np.random.default_rng(0)
    cheapest, best = np.inf, {}
    for order in (range(len(sizes)), *(shuffle.permutation(len(sizes)).tolist() for _ in range(SHUFFLES))):
        chosen = _settled(order, cost)
        costs = [cost(index, _others(index, chosen))[number] for index, number in chosen.items()]
        if sum(costs) < cheapest:
            cheapest, best = sum(costs), chosen
        if max(costs) < COVERS:
            break
    return np.array([boxes[best[index]] for index, boxes in enumerate(choices)])


def _others(index: int, chosen: Mapping[int, int]) -> frozenset[tuple[int, int]]:
    return frozenset((other, number) for other, number in chosen.items() if other != index)


def _settled(order: Iterable[int], cost: Callable[[int, frozenset[tuple[int, int]]], Floats]) -> dict[int, int]:
    """Return the number of each name's place, once no name gains by another."""
    chosen: dict[int, int] = {}
    for _ in range(ROUNDS):
        before = dict(chosen)
        for index in order:
            chosen[index] = int(cost(index, _others(index, chosen)).argmin())
        if chosen == before:
            break
    return chosen


def leaders(marks: Floats, boxes: Floats) -> Floats:
    """Return (k, 4) segments from the nearest point of each box to its mark, or to the only one."""
    return np.hstack([np.clip(marks, boxes[:, :2], boxes[:, 2:]), np.broadcast_to(marks, (len(boxes), 2))])


def _choices(index: int, size: Floats, obstacles: Obstacles, gap_px: float, step_px: float) -> Floats:
    """(k, 4) boxes around a mark: all sides at the least distance, then all sides further out."""
    distances = obstacles.radii[index] + gap_px + step_px * np.arange(STEPS)
    centres = obstacles.marks[index] + SIDES * (size / 2 + distances[:, None, None])
    return np.concatenate([centres - size / 2, centres + size / 2], axis=-1).reshape(-1, 4)


def _own_cost(index: int, boxes: Floats, lines: Floats, obstacles: Obstacles, margin: float) -> Floats:
    """(k,) costs of places that do not depend on other names."""
    others = np.arange(len(obstacles.marks)) != index
    marks = obstacles.mark_boxes
    outside = (boxes[:, :2] < obstacles.frame[:2]).any(1) | (boxes[:, 2:] > obstacles.frame[2:]).any(1)
    grown = _grown(boxes, margin)
    gaps = np.linalg.norm(np.clip(obstacles.marks, boxes[:, None, :2], boxes[:, None, 2:]) - obstacles.marks, axis=-1)
    gaps -= obstacles.radii
    nearest = gaps[:, others].min(1, initial=np.inf)
    cost: Floats = (
        OUTSIDE * outside
        + COVERED * (_overlap(grown, marks).sum(1) + touches(obstacles.bars, grown).sum(0))
        + COVERS * touches(lines, marks[others]).sum(1)
        + CROSSES_BAR * _crosses(lines, obstacles.bars[others]).sum(1)
        + ON_LINE * touches(obstacles.line, grown).any(0)
        + CLOSE_TO_BAR * touches(obstacles.bars, _grown(boxes, 2 * margin)).any(0)  # whose caps are wider than it
        + NEARER_TO_ANOTHER * (nearest < gaps[:, index])
        + gaps[:, index]
        + NEXT_SIDE * (np.arange(len(boxes)) % len(SIDES))
    )
    return cost


def _grown(boxes: Floats, margin: float) -> Floats:
    return boxes + margin * np.array([-1, -1, 1, 1])


def _overlap(boxes: Floats, others: Floats) -> Flags:
    """(k, n): which boxes overlap."""
    left, right = boxes[:, None], others[None]
    both_ways: Flags = (left[..., :2] < right[..., 2:]) & (right[..., :2] < left[..., 2:])
    return both_ways[..., 0] & both_ways[..., 1]


def touches(segments: Floats, boxes: Floats) -> Flags:
    """(m, k): which segments have a point in which boxes."""
    enters, leaves = zip(*(_inside(segments[:, axis::2], boxes[:, axis::2]) for axis in (0, 1)), strict=True)
    touched: Flags = np.maximum(*enters).clip(0) <= np.minimum(*leaves).clip(max=1)
    return touched


def _inside(segments: Floats, boxes: Floats) -> tuple[Floats, Floats]:
    """(m, k) twice: at which shares of their way segments enter and leave boxes, along one axis alone.

    One axis at a time, since numpy takes several times longer for the smaller of two along an axis of two.
    """
    start, low, high = segments[:, :1], boxes[:, 0], boxes[:, 1]
    way = segments[:, 1:] - start
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = (low - start) / way, (high - start) / way
    # A segment that stands still along the axis is beside the box or within it all the way.
    within = (low <= start) & (start <= high)
    enters = np.where(way == 0, np.where(within, -np.inf, np.inf), np.minimum(*ends))
    return enters, np.where(way == 0, np.where(within, np.inf, -np.inf), np.maximum(*ends))


def _crosses(segments: Floats, others: Floats) -> Flags:
    """(m, n): which segments cross, ends excluded."""
    a, b = segments[:, None, :2], segments[:, None, 2:]
    c, d = others[None, :, :2], others[None, :, 2:]
    return (_turn(a, b, c) * _turn(a, b, d) < 0) & (_turn(c, d, a) * _turn(c, d, b) < 0)


def _turn(a: Floats, b: Floats, c: Floats) -> Floats:
    """Sign of the turn from ab to ac."""
    along, across = b - a, c - a
    return np.sign(along[..., 0] * across[..., 1] - along[..., 1] * across[..., 0])
