"""Layout statistics on masks whose figures are known by construction."""

from __future__ import annotations

import numpy as np
import pytest

from tests.benchmark.data.layout_statistics import layout_statistics


def comb() -> np.ndarray:
    """Ten horizontal tracks, 12 px wide on a pitch of 30 px, and one vertical one of the same width."""
    mask = np.zeros((400, 600), np.bool_)
    for line in range(10):
        mask[20 + 30 * line : 32 + 30 * line, 50:450] = True
    mask[20:320, 500:512] = True
    return mask


def test_known_statistics_are_measured() -> None:
    via = np.zeros((400, 600), np.bool_)
    y, x = np.ogrid[:400, :600]
    for centre in (80, 120, 200):
        via |= (y - 26) ** 2 + (x - centre) ** 2 <= 6**2
    result = layout_statistics(comb(), via)
    assert result.foreground_share == pytest.approx((10 * 400 * 12 + 300 * 12) / (400 * 600))
    assert (result.width_p05_px, result.width_px, result.width_p95_px) == (12, 12, 12)
    assert result.pitch_px == pytest.approx(30, abs=0.2)
    assert result.preferred_share == pytest.approx(4000 / 4300)
    assert result.length_px == pytest.approx(400)
    assert result.nets_per_window == 10.0  # the window of 400x400 shows the ten horizontal tracks
    assert result.vias_per_net == pytest.approx(3 / 11)
    assert result.vias_per_net_median == 0


def test_turning_the_mask_changes_only_direction() -> None:
    upright, turned = (
        layout_statistics(comb(), window=300),
        layout_statistics(np.ascontiguousarray(comb().T), window=300),
    )
    assert upright.pitch_px == turned.pitch_px
    assert upright.preferred_share == turned.preferred_share
    assert upright.width_px == turned.width_px


def test_touching_vias_count_by_area_and_specks_are_ignored() -> None:
    track = np.ones((100, 200), np.bool_)
    via = np.zeros_like(track)
    y, x = np.ogrid[:100, :200]
    for centre in (30, 100, 123, 170):
        via |= (y - 50) ** 2 + (x - centre) ** 2 <= 12**2
    via[5:9, 5:9] = True
    assert layout_statistics(track, via).vias_per_net == 4


def test_empty_mask_has_no_lengths() -> None:
    result = layout_statistics(np.zeros((64, 64), np.bool_))
    assert result.foreground_share == 0
    assert result.nets_per_window == 0
    assert all(np.isnan(v) for v in (result.width_px, result.pitch_px, result.length_px, result.preferred_share))


def test_masks_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(H, W\)"):
        layout_statistics(np.zeros((8, 8), np.bool_), np.zeros((8, 9), np.bool_))
