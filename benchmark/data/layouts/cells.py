"""A layout's hierarchy as plain arrays, and the polygons of a window found in it without unfolding the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmark.data.formats.rasterize import Points
from benchmark.utils.errors import UserError

Role = Literal["track", "via", "lower"]
Box = NDArray[np.float64]  # (..., 4): left, bottom, right, top; an empty one is (inf, inf, -inf, -inf)
Ints = NDArray[np.int64]

NOTHING = np.array([np.inf, np.inf, -np.inf, -np.inf])
FARTHEST_NM = 1e9  # a metre, three times a wafer
# Of one window. A frame of 4096x4096 px at three pixels a line holds a fortieth.
MOST_SHAPES = 2_000_000
SNAP_DECIMALS = 6  # nm: far below any grid and far above the rounding errors of turning and moving


@dataclass(frozen=True)
class Shapes:
    """Polygons of one role in one cell.

    Attributes:
        points: ``(n, 2)`` corners of all of them, nm.
        starts: ``(k + 1,)`` where each begins, and the end.
        boxes: ``(k, 4)``.
    """

    points: Points
    starts: Ints
    boxes: Box

    @classmethod
    def of(cls, polygons: Sequence[Points]) -> Shapes:
        """Join polygons, of at least one corner each."""
        starts = np.cumsum([0, *map(len, polygons)])
        points = np.concatenate([*polygons, np.empty((0, 2))])
        boxes = np.empty((0, 4))
        if polygons:
            reduced = (way.reduceat(points, starts[:-1], axis=0) for way in (np.minimum, np.maximum))
            boxes = np.concatenate([*reduced], axis=1)
        return cls(points, starts, boxes)


@dataclass(frozen=True)
class Placements:
    """The cells that a cell holds, each once or on a lattice.

    Attributes:
        child: ``(n,)`` index of the cell.
        matrix: ``(n, 2, 2)`` its turn, mirroring and magnification, from its own coordinates to the holder's.
        origin: ``(n, 2)`` where its origin lies, nm.
        counts: ``(n, 2)`` how often it occurs along the lattice's two vectors, at least once.
        steps: ``(n, 2, 2)`` those vectors, nm.
    """

    child: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    matrix: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 2, 2)))
    origin: Points = field(default_factory=lambda: np.empty((0, 2)))
    counts: Ints = field(default_factory=lambda: np.empty((0, 2), np.int64))
    steps: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 2, 2)))


@dataclass
class LayoutCell:
    """A cell: its own polygons and the cells that it holds."""

    name: str
    shapes: Mapping[Role, Shapes]
    placements: Placements = field(default_factory=Placements)


class Hierarchy:
    """Cells that hold each other, with the box around each and around each placement."""

    def __init__(self, cells: Sequence[LayoutCell], where: str) -> None:
        """Find the boxes.

        Args:
            cells: whose placements refer to each other by index.
            where: how messages name the layout.

        Raises:
            UserError: a cell that holds itself, or reaches too far.
        """
        self.cells, self.where = list(cells), where
        self.boxes = np.tile(NOTHING, (len(cells), 1))
        self.placed: list[Box] = [np.empty((0, 4))] * len(cells)
        for index in self._children_first():
            self._measure(index)

    def add(self, cell: LayoutCell) -> Hierarchy:
        """Return this hierarchy with one more cell, which holds others and is the last."""
        grown = Hierarchy.__new__(Hierarchy)
        grown.cells, grown.where = [*self.cells, cell], self.where
        grown.boxes, grown.placed = np.vstack([self.boxes, NOTHING]), [*self.placed, np.empty((0, 4))]
        grown._measure(len(self.cells))
        return grown

    def tops(self) -> list[int]:
        """Return the cells that no other one holds."""
        held = set(np.concatenate([np.empty(0, int), *(cell.placements.child for cell in self.cells)]).tolist())
        return [index for index in range(len(self.cells)) if index not in held]

    def polygons(self, top: int, window: Sequence[float]) -> dict[Role, list[Points]]:
        """Return the polygons, whole, whose boxes meet a window (left, bottom, right, top) of a cell, nm.

        Raises:
            UserError: more of them than a picture could show.
        """
        found: dict[Role, list[Points]] = {}
        seen, todo = 0, [(top, np.eye(2), np.zeros(2))]
        while todo:
            index, matrix, origin = todo.pop()
            cell = self.cells[index]
            inverse = np.asarray(np.linalg.inv(matrix), np.float64)
            local = moved(np.array(window, np.float64)[None], inverse[None], -(inverse @ origin)[None])[0]
            for role, shapes in cell.shapes.items():
                hits = np.flatnonzero(meets(shapes.boxes, local))
                seen += len(hits)
                for at in hits.tolist() if seen <= MOST_SHAPES else ():
                    points = shapes.points[shapes.starts[at] : shapes.starts[at + 1]]
                    found.setdefault(role, []).append(snapped(points @ matrix.T + origin))
            for at in np.flatnonzero(meets(self.placed[index], local)).tolist():
                placements = cell.placements
                turned = matrix @ placements.matrix[at]
                child = int(placements.child[at])
                base = moved(self.boxes[child][None], placements.matrix[at][None], placements.origin[at][None])[0]
                offsets = self._offsets(placements, at, base, local)
                seen += len(offsets)
                if seen <= MOST_SHAPES:
                    places = (placements.origin[at] + offsets) @ matrix.T + origin
                    todo += [(child, turned, place) for place in places]
            if seen > MOST_SHAPES:
                raise self._too_many(window)
        return found

    def _offsets(self, placements: Placements, at: int, base: Box, window: Box) -> Points:
        """Return the lattice's places ``(m, 2)`` at which the child's box, ``base`` at the first, meets the window."""
        counts, steps = placements.counts[at], placements.steps[at].copy()
        if counts.max() == 1:
            return np.zeros((1, 2))
        lone = np.flatnonzero(counts == 1)
        if lone.size:  # one vector says nothing; any that is independent of the other will do
            steps[lone[0]] = steps[1 - lone[0]][::-1] * (-1, 1)
        first, last = np.zeros(2, np.int64), counts - 1
        if abs(np.linalg.det(steps)) > 1e-9:
            (left, bottom), (right, top) = window[:2] - base[2:], window[2:] - base[:2]
            units = np.array([(left, bottom), (left, top), (right, bottom), (right, top)]) @ np.linalg.inv(steps)
            first = np.clip(np.floor(units.min(axis=0) - 1e-6), 0, counts - 1).astype(np.int64)
            last = np.clip(np.ceil(units.max(axis=0) + 1e-6), 0, counts - 1).astype(np.int64)
        if float(np.prod((last - first + 1).astype(float))) > MOST_SHAPES:
            raise self._too_many(window)
        across, along = np.meshgrid(*(np.arange(a, b + 1) for a, b in zip(first, last, strict=True)), indexing="ij")
        offsets: Points = np.column_stack([across.ravel(), along.ravel()]) @ steps
        return offsets[meets(base + np.tile(offsets, 2), window)]

    def _measure(self, index: int) -> None:
        """Find the boxes of a cell whose children's are known."""
        cell, placements = self.cells[index], self.cells[index].placements
        ends = (placements.counts - 1)[:, :, None] * placements.steps  # (n, 2, 2): to the last one along each vector
        bases = moved(self.boxes[placements.child], placements.matrix, placements.origin)
        low = bases[:, :2] + np.minimum(ends, 0).sum(axis=1)
        high = bases[:, 2:] + np.maximum(ends, 0).sum(axis=1)
        self.placed[index] = np.concatenate([low, high], axis=1)
        every = np.concatenate([NOTHING[None], self.placed[index], *(shapes.boxes for shapes in cell.shapes.values())])
        box = np.concatenate([every[:, :2].min(axis=0), every[:, 2:].max(axis=0)])
        # Not a number fails the comparison too.
        if not (np.array_equal(box, NOTHING) or (np.abs(box) <= FARTHEST_NM).all()):
            raise UserError(
                f"{self.where}: cell {cell.name[:80]!r} reaches {FARTHEST_NM / 1e9:g} m or more; expected a chip: "
                "correct its coordinates, magnifications or the file's unit"
            )
        self.boxes[index] = box

    def _children_first(self) -> list[int]:
        """Return all cells, each behind those that it holds."""
        order: list[int] = []
        state = [0] * len(self.cells)  # 1: being looked at, 2: done
        for start in range(len(self.cells)):
            todo = [start]
            while todo:
                index = todo[-1]
                if state[index] == 0:
                    state[index] = 1
                    children = set(self.cells[index].placements.child.tolist())
                    held = next((child for child in children if state[child] == 1), None)
                    if held is not None:
                        raise UserError(
                            f"{self.where}: cell {self.cells[held].name[:80]!r} holds itself by way of "
                            f"{self.cells[index].name[:80]!r}; expected a tree of cells: correct the layout"
                        )
                    todo += [child for child in children if state[child] == 0]
                    continue
                if state[index] == 1:
                    state[index] = 2
                    order.append(index)
                todo.pop()
        return order

    def _too_many(self, window: Sequence[float] | Box) -> UserError:
        width, height = (window[2] - window[0]) / 1000, (window[3] - window[1]) / 1000
        return UserError(
            f"{self.where}: more than {MOST_SHAPES:,} shapes in a window of {width:g}x{height:g} µm; expected what an "
            "image can show: lower --nm-per-pixel, --height or --width"
        )


def moved(boxes: Box, matrix: NDArray[np.float64], origin: Points) -> Box:
    """Return the boxes around turned, mirrored and moved boxes; empty ones stay empty.

    Args:
        boxes: ``(n, 4)``.
        matrix: ``(n, 2, 2)``.
        origin: ``(n, 2)``.
    """
    empty = boxes[:, 0] > boxes[:, 2]
    plain = np.where(empty[:, None], 0, boxes)
    corners = plain[:, [[0, 1], [0, 3], [2, 1], [2, 3]]] @ matrix.transpose(0, 2, 1) + origin[:, None]
    around: Box = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    around[empty] = NOTHING
    return around


def meets(boxes: Box, window: Box) -> NDArray[np.bool_]:
    """Tell which boxes ``(n, 4)`` have an area, an edge or a corner in common with a window."""
    met: NDArray[np.bool_] = (
        (boxes[:, 0] <= window[2])
        & (boxes[:, 2] >= window[0])
        & (boxes[:, 1] <= window[3])
        & (boxes[:, 3] >= window[1])
    )
    return met


def snapped(points: ArrayLike) -> Points:
    """Round nm so that a place is one number, whichever way it was reached."""
    rounded: Points = np.asarray(points, np.float64).round(SNAP_DECIMALS)
    return rounded
