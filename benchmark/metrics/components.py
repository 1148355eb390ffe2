"""Connected components of masks and their overlaps, found on runs of pixels instead of label images.

A run is a maximal horizontal stretch of foreground. An image of tracks has a hundred times fewer runs than pixels, so
that everything after one pass over the mask costs next to nothing; noise, the worst case, costs two to three times
what a label image would. Runs are stored as flat positions ``y * (W + 1) + x``: the column beyond the last one is
always background and keeps the ends of neighbouring rows apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

Mask = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int32 | np.int64]


@dataclass(frozen=True, eq=False)
class Components:
    """The 8-connected components of one mask, numbered from 0 in the raster order of their first pixels.

    Attributes:
        shape: the mask's (H, W).
        starts: (R,) flat position where each run begins, ascending.
        ends: (R,) flat position behind each run's last pixel.
        labels: (R,) the component of each run.
        count: number of components.
    """

    shape: tuple[int, int]
    starts: Integers
    ends: Integers
    labels: npt.NDArray[np.int32]
    count: int

    @classmethod
    def of(cls, mask: Mask) -> Components:
        """Find the components of a ``(H, W)`` bool mask.

        Raises:
            ValueError: the mask is not two-dimensional or not bool.
        """
        return _find(mask)[0]

    @cached_property
    def area_px(self) -> Integers:
        """(count,) pixels of each component."""
        return self.total(self.ends - self.starts)

    def total(self, per_run: npt.NDArray[np.int64]) -> Integers:
        """Sum an integer per run over each component; exact below 2**53, where bincount's float64 ends."""
        return np.bincount(self.labels, per_run, self.count).astype(np.int64)

    def centroids(self) -> npt.NDArray[np.float64]:
        """Return each component's mean (y, x) in pixels, ``(count, 2)``."""
        stride = self.shape[1] + 1
        row = self.starts // stride
        length = self.ends - self.starts
        # A run's x sum to length * (first + last) / 2; the product is even, so that integers suffice.
        x_sum = length * (self.starts + self.ends - 2 * row * stride - 1) // 2
        return np.stack([self.total(row * length), self.total(x_sum)], axis=1) / self.area_px[:, None]

    def reach_interior(self, border_px: int) -> Mask:
        """Say of each component, (count,), whether a pixel of it lies at least ``border_px`` from the image's edges."""
        height, width = self.shape
        stride = width + 1
        row = self.starts // stride
        first = np.maximum(self.starts - row * stride, border_px)
        last = np.minimum(self.ends - row * stride, width - border_px)
        inside = (row >= border_px) & (row < height - border_px) & (first < last)
        reach = np.zeros(self.count, np.bool_)
        reach[self.labels[inside]] = True
        return reach

    def paint(self, chosen: Mask) -> Mask:
        """Return the ``(H, W)`` mask of the components that ``chosen``, (count,), holds."""
        height, width = self.shape
        framed = np.zeros(height * (width + 1), np.bool_)
        runs = chosen[self.labels]
        _, pixels = _ranges(self.starts[runs], self.ends[runs])
        framed[pixels] = True
        return framed.reshape(height, width + 1)[:, :width]


@dataclass(frozen=True, eq=False)
class Overlap:
    """The components of a truth and a prediction with the pairs that share pixels: the sparse histogram of label pairs.

    Attributes:
        truth: components of the ground truth.
        prediction: components of the prediction.
        truth_index: (K,) truth component of each pair, ascending.
        predicted_index: (K,) predicted component of each pair, ascending within a truth component.
        intersection_px: (K,) pixels shared by the pair, all positive.
    """

    truth: Components
    prediction: Components
    truth_index: Integers
    predicted_index: Integers
    intersection_px: Integers

    @classmethod
    def of(cls, truth: Mask, prediction: Mask) -> Overlap:
        """Find the components of two ``(H, W)`` bool masks and the pairs that share pixels.

        Raises:
            ValueError: the masks differ in shape, or one is not a two-dimensional bool array.
        """
        if truth.shape != prediction.shape:
            raise ValueError(f"truth is {truth.shape} and prediction {prediction.shape}; expected the same (H, W)")
        g, p = _find(truth, prediction)
        indptr, p_run = _overlapping_runs(g.starts, g.ends, p.starts, p.ends)
        g_run = np.repeat(np.arange(len(g.starts)), np.diff(indptr))
        shared = np.minimum(g.ends[g_run], p.ends[p_run]) - np.maximum(g.starts[g_run], p.starts[p_run])
        # What falls on the same pair of components is summed, in integers.
        pair = g.labels[g_run] * np.int64(p.count) + p.labels[p_run]
        order = np.argsort(pair)
        pair = pair[order]
        opening = openings(pair)
        truth_index, predicted_index = np.divmod(pair[opening], max(p.count, 1))
        return cls(g, p, truth_index, predicted_index, np.add.reduceat(shared[order], opening, dtype=np.int64))

    @cached_property
    def union_px(self) -> Integers:
        """(K,) pixels of each pair's union."""
        areas = self.truth.area_px[self.truth_index] + self.prediction.area_px[self.predicted_index]
        return areas - self.intersection_px


def openings(ascending: Labels) -> Integers:
    """Return where each group of equal values begins."""
    new = np.ones(len(ascending), np.bool_)
    np.not_equal(ascending[1:], ascending[:-1], out=new[1:])
    return np.flatnonzero(new)


def _find(*masks: Mask) -> list[Components]:
    """Find the components of ``(H, W)`` bool masks, in one go: half of the time for one mask is fixed cost of calls.

    The masks lie below each other with an empty row between, which no component crosses.
    """
    for mask in masks:
        if mask.ndim != 2 or mask.dtype != np.bool_:
            raise ValueError(f"expected a (H, W) bool mask, got shape {mask.shape} of {mask.dtype}")
    height, width = masks[0].shape
    stride, size = width + 1, (height + 1) * (width + 1)
    framed = np.zeros(len(masks) * size + 1, np.bool_)
    for place, mask in zip(framed[1:].reshape(len(masks), height + 1, stride), masks, strict=True):
        place[:height, :width] = mask
    edges = np.flatnonzero(framed[1:] != framed[:-1])
    starts, ends = np.ascontiguousarray(edges[::2]), np.ascontiguousarray(edges[1::2])
    # Runs touch, diagonals included, where one grown by a pixel on either side overlaps one of the row below.
    indptr, indices = _overlapping_runs(starts + (stride - 1), ends + (stride + 1), starts, ends)
    # The weights mean nothing; scipy would convert any but float64.
    graph = csr_array((np.ones(len(indices)), indices, indptr), shape=(len(starts), len(starts)))
    _, labels = connected_components(graph, directed=False)
    found, first_run, first_label = [], 0, 0
    for index in range(len(masks)):
        offset = index * size
        run = first_run + int(np.searchsorted(starts[first_run:], offset + size))
        here = slice(first_run, run)
        count = int(labels[here].max(initial=first_label - 1)) + 1 - first_label
        found.append(Components((height, width), starts[here] - offset, ends[here] - offset, labels[here] - first_label, count))
        first_run, first_label = run, first_label + count
    return found


def _overlapping_runs(
    starts: Integers, ends: Integers, other_starts: Integers, other_ends: Integers
) -> tuple[Integers, Integers]:
    """Return, in CSR form, which of the other runs overlap each run; both lists ascend."""
    first = np.searchsorted(other_ends, starts, side="right")
    last = np.searchsorted(other_starts, ends, side="left")
    return _ranges(first, last)


def _ranges(first: Integers, last: Integers) -> tuple[Integers, Integers]:
    """Return ``(indptr, values)`` of the concatenated ranges ``first[i]:last[i]``."""
    indptr = np.zeros(len(first) + 1, np.int64)
    np.cumsum(last - first, out=indptr[1:])
    return indptr, np.arange(indptr[-1]) + np.repeat(first - indptr[:-1], last - first)
