"""Names beside marks cover no mark, error bar or other name; lines lead to those that had to move."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from benchmark.report.plots.name_places import touches
from benchmark.report.plots.plot_style import DPI, SIZE_INCHES, STYLES, renderer
from benchmark.report.plots.spots import LEADER_POINTS, POINT_PX, draw_spots, label_spots
from benchmark.report.tables.render import Row


@dataclass(frozen=True)
class Mark:
    """A model at a point of the plot, whose axes go from 0 to 100."""

    x: float
    y: float
    label: str = "EUNet++"
    family: str = "lightweight"
    spread: float = 0.0

    @property
    def row(self) -> Row:
        return Row(self.label, self.label, self.family, {})


def plot(marks: list[Mark], front: tuple[tuple[float, float], ...] = ((0, 0), (0, 0))) -> Axes:
    axes = Figure(SIZE_INCHES, dpi=DPI).add_axes((0.1, 0.15, 0.85, 0.7))
    axes.set(xlim=(0, 100), ylim=(0, 100))
    draw_spots(axes, marks, dict.fromkeys((mark.row.key for mark in marks), ""))
    (line,) = axes.plot(*zip(*front, strict=True))
    label_spots(axes, marks, line)
    return axes


def names(axes: Axes) -> list[Bbox]:
    measure = renderer(axes.figure)
    return [Bbox.from_extents(text.get_window_extent(measure)) for text in axes.texts]


def leaders(axes: Axes) -> list[Line2D]:
    return [line for line in axes.lines if line.get_linewidth() == 0.6]


def mark_boxes(axes: Axes, marks: list[Mark]) -> list[Bbox]:
    """Pixels of every marker and every error bar."""
    boxes = []
    for mark in marks:
        (x, y), (_, low), (_, high) = axes.transData.transform(
            [(mark.x, mark.y), (mark.x, mark.y - mark.spread), (mark.x, mark.y + mark.spread)]
        )
        radius = STYLES[mark.family][2] / 2 * POINT_PX
        boxes += [Bbox.from_extents(x - radius, y - radius, x + radius, y + radius), Bbox.from_extents(x, low, x, high)]
    return boxes


def disjoint(box: Bbox, other: Bbox) -> bool:
    return box.x1 < other.x0 or other.x1 < box.x0 or box.y1 < other.y0 or other.y1 < box.y0


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_eleven_random_marks_get_names_that_cover_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Half of the marks crowd together, as networks of one family do.
    points = np.concatenate([rng.normal((30, 50), (5, 6), (6, 2)), rng.uniform((6, 9), (90, 90), (5, 2))])
    families = ["ours", *["lightweight"] * 5, *["ic"] * 5]
    marks = [
        Mark(x, y, "Network"[: rng.integers(3, 8)] + "_" * rng.integers(4), family, rng.choice([0.0, 5.0]))
        for (x, y), family in zip(points, families, strict=True)
    ]

    axes = plot(marks)

    assert len(names(axes)) == len(marks)
    assert all(itertools.starmap(disjoint, itertools.combinations(names(axes), 2)))
    frame = axes.get_window_extent()
    for name in names(axes):
        assert frame.x0 <= name.x0 < name.x1 <= frame.x1
        assert frame.y0 <= name.y0 < name.y1 <= frame.y1
        assert all(disjoint(name, box) for box in mark_boxes(axes, marks))
    assert np.array_equal(names(axes), names(plot(marks)))


def test_forty_marks_get_names_that_cover_no_other() -> None:
    points = np.random.default_rng(0).uniform((4, 4), (96, 96), (40, 2))
    marks = [Mark(x, y, f"net_{number}") for number, (x, y) in enumerate(points)]

    boxes = names(plot(marks))

    assert len(boxes) == 40
    assert all(itertools.starmap(disjoint, itertools.combinations(boxes, 2)))


def test_lone_name_stands_right_of_its_mark_without_a_leader() -> None:
    axes = plot([Mark(50, 50)])

    (name,), (x, y) = names(axes), axes.transData.transform((50, 50))
    assert 0 < name.x0 - x - STYLES["lightweight"][2] / 2 * POINT_PX < LEADER_POINTS * POINT_PX
    assert (name.y0 + name.y1) / 2 == pytest.approx(y, abs=2)
    assert leaders(axes) == []


def test_name_at_the_right_edge_moves_inside() -> None:
    axes = plot([Mark(99, 50)])

    assert names(axes)[0].x1 <= axes.get_window_extent().x1
    assert disjoint(names(axes)[0], mark_boxes(axes, [Mark(99, 50)])[0])


def test_name_that_had_to_move_has_a_leader_from_its_mark() -> None:
    marks = [Mark(50, 30 + step, f"net_{step}") for step in range(9)]

    axes = plot(marks)

    lines = leaders(axes)
    assert 0 < len(lines) < len(marks)
    for line in lines:
        near, start = line.get_xydata()
        (name,) = [
            name for name, mark in zip(names(axes), marks, strict=True) if (mark.x, mark.y) == pytest.approx(start)
        ]
        assert name.padded(1).contains(*axes.transData.transform(near))


def test_names_avoid_the_front_line_where_there_is_room() -> None:
    axes = plot([Mark(50, 50)], ((0, 50), (100, 50)))

    y = axes.transData.transform((50, 50))[1]
    assert not names(axes)[0].y0 <= y <= names(axes)[0].y1


def test_leader_passes_over_no_other_mark_and_no_other_name() -> None:
    # Ten marks close to a line: whatever a name's own side is, most ways to it lead over other marks.
    marks = [Mark(40 + 2 * step, 60 + 2.5 * (step % 3), f"network_{step}") for step in range(10)]

    axes = plot(marks)

    assert len(leaders(axes)) > 3
    for line in leaders(axes):
        start = line.get_xydata()[1]
        path = line.get_path().transformed(axes.transData)
        for mark, name, box in zip(marks, names(axes), mark_boxes(axes, marks)[::2], strict=True):
            if (mark.x, mark.y) != pytest.approx(start):
                assert not path.intersects_bbox(box, filled=True)
                assert not path.intersects_bbox(name, filled=True)


def test_name_avoids_a_place_that_is_nearer_to_another_mark() -> None:
    alone = plot([Mark(40, 50)])
    radius = STYLES["lightweight"][2] / 2 * POINT_PX
    beyond = alone.transData.inverted().transform((names(alone)[0].x1 + radius + 1.8 * POINT_PX, 0))[0]

    axes = plot([Mark(40, 50), Mark(beyond, 50)])

    right_of_mark, moved = names(alone)[0], names(axes)[0]
    assert moved.x0 < right_of_mark.x0


def test_segments_touch_a_box_that_they_enter_end_in_or_lie_in() -> None:
    box = np.array([[10.0, 10.0, 20.0, 20.0]])
    segments = np.array([
        (0, 15, 30, 15), (15, 15, 30, 40), (12, 12, 18, 13), (5, 0, 40, 35), (15, 0, 15, 12),
        (0, 25, 30, 25), (0, 15, 9, 15), (0, 0, 9, 40), (0, 0, 8, 8), (25, 0, 25, 40),
    ], float)  # fmt: skip

    assert touches(segments, box)[:, 0].tolist() == [True] * 5 + [False] * 5
