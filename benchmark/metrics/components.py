"""Computes connected components of masks and their overlaps on runs of pixels.

A run is a maximal horizontal stretch of foreground. An image of tracks has a hundred times fewer runs than pixels, so
only the first pass over the mask costs time; noise, the worst case, costs two to three times as much as a label image.
Runs are stored as flat positions ``y * (W + 1) + x``: the column beyond the last one is always background and keeps the
ends of neighbouring rows apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Components:
    """The 8-connected components of a mask, numbered from 0 in the raster order of their first pixels."""

    shape: tuple[int, int]  # the mask's (H, W)
    starts: Integers  # (R,) flat position of each run's first pixel, ascending
    ends: Integers  # (R,) flat position behind each run's last pixel
    labels: Integers  # (R,) component of each run
    count: int  # number of components

    @classmethod
    def of(cls, mask: Mask) -> Components:
        """Find the components of a ``(H, W)`` bool mask.

        Raises:
            ValueError: the mask is not two-dimensional or not bool.
        """
        return cls._of_edges(mask.shape, _edges(_framed(_checked(mask).view(np.uint8))))

    @classmethod
    def _of_edges(cls, shape: tuple[int, int], edges: Integers) -> Components:
        starts, ends = np.ascontiguousarray(edges[::2]), np.ascontiguousarray(edges[1::2])
        count, labels = _label(starts, ends, shape[1] + 1)
        return cls(shape, starts, ends, labels, count)

    @cached_property
    def area_px(self) -> Integers:
        """(count,) pixels of each component."""
        return self.total(self.ends - self.starts)

    @cached_property
    def holes(self) -> int:
        """Number of 4-connected parts of the background that do not reach the image's edge."""
        # Runs and touching pairs of them are a graph, and around each hole leads one of its independent cycles.
        first, last = _above(self.starts, self.ends, self.shape[1] + 1)
        return int((last - first).sum()) - len(self.starts) + self.count

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
        """Tell of each component, (count,), whether it has a pixel at least ``border_px`` from the image's edges."""
        height, width = self.shape
        row, first, behind = self._rows()
        first, last = np.maximum(first, border_px), np.minimum(behind, width - border_px)
        inside = (row >= border_px) & (row < height - border_px) & (first < last)
        reach = np.zeros(self.count, np.bool_)
        reach[self.labels[inside]] = True
        return reach

    def boxes(self) -> Integers:
        """Return each component's bounding box, ``(count, 4)``: left, top, and behind its last pixels right, bottom."""
        row, first, behind = self._rows()
        boxes = np.tile([self.shape[1], self.shape[0], 0, 0], (self.count, 1))
        for column, least in ((0, first), (1, row)):
            np.minimum.at(boxes[:, column], self.labels, least)
        for column, most in ((2, behind), (3, row + 1)):
            np.maximum.at(boxes[:, column], self.labels, most)
        return boxes

    def cuts(self) -> Iterator[tuple[int, int, Mask]]:
        """Yield each component's left, its top, and its mask ``(h, w)`` cut to its bounding box."""
        order = np.argsort(self.labels, kind="stable")
        row, first, behind = (values[order] for values in self._rows())
        begins = np.searchsorted(self.labels[order], np.arange(self.count + 1))
        for index, (left, top, right, bottom) in enumerate(self.boxes().tolist()):
            runs = slice(begins[index], begins[index + 1])
            cut = np.zeros((bottom - top, right - left), np.bool_)
            offset = (row[runs] - top) * (right - left) - left
            cut.ravel()[ranges(offset + first[runs], offset + behind[runs])] = True
            yield left, top, cut

    def _rows(self) -> tuple[Integers, Integers, Integers]:
        """Return each run's row, first column, and column behind its last."""
        row = self.starts // (self.shape[1] + 1)
        return row, self.starts - row * (self.shape[1] + 1), self.ends - row * (self.shape[1] + 1)

    def paint(self, chosen: Mask) -> Mask:
        """Return the ``(H, W)`` mask of the components that ``chosen``, (count,), holds."""
        height, width = self.shape
        framed = np.zeros((height, width + 1), np.bool_)
        runs = chosen[self.labels]
        framed.ravel()[ranges(self.starts[runs], self.ends[runs])] = True
        return framed[:, :width]

    def touched(self, others: Components) -> Integers:
        """Count for each component, (count,), those of another mask of this shape that it touches or overlaps."""
        stride = self.shape[1] + 1
        pairs = []
        for shift in (-stride, 0, stride):
            first = np.searchsorted(others.ends, self.starts + shift - 1, side="right")
            last = np.searchsorted(others.starts, self.ends + shift + 1, side="left")
            own = np.repeat(self.labels, last - first)
            pairs.append(np.unique(own * max(others.count, 1) + others.labels[ranges(first, last)]))
        return np.bincount(np.unique(np.concatenate(pairs)) // max(others.count, 1), minlength=self.count)


@dataclass(frozen=True, eq=False)
class Overlap:
    """The components of a truth and a prediction, and the pairs of them that share pixels."""

    truth: Components  # components of the ground truth
    prediction: Components  # components of the prediction
    truth_index: Integers  # (K,) truth component of each pair, ascending
    predicted_index: Integers  # (K,) predicted component of each pair, ascending within a truth component
    intersection_px: Integers  # (K,) pixels shared by the pair, all positive

    @classmethod
    def of(cls, truth: Mask, prediction: Mask) -> Overlap:
        """Find the components of two ``(H, W)`` bool masks and the pairs that share pixels.

        Raises:
            ValueError: the masks differ in shape, or one is not a two-dimensional bool array.
        """
        if truth.shape != prediction.shape:
            raise ValueError(f"truth is {truth.shape} and prediction {prediction.shape}; expected the same (H, W)")
        # One pass finds the changes of either mask; shared pixels lie between two neighbours of these edges.
        in_g, in_p = _checked(truth).view(np.uint8), _checked(prediction).view(np.uint8)
        framed = _framed(in_g + (in_p + in_p))  # bit 0 and bit 1; numpy adds faster than it shifts
        edges = _edges(framed)
        after = framed[1:][edges]
        turns = after.copy()
        turns[1:] ^= after[:-1]
        g_turns, p_turns = (turns & 1).view(np.bool_), (turns >> 1).view(np.bool_)
        g, p = (Components._of_edges(truth.shape, edges[np.flatnonzero(turned)]) for turned in (g_turns, p_turns))

        both = np.flatnonzero(after == 3)
        shared = edges[both + 1] - edges[both]
        # At a pixel of its run r, a mask has turned 2 r + 1 times.
        g_run, p_run = np.cumsum(g_turns)[both] // 2, np.cumsum(p_turns)[both] // 2
        pair = g.labels[g_run] * p.count + p.labels[p_run]
        # numpy sorts 16 bits by radix, and nearly sorted values by merging.
        order = np.argsort(pair.astype(np.min_scalar_type(g.count * p.count)), kind="stable")
        pair = pair[order]
        opening = openings(pair)
        truth_index, predicted_index = np.divmod(pair[opening], max(p.count, 1))
        return cls(g, p, truth_index, predicted_index, np.add.reduceat(shared[order], opening, dtype=np.int64))

    @cached_property
    def union_px(self) -> Integers:
        """(K,) pixels of each pair's union."""
        areas = self.truth.area_px[self.truth_index] + self.prediction.area_px[self.predicted_index]
        return areas - self.intersection_px


def openings(ascending: Integers) -> Integers:
    """Return the index of the first member of each group of equal values."""
    return np.flatnonzero(np.concatenate([np.ones(len(ascending[:1]), np.bool_), ascending[1:] != ascending[:-1]]))


def _checked(mask: Mask) -> Mask:
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise ValueError(f"expected a (H, W) bool mask, got shape {mask.shape} of {mask.dtype}")
    return mask


def _framed(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return a 0, then the pixels row by row, each row followed by a 0."""
    height, width = codes.shape
    framed = np.zeros(height * (width + 1) + 1, np.uint8)
    framed[1:].reshape(height, width + 1)[:, :width] = codes
    return framed


def _edges(framed: npt.NDArray[np.uint8]) -> Integers:
    """Return the flat positions whose value differs from the one before."""
    return np.flatnonzero(framed[1:] != framed[:-1])


def _label(starts: Integers, ends: Integers, stride: int) -> tuple[int, Integers]:
    """Return the number of components of runs, and the component of each run.

    scipy's ``connected_components`` returns the same, but on the few thousand runs of a track layout its checks and
    conversions of the graph alone take longer than this function.
    """
    first, last = _above(starts, ends, stride)
    run = np.arange(len(starts))
    # A run takes the label of the first run above; a run without any is a root. Components may have several roots.
    top = _flat(np.where(first < last, first, run))
    roots = np.flatnonzero(top == run)
    label = np.empty_like(run)
    label[roots] = np.arange(len(roots))
    label = label[top]
    # Neighbours above one run belong together.
    joining = np.flatnonzero(last - first > 1)
    left = ranges(first[joining], last[joining] - 1)
    merged = _merge(len(roots), label[left], label[left + 1])
    return int(merged.max(initial=-1)) + 1, merged[label]


def _above(starts: Integers, ends: Integers, stride: int) -> tuple[Integers, Integers]:
    """Return of each run the first run above that it touches, diagonals included, and the one behind the last."""
    # A run overlaps a run of the row above that is grown by a pixel to each side.
    first = np.searchsorted(ends, starts - (stride + 1), side="right")
    return first, np.searchsorted(starts, ends - (stride - 1), side="left")


def _merge(count: int, a: Integers, b: Integers) -> Integers:
    """Join each ``a[i]`` of ``count`` elements with ``b[i]``; number the resulting sets by their first elements."""
    least = np.arange(count)
    while len(apart := np.flatnonzero(a != b)):
        a, b = a[apart], b[apart]
        # Each root takes its least partner; links lead downwards only, so that there is no circle.
        np.minimum.at(least, np.maximum(a, b), np.minimum(a, b))
        least = _flat(least)
        a, b = least[a], least[b]
    first = least == np.arange(count)
    return (np.cumsum(first) - 1)[least]


def _flat(parent: Integers) -> Integers:
    """Replace the parent of each element by its root; the paths halve with every round."""
    while not np.array_equal(grand := parent[parent], parent):
        parent = grand
    return parent


def ranges(first: Integers, last: Integers) -> Integers:
    """Return the concatenated ranges ``first[i]:last[i]``."""
    lengths = last - first
    behind = np.cumsum(lengths)
    return np.arange(lengths.sum()) + np.repeat(last - behind, lengths)
