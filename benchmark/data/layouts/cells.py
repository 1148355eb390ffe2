"""Holds a layout's cells as arrays, and finds the polygons of a window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmark.data.formats.rasterize import Points
from benchmark.utils.errors import UserError

Role = Literal["track", "via", "lower"]
Box = NDArray[np.float64]  # (..., 4): left, bottom, right, top; an empty one is (inf, inf, -inf, -inf)
Ints = NDArray[np.int64]

NOTHING = np.array([np.inf, np.inf, -np.inf, -np.inf])
FARTHEST_NM = 1e9  # a metre, three times a wafer
MOST_SHAPES = 2_000_000  # of a window; a frame of 4096x4096 px at three pixels a line holds a fortieth
SNAP_DECIMALS = 6  # nm: far below any grid and far above the rounding errors of turning and moving


@dataclass(frozen=True)
class Shapes:
    """Polygons of a role in a cell."""

    points: Points  # ``(n, 2)`` corners of all polygons, nm
    starts: Ints  # ``(k + 1,)`` index of each polygon's first corner, and ``n``
    boxes: Box  # ``(k, 4)``

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
    """The cells that a cell holds, each once or on a lattice."""

    child: Ints = field(default_factory=lambda: np.empty(0, np.int64))  # ``(n,)`` index of the cell
    # ``(n, 2, 2)`` turn, mirroring and magnification, from the cell's coordinates to its holder's
    matrix: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 2, 2)))
    origin: Points = field(default_factory=lambda: np.empty((0, 2)))  # ``(n, 2)`` the cell's origin in its holder, nm
    # ``(n, 2)`` copies along the lattice's two vectors, at least 1
    counts: Ints = field(default_factory=lambda: np.empty((0, 2), np.int64))
    # ``(n, 2, 2)`` the lattice's vectors, nm
    steps: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 2, 2)))

    @classmethod
    def of(cls, rows: Sequence[tuple[Any, ...]]) -> Placements:
        """Join rows, each with a value per attribute."""
        if not rows:
            return cls()
        child, matrix, origin, counts, steps = zip(*rows, strict=True)
        return cls(
            *(np.array(child, np.int64), np.array(matrix, np.float64), snapped(origin)),
            *(np.array(counts, np.int64), snapped(steps)),
        )


@dataclass
class LayoutCell:
    """A cell: its own polygons and the cells that it holds."""

    name: str
    shapes: Mapping[Role, Shapes]
    placements: Placements = field(default_factory=Placements)


class Hierarchy:
    """Cells that hold each other by index, with the box around each cell and around each placement."""

    def __init__(self, cells: Sequence[LayoutCell], where: str) -> None:
        """Compute the boxes; ``where`` names the layout in messages.

        Raises:
            UserError: a cell that holds itself, or reaches too far.
        """
        self.cells, self.where = list(cells), where
        self.boxes = np.tile(NOTHING, (len(cells), 1))
        self.placed: list[Box] = [np.empty((0, 4))] * len(cells)
        for index in self._children_first():
            self._measure(index)

    def add(self, cell: LayoutCell) -> Hierarchy:
        """Return this hierarchy with another cell, which is the last and may hold the others."""
        grown = Hierarchy.__new__(Hierarchy)
        grown.cells, grown.where = [*self.cells, cell], self.where
        grown.boxes, grown.placed = np.vstack([self.boxes, NOTHING]), [*self.placed, np.empty((0, 4))]
        grown._measure(len(self.cells))
        return grown

    def tops(self) -> list[int]:
        """Return the cells that no other cell holds."""
        held = {child for cell in self.cells for child in cell.placements.child.tolist()}
        return [index for index in range(len(self.cells)) if index not in held]

    def polygons(self, top: int, window: Sequence[float]) -> dict[Role, list[Points]]:
        """Return the polygons, whole, whose boxes meet a window (left, bottom, right, top) of a cell, nm.

        Raises:
            UserError: more polygons than an image can show.
        """
        polygons: dict[Role, list[Points]] = {}
        count, todo = 0, [(top, np.eye(2), np.zeros(2))]
        while todo:
            index, matrix, origin = todo.pop()
            cell = self.cells[index]
            inverse = np.asarray(np.linalg.inv(matrix), np.float64)
            local = moved(np.array(window, np.float64)[None], inverse[None], -(inverse @ origin)[None])[0]
            for role, shapes in cell.shapes.items():
                hits = np.flatnonzero(meets(shapes.boxes, local))
                count += len(hits)
                for at in hits.tolist() if count <= MOST_SHAPES else ():
                    points = shapes.points[shapes.starts[at] : shapes.starts[at + 1]]
                    polygons.setdefault(role, []).append(snapped(points @ matrix.T + origin))
            for at in np.flatnonzero(meets(self.placed[index], local)).tolist():
                placements = cell.placements
                turned = matrix @ placements.matrix[at]
                child = int(placements.child[at])
                base = moved(self.boxes[child][None], placements.matrix[at][None], placements.origin[at][None])[0]
                offsets = self._offsets(placements, at, base, local)
                count += len(offsets)
                if count <= MOST_SHAPES:
                    todo += [(child, turned, start) for start in (placements.origin[at] + offsets) @ matrix.T + origin]
            if count > MOST_SHAPES:
                raise self._too_many(window)
        return polygons

    def _offsets(self, placements: Placements, at: int, base: Box, window: Box) -> Points:
        """Return the lattice's offsets ``(m, 2)`` at which the child's box, ``base`` at offset 0, meets the window."""
        counts, steps = placements.counts[at], placements.steps[at].copy()
        if counts.max() == 1:
            return np.zeros((1, 2))
        lone = np.flatnonzero(counts == 1)
        if lone.size:  # a vector of a single copy has no meaning; any vector independent of the other will do
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
        """Compute the boxes of a cell; its children's boxes are known."""
        cell, placements = self.cells[index], self.cells[index].placements
        ends = (placements.counts - 1)[:, :, None] * placements.steps  # (n, 2, 2): to the last one along each vector
        bases = moved(self.boxes[placements.child], placements.matrix, placements.origin)
        low = bases[:, :2] + np.minimum(ends, 0).sum(axis=1)
        high = bases[:, 2:] + np.maximum(ends, 0).sum(axis=1)
        self.placed[index] = np.concatenate([low, high], axis=1)
        every = np.concatenate([NOTHING[None], self.placed[index], *(shapes.boxes for shapes in cell.shapes.values())])
        box = np.concatenate([every[:, :2].min(axis=0), every[:, 2:].max(axis=0)])
        # NaN fails the comparison too.
        if not (np.array_equal(box, NOTHING) or (np.abs(box) <= FARTHEST_NM).all()):
            raise UserError(
                f"{self.where}: cell {cell.name[:80]!r} reaches {FARTHEST_NM / 1e9:g} m or more; expected a chip: "
                "correct its coordinates, magnifications or the file's unit"
            )
        self.boxes[index] = box

    def _children_first(self) -> list[int]:
        """Return all cells, each behind the cells that it holds."""
        children = {index: cell.placements.child.tolist() for index, cell in enumerate(self.cells)}
        try:
            return list(TopologicalSorter(children).static_order())
        except CycleError as error:
            child, holder = (repr(self.cells[index].name[:80]) for index in error.args[1][:2])
            raise UserError(
                f"{self.where}: cell {child} holds itself by way of {holder}; expected a tree of cells: correct the "
                "layout"
            ) from error

    def _too_many(self, window: Sequence[float] | Box) -> UserError:
        width, height = (window[2] - window[0]) / 1000, (window[3] - window[1]) / 1000
        return UserError(
            f"{self.where}: more than {MOST_SHAPES:,} shapes in a window of {width:g}x{height:g} µm; expected what an "
            "image can show: lower --nm-per-pixel, --height or --width"
        )


def moved(boxes: Box, matrix: NDArray[np.float64], origin: Points) -> Box:
    """Return the boxes around transformed boxes ``(n, 4)``; empty ones stay empty.

    Args:
        boxes: ``(n, 4)``.
        matrix: ``(n, 2, 2)``, turn, mirroring and magnification.
        origin: ``(n, 2)``.
    """
    empty = boxes[:, 0] > boxes[:, 2]
    plain = np.where(empty[:, None], 0, boxes)
    corners = plain[:, [[0, 1], [0, 3], [2, 1], [2, 3]]] @ matrix.transpose(0, 2, 1) + origin[:, None]
    around: Box = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    around[empty] = NOTHING
    return around


def meets(boxes: Box, window: Box) -> NDArray[np.bool_]:
    """Tell of each box ``(n, 4)`` whether it shares an area, an edge or a corner with a window."""
    met: NDArray[np.bool_] = np.all((boxes[:, :2] <= window[2:]) & (boxes[:, 2:] >= window[:2]), axis=1)
    return met


def snapped(points: ArrayLike) -> Points:
    """Round nm, so that equal positions are equal numbers however they were computed."""
    rounded: Points = np.asarray(points, np.float64).round(SNAP_DECIMALS)
    return rounded
