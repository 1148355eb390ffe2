"""Counts the connections between tracks and vias that a prediction breaks.

**Position.** A via lies on the net that it shares the most pixels with, and on none if it shares none. If several nets
share equally many, it lies on all of them. The layers overlap: a track continues below its vias. In labels whose
pixels belong to one layer only, the mask of tracks must therefore hold the vias too.

**Judged vias.** A true via is judged if it lies on a true net that reaches the interior, as only these nets are judged
by :mod:`~benchmark.metrics.electrical`. The place of the via itself plays no role, so a via at the image's edge is
judged too. All other true vias are ``vias_unjudged``.

**Outcomes.** Vias are merged and matched as in :mod:`~benchmark.metrics.vias`. A judged via is

- *lost* if it has no match;
- *stray* if its match lies on no counted component. Components below the least area are noise and do not count, with
  the exception that ``electrical`` explains;
- *right* if its match lies on a counted component that shares a pixel with the via's true net. A piece of an open net
  is right, and so is a component that joins nets: the metrics of nets count these faults;
- *crossed* if its match lies on another counted component, also on one that hits no net.

A predicted via without a match is no connection error but a false via. If several matchings have the most pairs, the
one with the most right vias counts, then with the most stray, then with the most crossed ones. So the counts do not
depend on the order of vias, and the truth scored against itself has no error.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from benchmark.metrics.components import Integers, Mask, Overlap
from benchmark.metrics.electrical import BORDER_PX, MIN_AREA_PX, judge
from benchmark.metrics.vias import match, merged_vias


def connection_counts(
    track_truth: Mask,
    track_prediction: Mask,
    via_truth: Mask,
    via_prediction: Mask,
    *,
    ignore: Mask | None = None,
    border_px: int = BORDER_PX,
    min_area_px: int = MIN_AREA_PX,
) -> dict[str, int]:
    """Count an image's connections.

    Args:
        track_truth: (H, W) bool, as all masks.
        track_prediction: predicted tracks.
        via_truth: true vias; each component is a via or a fragment of one.
        via_prediction: predicted vias.
        ignore: pixels that are background in all four masks.
        border_px: width of the border band of the electrical counts.
        min_area_px: least area of a predicted component of tracks in the electrical counts.

    Returns:
        The keys of :data:`~benchmark.metrics.CONNECTION_COLUMNS`. They sum to ``via_true`` of
        :func:`~benchmark.metrics.via_counts_from_masks`.

    Raises:
        ValueError: the masks are not bool or differ in shape.
    """
    masks = [track_truth, track_prediction, via_truth, via_prediction]
    if ignore is not None:
        masks = [mask & ~ignore for mask in masks]
    tracks, of_truth, of_prediction = (Overlap.of(masks[i], masks[k]) for i, k in ((0, 1), (0, 2), (1, 3)))
    true, predicted = merged_vias(of_truth.prediction), merged_vias(of_prediction.prediction)
    verdict = judge(tracks, border_px=border_px, min_area_px=min_area_px)
    vias, nets = (len(true.radii), len(predicted.radii)), (tracks.truth.count, tracks.prediction.count)

    on_net = _relation(_places(of_truth, true.via), (vias[0], nets[0]))
    on_component = _relation(_places(of_prediction, predicted.via, verdict.counted), (vias[1], nets[1]))
    hits = verdict.interior[tracks.truth_index]
    hit_by = _relation((tracks.truth_index[hits], tracks.predicted_index[hits]), nets)

    # Outcome of each pair of a true and a predicted via, if they are matched.
    judged = (on_net @ verdict.interior > 0)[:, None]
    right = (on_net @ hit_by @ on_component.T).toarray() > 0
    stray = judged & (on_component @ verdict.counted == 0)
    crossed = judged & ~right & ~stray
    base = 1 + min(vias)  # the sums are exact up to 9000 vias, whose distances alone fill 650 MB
    pairs = match(true, predicted, right * base**2 + stray * base + crossed)
    counts = {"vias_right": int(right[pairs].sum()), "vias_stray": int(stray[pairs].sum())}
    counts["vias_crossed"] = int(crossed[pairs].sum())
    judged_count = int(judged.sum())
    return counts | {"vias_lost": judged_count - sum(counts.values()), "vias_unjudged": vias[0] - judged_count}


def net_of_each_via(tracks: Mask, vias: Mask) -> Integers:
    """Return the net that each via lies on, (N,), -1 for none; the first of several.

    Vias are the components of ``vias``, and nets those of ``tracks``, both (H, W) bool and numbered as
    :class:`~benchmark.metrics.components.Components` numbers them: from 0 in the raster order of their first pixels.

    Raises:
        ValueError: the masks are not bool or differ in shape.
    """
    overlap = Overlap.of(tracks, vias)
    via, net = _places(overlap, np.arange(overlap.prediction.count))
    nets = np.full(overlap.prediction.count, -1)
    nets[via[::-1]] = net[::-1]
    return nets


def _places(overlap: Overlap, via: Integers, counted: Mask | None = None) -> tuple[Integers, Integers]:
    """Return the pairs of a via and a net that it lies on, ascending.

    Args:
        overlap: of the mask of tracks with that of vias.
        via: (F,) via of each component of the mask of vias.
        counted: (nets,) the nets that count; all by default.
    """
    pairs = slice(None) if counted is None else counted[overlap.truth_index]
    nets = max(overlap.truth.count, 1)
    key, index = np.unique(via[overlap.predicted_index[pairs]] * nets + overlap.truth_index[pairs], return_inverse=True)
    shared_px = np.bincount(index, overlap.intersection_px[pairs], len(key))  # of all fragments of the via
    via, net = np.divmod(key, nets)
    most = np.zeros(via.max(initial=-1) + 1)
    np.maximum.at(most, via, shared_px)
    lies = shared_px == most[via]
    return via[lies], net[lies]


def _relation(pairs: tuple[Integers, Integers], shape: tuple[int, int]) -> csr_array:
    """Return the matrix that is 1 at each pair and 0 elsewhere."""
    return csr_array((np.ones(len(pairs[0]), np.int64), pairs), shape=shape)
