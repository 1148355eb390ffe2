"""Draws windows of a layout from a seed, with their exact polygons."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.data.formats.rasterize import Mask, Points, fill
from benchmark.data.layouts.cells import Role
from benchmark.data.layouts.layout_source import Layout, WindowPosition
from benchmark.data.specs import Layer
from benchmark.data.synthetic.standins import LEAST_SHARE, LEAST_VIA_SHARE, shows_both, stream
from benchmark.utils.errors import UserError

GRID_PX = 1e-6  # grid of the corners at which polygons cut each other or the window's border
TRIES = 1000  # positions for a window
PITCH_NM = (0.1, 1e5)  # of pixels: from a tenth of an atom to a tenth of a millimetre


@dataclass(frozen=True)
class Window:
    """The exact content of a window."""

    dataset: str  # name of the dataset
    sha256: str  # of the layout's bytes
    index: int  # number of the window in its dataset, from 0
    height: int  # pixels
    width: int  # pixels
    nm_per_pixel: float  # side of a pixel
    origin_nm: tuple[float, float]  # x and y of the lower left corner in the layout
    # role -> polygons ``(n, 2)`` in pixels, x to the right and y down from the upper left corner; one per net of the
    # layer: they are merged, cut by the window's border, and slits join holes to their outlines
    polygons: Mapping[Role, tuple[Points, ...]]

    def mask(self, role: Role) -> Mask:
        """Return the pixels ``(H, W)`` with a centre in a polygon of the role."""
        return fill(self.polygons.get(role, ()), (self.height, self.width))

    @property
    def visible(self) -> tuple[Points, ...]:
        """The tracks ``(n, 2)`` within the rectangle of the outermost pixels' centres.

        The border may leave a strip of a net, narrower than half a pixel, that holds no centre. This net is invisible
        or falls into parts that only the strip joins.
        """
        import gdstk

        # A centre on an edge belongs to the polygon to its right or below: the last ones need a hair of room.
        frame = gdstk.rectangle((0.5, 0.5), (self.width - 0.5 + 10 * GRID_PX, self.height - 0.5 + 10 * GRID_PX))
        tracks = gdstk.boolean(list(self.polygons.get("track", ())), [frame], "and", precision=GRID_PX)
        shape = (self.height, self.width)
        return tuple(polygon.points for polygon in tracks if fill([polygon.points], shape).any())


def windows(
    layout: Layout,
    count: int,
    *,
    height: int,
    width: int,
    nm_per_pixel: float,
    seed: int = 0,
    target: Layer = "track",
) -> list[Window]:
    """Draw windows at random positions.

    A position is drawn again if the window overlaps an earlier window of the same area, which a split could put into
    another part, or if it shows too little of the target or of background; see
    :func:`~benchmark.data.synthetic.standins.shows_both`.

    Args:
        layout: source of the windows.
        count: number of windows.
        height: pixels, at least 64.
        width: pixels, at least 64.
        nm_per_pixel: side of a pixel, 0.1 to 100,000.
        seed: of the whole set, at least 0. The first windows are the same for any count.
        target: a role that each window shows.

    Raises:
        UserError: sizes, count, pitch or seed out of range; a window larger than the layout; too few positions.
    """
    if min(height, width) < 64 or count < 1 or seed < 0:
        raise UserError(
            f"{layout.name}: found height {height}, width {width}, count {count}, seed {seed}; "
            "expected at least 64 pixels a side, 1 image and a seed of 0"
        )
    if not PITCH_NM[0] <= nm_per_pixel <= PITCH_NM[1]:
        raise UserError(f"--nm-per-pixel {nm_per_pixel:g}: expected {PITCH_NM[0]:g} to {PITCH_NM[1]:g}")
    drawn: list[Window] = []
    for index in range(count):
        rng = stream(seed, layout.sha256, index, "layout")
        for _ in range(TRIES):
            position = layout.draw(rng, height * nm_per_pixel, width * nm_per_pixel)
            if layout.is_one_piece and _overlaps(position, drawn):
                continue
            window = cut(layout, position, index, height, width, nm_per_pixel)
            if shows_both(window.mask("track"), window.mask("via"), target):
                drawn.append(window)
                break
        else:
            raise _too_few(layout, len(drawn), count, target)
    return drawn


def cut(layout: Layout, position: WindowPosition, index: int, height: int, width: int, nm_per_pixel: float) -> Window:
    """Return the window at a position; arguments are a :class:`Window`'s.

    Raises:
        UserError: more shapes than an image can show.
    """
    import gdstk

    left, top = position.x, position.y + height * nm_per_pixel
    drawn = position.hierarchy.polygons(position.top, (left, position.y, left + width * nm_per_pixel, top))
    frame = [gdstk.rectangle((0, 0), (width, height))]
    polygons = {}
    for role, shapes in drawn.items():
        flipped = [np.column_stack([corners[:, 0] - left, top - corners[:, 1]]) / nm_per_pixel for corners in shapes]
        merged = gdstk.boolean(flipped, frame, "and", precision=GRID_PX)
        polygons[role] = tuple(polygon.points for polygon in merged)
    return Window(layout.name, layout.sha256, index, height, width, nm_per_pixel, (left, position.y), polygons)


def _overlaps(position: WindowPosition, others: Sequence[Window]) -> bool:
    return any(
        abs(position.x - other.origin_nm[0]) < other.width * other.nm_per_pixel
        and abs(position.y - other.origin_nm[1]) < other.height * other.nm_per_pixel
        for other in others
    )


def _too_few(layout: Layout, drawn: int, count: int, target: Layer) -> UserError:
    least = LEAST_VIA_SHARE if target == "via" else LEAST_SHARE
    rule = f"at least {least:.1%} {target} and as much background"
    if not drawn:
        return UserError(
            f"{layout.name}: none of {TRIES} places shows {rule}; expected a pitch at which the layers fill an image: "
            "correct --layers, --nm-per-pixel, --height or --width"
        )
    return UserError(
        f"{layout.name}: found places for {drawn} windows that show {rule} and do not overlap, expected {count}: "
        f"ask for --count {drawn}, or lower --nm-per-pixel, --height or --width"
    )


def outlined_area(corners: Points) -> tuple[float, tuple[float, float]]:
    """Return a polygon's area and centre of gravity, from its corners ``(n, 2)``; slits cancel out."""
    # About the first corner, since the products of large coordinates would lose digits.
    x, y = (corners - corners[0]).T
    cross = x * np.roll(y, -1) - y * np.roll(x, -1)
    area = float(cross.sum()) / 2
    if math.isclose(area, 0, abs_tol=GRID_PX**2):
        return 0.0, (float(corners[0, 0]), float(corners[0, 1]))
    centre = [float(((side + np.roll(side, -1)) * cross).sum()) / (6 * area) for side in (x, y)]
    return abs(area), (float(corners[0, 0]) + centre[0], float(corners[0, 1]) + centre[1])
