"""Geometry of a track mask as numbers, measured alike on real labels and on generated masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

BoolMask = NDArray[np.bool_]

# Net ends, corners and via pads are rarely longer than this; only longer straight pieces tell width and pitch.
STRAIGHT_PX = 64
# HY5SYN labels break vias into pieces; about a quarter of its circles have a radius below 8 px.
SMALLEST_VIA_PX2 = 80


@dataclass(frozen=True)
class LayoutStatistics:
    """What a mask looks like as a layout; lengths in pixels, shares in [0, 1], NaN where the mask holds no answer.

    Attributes:
        foreground_share: track pixels over all pixels.
        width_p05_px: 5 % quantile of the width of straight track, each pixel of length counted once.
        width_px: its median.
        width_p95_px: its 95 % quantile.
        preferred_share: share of the straight length that runs in the commoner of the two axis directions.
        pitch_px: period of the centre lines of straight tracks in the preferred direction.
        length_px: median over nets of area over median width.
        length_p95_px: its 95 % quantile.
        nets_per_window: mean number of nets (8-connected components) in a window.
        vias_per_net: mean number of vias on a net.
        vias_per_net_median: its median.
    """

    foreground_share: float
    width_p05_px: float
    width_px: float
    width_p95_px: float
    preferred_share: float
    pitch_px: float
    length_px: float
    length_p95_px: float
    nets_per_window: float
    vias_per_net: float
    vias_per_net_median: float


def layout_statistics(
    track: BoolMask, via: BoolMask | None = None, *, window: int = 1024, straight: int = STRAIGHT_PX
) -> LayoutStatistics:
    """Measure a mask.

    Args:
        track: ``(H, W)`` bool, true on metal.
        via: ``(H, W)`` bool, true on vias; without it the via figures are NaN.
        window: side of the windows in which nets are counted, pixels; at most the shorter side is used.
        straight: shortest run that counts as a straight track, pixels.

    Raises:
        ValueError: the masks are not two-dimensional and of one size.
    """
    if track.ndim != 2 or (via is not None and via.shape != track.shape):
        found = track.shape if via is None else (track.shape, via.shape)
        raise ValueError(f"expected masks of shape (H, W), alike for tracks and vias, found {found}")
    horizontal, across = _straight_pieces(track, straight), _straight_pieces(track.T, straight)
    length_h, length_v = len(horizontal[0]), len(across[0])
    _, centres, slabs = horizontal if length_h >= length_v else across
    all_widths = np.concatenate([horizontal[0], across[0]])
    quantiles = np.quantile(all_widths, [0.05, 0.5, 0.95]) if all_widths.size else np.full(3, np.nan)

    nets, count = _components(track)
    lengths = np.bincount(nets.ravel(), minlength=1)[1:] / quantiles[1]
    side = min(window, *track.shape)
    tiles = [
        _components(track[y : y + side, x : x + side])[1]
        for y in range(0, track.shape[0] - side + 1, side)
        for x in range(0, track.shape[1] - side + 1, side)
    ]
    vias = _vias_per_net(nets, count, via) if via is not None and count else np.array([np.nan])
    return LayoutStatistics(
        foreground_share=float(track.mean()),
        width_p05_px=float(quantiles[0]),
        width_px=float(quantiles[1]),
        width_p95_px=float(quantiles[2]),
        preferred_share=max(length_h, length_v) / (length_h + length_v) if all_widths.size else float("nan"),
        pitch_px=_period(centres, slabs, float(quantiles[1])),
        length_px=float(np.median(lengths)) if count else float("nan"),
        length_p95_px=float(np.quantile(lengths, 0.95)) if count else float("nan"),
        nets_per_window=float(np.mean(tiles)),
        vias_per_net=float(vias.mean()),
        vias_per_net_median=float(np.median(vias)),
    )


def _straight_pieces(
    track: BoolMask, straight: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Find the vertical cuts through horizontal tracks: their widths, centre rows and 512-pixel slabs of columns.

    A cut belongs to a horizontal track where it is shorter than the horizontal run through its middle, and that run
    is at least ``straight`` pixels long.
    """
    begins, runs = _runs(track)
    starts, spans = _runs(track.T)
    columns = np.repeat(np.arange(len(starts)), [len(s) for s in starts])
    tops, widths = np.concatenate(starts), np.concatenate(spans)
    run_lengths = _run_length_map(track.shape, begins, runs)
    middle = run_lengths[tops + widths // 2, columns] if widths.size else np.zeros(0, np.int64)
    keep = (middle >= straight) & (widths < middle)
    return widths[keep], (tops + (widths - 1) / 2)[keep], columns[keep] // 512


def _runs(mask: BoolMask) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
    """Return per row the start and the length of each run of true pixels."""
    padded = np.zeros((mask.shape[0], mask.shape[1] + 2), np.int8)
    padded[:, 1:-1] = mask
    steps = np.diff(padded, axis=1)
    rows, begin = np.nonzero(steps == 1)
    end = np.nonzero(steps == -1)[1]
    cuts = np.searchsorted(rows, np.arange(1, mask.shape[0]))
    return np.split(begin, cuts), np.split(end - begin, cuts)


def _run_length_map(
    shape: tuple[int, ...], starts: list[NDArray[np.int64]], spans: list[NDArray[np.int64]]
) -> NDArray[np.int64]:
    """Paint each run's length onto its pixels."""
    rows = np.repeat(np.arange(shape[0]), [len(s) for s in starts])
    begin, span = np.concatenate(starts), np.concatenate(spans)
    painted = np.zeros((shape[0], shape[1] + 1), np.int64)
    painted[rows, begin] = span
    painted[rows, begin + span] = -span
    return np.cumsum(painted, axis=1)[:, :-1]


def _period(centres: NDArray[np.float64], slabs: NDArray[np.int64], width: float) -> float:
    """Return the period of the centres with the strongest harmonic sum, looking from 1.3 to 4 track widths.

    The phase may differ from slab to slab, since stages turn and images shear.
    """
    if not centres.size:
        return float("nan")
    periods = np.arange(1.3 * width, 4 * width, 0.1)
    power = np.zeros(len(periods))
    for slab in np.unique(slabs):
        rows, times = np.unique(centres[slabs == slab], return_counts=True)
        waves = np.exp(2j * np.pi * rows[None] / periods[:, None]) @ times
        power += np.abs(waves) ** 2 / times.sum() ** 2
    return float(periods[np.argmax(power)])


def _vias_per_net(nets: NDArray[np.int32], count: int, via: BoolMask) -> NDArray[np.float64]:
    """Count vias on each net; a blob of several touching vias counts by its area."""
    blobs, blob_count = _components(via)
    areas = np.bincount(blobs.ravel(), minlength=blob_count + 1)
    numbers = 1 + np.flatnonzero(areas[1:] >= SMALLEST_VIA_PX2)
    if not numbers.size:
        return np.zeros(count)
    owners = np.zeros(blob_count + 1, np.int64)
    on_track = via & (nets > 0)
    owners[blobs[on_track]] = nets[on_track]
    times = np.maximum(np.rint(areas[numbers] / np.median(areas[numbers])), 1)
    per_net = np.bincount(owners[numbers], times, minlength=count + 1)[1:]
    return per_net.astype(np.float64)


def _components(mask: BoolMask) -> tuple[NDArray[np.int32], int]:
    """Number the 8-connected components from 1; return the numbers and how many there are."""
    numbers = np.zeros(mask.shape, np.int32)
    count = ndimage.label(mask, structure=np.ones((3, 3)), output=numbers)
    return numbers, int(count)
