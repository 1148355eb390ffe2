"""Place labels beside points so that nothing overlaps: a deterministic search over positions around each point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Distances of a label from its point in label heights, nearest first, and directions counter-clockwise from the right.
RINGS = (0.0, 0.6, 1.3, 2.1, 3.0, 4.0, 5.2, 6.5)
DIRECTIONS = tuple(math.tau * step / 16 for step in range(16))
SWEEPS = 4  # each sweep places every label anew among the others; placements settle after two or three

# Prices of a placement. Text on text or outside the frame is what must not happen, so it outweighs any distance.
TEXT_ON_TEXT = 1000.0
TEXT_OUTSIDE = 1000.0
TEXT_ON_MARK = 300.0
LINE_THROUGH_TEXT = 200.0
LINE_THROUGH_MARK = 60.0
TEXT_BY_OTHER = 30.0  # nearer to another point than to its own, a label seems to name that one
TEXT_ON_LINE = 5.0  # the Pareto front may pass behind a label where there is no better place
DISTANCE = 1.0


@dataclass(frozen=True)
class Box:
    """An axis-aligned rectangle."""

    left: float
    bottom: float
    right: float
    top: float

    @property
    def area(self) -> float:
        """Width times height."""
        return (self.right - self.left) * (self.top - self.bottom)

    def overlap(self, other: Box) -> float:
        """Return the area shared with another box."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(width, 0.0) * max(height, 0.0)

    def crossed_by(self, line: Line) -> bool:
        """Tell whether a segment has a point inside (Liang and Barsky 1984: clip its parameter at the four sides)."""
        (x0, y0), (x1, y1) = line
        enter, leave = 0.0, 1.0
        for start, step, low, high in ((x0, x1 - x0, self.left, self.right), (y0, y1 - y0, self.bottom, self.top)):
            if step == 0:
                if not low < start < high:
                    return False
                continue
            first, last = sorted(((low - start) / step, (high - start) / step))
            enter, leave = max(enter, first), min(leave, last)
        return enter < leave

    def nearest(self, point: Point) -> Point:
        """Return the box's point that is nearest to a point."""
        return min(max(point[0], self.left), self.right), min(max(point[1], self.bottom), self.top)


Point = tuple[float, float]
Line = tuple[Point, Point]


@dataclass(frozen=True)
class Placed:
    """Where a label goes; ``leader`` runs from its point to it where it had to move away."""

    box: Box
    leader: Line | None


def place(
    points: Sequence[Point],
    sizes: Sequence[tuple[float, float]],
    gaps: Sequence[float],
    frame: Box,
    marks: Sequence[Box],
    lines: Sequence[Line] = (),
) -> list[Placed]:
    """Place one label per point.

    Args:
        points: the points, in pixels or any other unit that is the same on both axes.
        sizes: width and height of each label, margins included.
        gaps: distance between each point's centre and a label right beside it.
        frame: what all labels stay inside.
        marks: what no label covers: markers and error bars.
        lines: what labels avoid where they can.

    Returns:
        One placement per point, the same for the same input.
    """
    options: list[list[tuple[float, Placed]]] = []
    for index, (point, size, gap) in enumerate(zip(points, sizes, gaps, strict=True)):
        priced = [
            (
                _fixed_cost(candidate, distance, frame, marks, lines)
                + TEXT_BY_OTHER * _misleads(candidate.box, index, points),
                candidate,
            )
            for distance, candidate in _candidates(point, size, gap)
        ]
        options.append(sorted(priced, key=lambda option: option[0]))
    chosen = [priced[0][1] for priced in options]
    for _ in range(SWEEPS):
        before = list(chosen)
        for index, priced in enumerate(options):
            chosen[index] = _cheapest(priced, [placed for number, placed in enumerate(chosen) if number != index])
        if chosen == before:
            break
    return chosen


def _cheapest(priced: Sequence[tuple[float, Placed]], others: Sequence[Placed]) -> Placed:
    """Return the best placement beside the others; ``priced`` ascends, so most of it need not be looked at."""
    best, least = priced[0][1], math.inf
    for price, candidate in priced:
        if price >= least:
            break
        total = price + sum(_conflict(candidate, other) for other in others)
        if total < least:
            best, least = candidate, total
    return best


def _candidates(point: Point, size: tuple[float, float], gap: float) -> list[tuple[float, Placed]]:
    """Return (distance in label heights, placement), the preferred ones first."""
    (x, y), (width, height) = point, size
    found = []
    for ring in RINGS:
        for angle in DIRECTIONS:
            reach = gap + ring * height
            # The label's centre moves on a rounded rectangle, so that its nearest edge keeps the same distance.
            centre_x = x + math.cos(angle) * reach + _toward(math.cos(angle)) * width / 2
            centre_y = y + math.sin(angle) * reach + _toward(math.sin(angle)) * height / 2
            box = Box(centre_x - width / 2, centre_y - height / 2, centre_x + width / 2, centre_y + height / 2)
            found.append((ring, Placed(box, (point, box.nearest(point)) if ring else None)))
    return found


def _toward(cosine: float) -> float:
    """Return how far a label is pushed to a side: fully, except straight above, below or beside."""
    return max(-1.0, min(1.0, 2 * cosine))


def _fixed_cost(label: Placed, distance: float, frame: Box, marks: Sequence[Box], lines: Sequence[Line]) -> float:
    """Price what does not depend on the other labels."""
    box = label.box
    cost = DISTANCE * distance + TEXT_OUTSIDE * (1 - box.overlap(frame) / box.area)
    cost += TEXT_ON_MARK * sum(_covered(box, mark) for mark in marks)
    cost += TEXT_ON_LINE * sum(box.crossed_by(line) for line in lines)
    if label.leader is not None:
        origin = label.leader[0]
        # The leader starts inside its own mark, which is no crossing.
        foreign = [mark for mark in marks if mark.nearest(origin) != origin]
        cost += LINE_THROUGH_MARK * sum(mark.crossed_by(label.leader) for mark in foreign)
    return cost


def _misleads(box: Box, own: int, points: Sequence[Point]) -> bool:
    """Tell whether a label lies nearer to another point than to its own."""
    distances = [math.dist(box.nearest(point), point) for point in points]
    return any(distance < distances[own] for index, distance in enumerate(distances) if index != own)


def _covered(box: Box, other: Box) -> float:
    """Return 0 for disjoint boxes, else at least 0.2, so that the thinnest overlap counts too."""
    shared = box.overlap(other)
    return 0.2 + shared / box.area if shared > 0 else 0.0


def _conflict(label: Placed, other: Placed) -> float:
    cost = TEXT_ON_TEXT * _covered(label.box, other.box)
    for line, box in ((label.leader, other.box), (other.leader, label.box)):
        if line is not None and box.crossed_by(line):
            cost += LINE_THROUGH_TEXT
    if label.leader is not None and other.leader is not None and _cross(label.leader, other.leader):
        cost += LINE_THROUGH_MARK
    return cost


def _cross(one: Line, two: Line) -> bool:
    """Tell whether two segments cross: each one's ends lie on different sides of the other."""

    def side(line: Line, point: Point) -> float:
        (x0, y0), (x1, y1) = line
        return (x1 - x0) * (point[1] - y0) - (y1 - y0) * (point[0] - x0)

    return side(one, two[0]) * side(one, two[1]) < 0 and side(two, one[0]) * side(two, one[1]) < 0
