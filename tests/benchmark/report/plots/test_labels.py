from __future__ import annotations

import itertools

import numpy as np
import pytest

from benchmark.report.plots.labels import Box, place

FRAME = Box(0, 0, 1100, 700)


def marks_of(points: list[tuple[float, float]]) -> list[Box]:
    return [Box(x - 9, y - 9, x + 9, y + 9) for x, y in points]


@pytest.mark.parametrize("seed", range(8))
def test_eleven_random_points_get_labels_that_overlap_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Half of the points crowd together, as networks of one family do.
    crowd = rng.normal((300, 350), (60, 40), (6, 2)).tolist()
    points = [(x, y) for x, y in crowd + rng.uniform((60, 60), (1000, 640), (5, 2)).tolist()]
    sizes = [(float(width), 26.0) for width in rng.uniform(70, 150, 11)]
    marks = marks_of(points)

    placed = place(points, sizes, [11.0] * 11, FRAME, marks)

    for one, two in itertools.combinations(placed, 2):
        assert one.box.overlap(two.box) == 0
    for label in placed:
        assert label.box.overlap(FRAME) == pytest.approx(label.box.area)
        assert all(label.box.overlap(mark) == 0 for mark in marks)
    assert placed == place(points, sizes, [11.0] * 11, FRAME, marks)


def test_a_lone_label_stands_right_of_its_point_without_a_leader() -> None:
    (label,) = place([(500, 300)], [(100, 26)], [11.0], FRAME, marks_of([(500, 300)]))

    assert label.leader is None
    assert (label.box.left, label.box.bottom, label.box.top) == pytest.approx((511, 287, 313))


def test_a_label_at_the_right_edge_moves_inside() -> None:
    (label,) = place([(1090, 300)], [(100, 26)], [11.0], FRAME, marks_of([(1090, 300)]))

    assert label.box.right <= FRAME.right
    assert label.box.overlap(marks_of([(1090, 300)])[0]) == 0


def test_a_label_that_had_to_move_has_a_leader_from_its_point() -> None:
    points = [(500.0, 300.0 + 4 * step) for step in range(9)]

    placed = place(points, [(100, 26)] * 9, [11.0] * 9, FRAME, marks_of(points))

    moved = [(label, point) for label, point in zip(placed, points, strict=True) if label.leader is not None]
    assert moved
    assert all(label.leader == (point, label.box.nearest(point)) for label, point in moved)


def test_labels_avoid_the_front_line_where_there_is_room() -> None:
    line = ((400.0, 300.0), (700.0, 300.0))

    (label,) = place([(500, 300)], [(100, 26)], [11.0], FRAME, marks_of([(500, 300)]), [line])

    assert not label.box.crossed_by(line)


@pytest.mark.parametrize(
    ("line", "crosses"),
    [
        (((-5, 5), (15, 5)), True),
        (((5, 5), (6, 6)), True),
        (((-5, 5), (-1, 5)), False),
        (((-5, 0), (5, 20)), False),
        (((12, -5), (12, 20)), False),
    ],
)
def test_a_segment_crosses_a_box(line: tuple[tuple[float, float], tuple[float, float]], crosses: bool) -> None:
    assert Box(0, 0, 10, 10).crossed_by(line) is crosses
