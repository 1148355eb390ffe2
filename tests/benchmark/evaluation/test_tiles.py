from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.evaluation.tiles import CUT, TileAxis, TileGrid
from benchmark.utils.errors import UserError


@st.composite
def axes(draw: st.DrawFn) -> TileAxis:
    multiple = draw(st.sampled_from([1, 2, 4, 8, 32]))
    tile = multiple * draw(st.integers(1, 12))
    overlap = draw(st.integers(0, tile - multiple))
    return TileAxis(draw(st.integers(1, 700)), tile, overlap, multiple)


@given(axes())
def test_weights_of_all_tiles_sum_to_one_at_every_pixel(axis: TileAxis) -> None:
    total = np.zeros(axis.padded)
    for start, weights in zip(axis.starts, axis.weights, strict=True):
        assert (weights >= 0).all()
        total[start : start + axis.tile] += weights
    np.testing.assert_allclose(total, 1, atol=1e-6)


@given(axes())
def test_tiles_cover_the_image_begin_at_multiples_and_share_what_was_asked_for(axis: TileAxis) -> None:
    assert axis.starts[0] == 0
    assert axis.starts[-1] + axis.tile == axis.padded >= axis.size
    assert axis.padded - axis.size < max(axis.multiple, axis.tile - axis.size + 1)
    assert all(start % axis.multiple == 0 for start in axis.starts)
    steps = np.diff(axis.starts)
    assert (steps > 0).all()
    assert (axis.tile - steps >= axis.overlap).all()
    assert axis.overlap <= axis.shared < axis.overlap + axis.multiple


@given(axes())
def test_only_the_image_s_own_border_counts_up_to_a_tile_s_edge(axis: TileAxis) -> None:
    cut = axis.shared // CUT
    for start, weights in zip(axis.starts, axis.weights, strict=True):
        ends = (weights[:cut] == 0).all(), (weights[axis.tile - cut :] == 0).all()
        assert ends == (start > 0 or cut == 0, start + axis.tile < axis.padded or cut == 0)


def test_middle_third_of_an_overlap_is_blended_by_gaussians() -> None:
    axis = TileAxis(162, 96, 30)
    first, second = axis.weights
    assert axis.starts == (0, 66)
    blend = first[76:86]
    assert (blend > 0).all()
    assert (np.diff(blend) < 0).all()
    # Both windows are centred Gaussians over the 76 pixels that are kept of a tile, at eight standard deviations.
    sigma = 76 / 8
    place = np.arange(76, 86)
    left, right = (np.exp(-((place - middle) ** 2) / (2 * sigma**2)) for middle in (47.5, 66 + 47.5))
    np.testing.assert_allclose(blend, left / (left + right), rtol=1e-5)
    np.testing.assert_allclose(blend, second[10:20][::-1], rtol=1e-5)


@pytest.mark.parametrize(
    ("tile", "overlap", "message"),
    [
        (100, 0, "--tile 100: the network takes sides that divide by 32; use --tile 96"),
        (8, 0, "use --tile 32"),
        (96, 65, "--overlap 65: expected 0 to 64 pixels with tiles of 96"),
        (96, -1, "--overlap -1"),
    ],
)
def test_tiles_that_cannot_be_are_refused(tile: int, overlap: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        TileAxis(500, tile, overlap, 32)


def test_grid_counts_its_tiles() -> None:
    grid = TileGrid.of((100, 200), 64, 16, 8)
    assert len(grid) == len(grid.rows.starts) * len(grid.columns.starts) == 2 * 4
