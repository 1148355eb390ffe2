"""Connections between tracks and vias: cases by hand, a slow oracle on small masks, and generated windows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from itertools import count, islice, product
from math import pi, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from benchmark.data import synthetic
from benchmark.metrics import CONNECTION_COLUMNS, connection_counts, net_of_each_via, reduce, via_counts_from_masks
from benchmark.metrics.components import Mask
from tests.benchmark.metrics.reference import EIGHT
from tests.benchmark.metrics.strategies import mask_pairs

Pixels = frozenset[tuple[int, int]]
Layers = tuple[Mask, Mask, Mask, Mask]  # true and predicted tracks, true and predicted vias

TURNS: tuple[Callable[[Mask], Mask], ...] = (lambda m: m[::-1], lambda m: m[:, ::-1], lambda m: m.T, np.rot90)


def counts(layers: Layers, border_px: int = 3, min_area_px: int = 4, ignore: Mask | None = None) -> dict[str, int]:
    """Count without the zeros, as ``right``, ``stray``, …"""
    found = connection_counts(*layers, ignore=ignore, border_px=border_px, min_area_px=min_area_px)
    assert tuple(found) == CONNECTION_COLUMNS
    return {name.removeprefix("vias_"): count for name, count in found.items() if count}


# Cases by hand: two tracks of 4 px, 6 px apart, with a via of 4x4 px at the lower edge of the first.


def box(top: int, left: int, height: int, width: int) -> Mask:
    mask = np.zeros((30, 60), bool)
    mask[top : top + height, left : left + width] = True
    return mask


UPPER, LOWER = box(8, 5, 4, 50), box(18, 5, 4, 50)
TRACKS = UPPER | LOWER
VIA = box(11, 30, 4, 4)  # one row of it lies on the upper track; its radius is 2.26 px
NOTHING = np.zeros_like(TRACKS)
OTHERS = box(8, 10, 4, 4) | box(18, 30, 4, 4)


@pytest.mark.parametrize(
    ("tracks", "via", "outcome"),
    [
        pytest.param(TRACKS, VIA, "right", id="perfect"),
        pytest.param(TRACKS, box(10, 31, 3, 3), "right", id="shifted along its net"),
        pytest.param(TRACKS, box(13, 30, 4, 4), "stray", id="moved off its net"),
        pytest.param(TRACKS | box(15, 5, 3, 50), box(13, 30, 4, 4), "crossed", id="moved onto the neighbouring net"),
        pytest.param(TRACKS | box(14, 25, 2, 20), box(13, 30, 4, 4), "crossed", id="moved onto a false net"),
        pytest.param(TRACKS | box(14, 25, 1, 3), box(13, 30, 4, 4), "stray", id="moved beside a speck"),
        pytest.param(TRACKS | box(14, 30, 1, 3), box(13, 30, 4, 4), "stray", id="moved onto a speck"),
        pytest.param(TRACKS, NOTHING, "lost", id="removed"),
        pytest.param(TRACKS, box(14, 30, 4, 4), "lost", id="moved further than its radius"),
        pytest.param(LOWER, VIA, "stray", id="on a missed net"),
        pytest.param(TRACKS & ~box(8, 28, 4, 1), VIA, "right", id="on a piece of an open net"),
        pytest.param(TRACKS & ~box(8, 28, 4, 1) & ~box(8, 31, 4, 30), VIA, "right", id="on a piece of twelve pixels"),
        pytest.param(TRACKS & ~box(8, 29, 4, 6) | box(11, 31, 1, 3), VIA, "stray", id="on a speck of an open net"),
        pytest.param(
            TRACKS & ~box(8, 29, 4, 6) | box(11, 30, 1, 2) | box(11, 33, 1, 2),
            VIA,
            "right",
            id="on a speck and a piece",
        ),
        pytest.param(TRACKS & ~box(8, 31, 4, 1) & ~box(8, 32, 3, 30), VIA, "right", id="touching two pieces"),
        pytest.param(TRACKS | box(12, 20, 6, 2), VIA, "right", id="on a short"),
        pytest.param(NOTHING | box(11, 30, 1, 3), VIA, "right", id="on the largest speck of a net"),
    ],
)
def test_one_change_has_one_outcome(tracks: Mask, via: Mask, outcome: str) -> None:
    # Two more vias stay right, where their nets stay; the brute force agrees.
    others = OTHERS & ndimage.binary_propagation(OTHERS & tracks, mask=OTHERS)
    layers = TRACKS, tracks, VIA | others, via | others
    right = ndimage.label(others, EIGHT)[1]
    assert Counter(counts(layers)) == Counter(right=right) + Counter([outcome])
    assert brute_force(layers, 3, 4) == connection_counts(*layers, border_px=3, min_area_px=4)


def test_via_of_two_nets_lies_on_the_one_that_it_covers_most() -> None:
    over_both = box(10, 30, 9, 4)  # two rows on the upper track, one row on the lower
    assert counts((TRACKS, TRACKS, over_both, over_both)) == {"right": 1}
    assert counts((TRACKS, UPPER, over_both, over_both)) == {"right": 1}
    assert counts((TRACKS, LOWER, over_both, over_both)) == {"crossed": 1}
    assert net_of_each_via(TRACKS, over_both).tolist() == [0]
    assert net_of_each_via(TRACKS, over_both[::-1]).tolist() == [1]


def test_via_of_two_nets_alike_lies_on_both() -> None:
    between = box(10, 30, 10, 4)
    for tracks in (TRACKS, UPPER, LOWER):
        assert counts((TRACKS, tracks, between, between)) == {"right": 1}
    assert net_of_each_via(TRACKS, between).tolist() == [0]


def test_vias_are_judged_where_their_net_is() -> None:
    tracks = TRACKS | box(0, 5, 2, 50)  # a net in the border band
    vias = box(0, 20, 2, 4) | box(14, 40, 2, 2) | box(18, 5, 4, 2) | box(8, 53, 4, 2)
    edge = box(8, 0, 4, 60)  # a net from edge to edge
    tracks |= edge
    vias |= box(8, 0, 4, 2)
    assert counts((tracks, tracks, vias, vias)) == {"right": 3, "unjudged": 2}
    assert counts((tracks, tracks, vias, NOTHING)) == {"lost": 3, "unjudged": 2}
    assert counts((tracks, NOTHING, vias, vias)) == {"stray": 3, "unjudged": 2}
    assert counts((tracks, tracks, vias, vias), border_px=0) == {"right": 4, "unjudged": 1}
    both = box(0, 30, 9, 4)  # two rows on the net in the band, one row on the net from edge to edge
    assert counts((tracks, tracks, both, both)) == {"unjudged": 1}


def test_predicted_via_without_a_match_is_no_connection_error() -> None:
    false = box(14, 10, 3, 3) | box(18, 45, 3, 3)
    assert counts((TRACKS, TRACKS, VIA, VIA | false)) == {"right": 1}
    assert counts((TRACKS, TRACKS, NOTHING, false)) == {}


def test_fragments_count_as_one_via() -> None:
    rim = box(10, 30, 9, 9) & ~box(12, 32, 5, 5)
    ring = rim | box(14, 34, 1, 1)  # the core lies on no track
    assert counts((TRACKS, TRACKS, ring, ring)) == {"right": 1}
    assert net_of_each_via(TRACKS, ring).tolist() == [0, -1]


@pytest.mark.parametrize(
    ("tracks", "true", "predicted", "expected"),
    [
        pytest.param(TRACKS, VIA, box(14, 31, 1, 2) | box(11, 31, 1, 2), {"right": 1}, id="right before stray"),
        pytest.param(
            TRACKS | box(14, 25, 2, 6), VIA, box(14, 30, 1, 2) | box(13, 33, 1, 1),
            {"stray": 1}, id="stray before crossed",
        ),
        pytest.param(
            TRACKS | box(14, 28, 1, 4), box(12, 25, 6, 4) | box(11, 30, 6, 4), box(14, 29, 1, 1),
            {"crossed": 1, "unjudged": 1}, id="crossed before unjudged",
        ),
        pytest.param(
            TRACKS, box(7, 28, 8, 13) | box(16, 28, 9, 13), box(14, 34, 5, 1) | box(23, 34, 1, 2),
            {"crossed": 1, "stray": 1}, id="more pairs before right",
        ),
    ],
)  # fmt: skip
def test_order_among_matchings(tracks: Mask, true: Mask, predicted: Mask, expected: dict[str, int]) -> None:
    layers = TRACKS, tracks, true, predicted
    for turn in (np.asarray, *TURNS):
        assert counts(tuple(map(turn, layers))) == expected  # type: ignore[arg-type]


def test_ignored_pixels_are_background_in_all_masks() -> None:
    prediction = TRACKS & ~box(0, 0, 30, 33), VIA  # the net of the via is there, but not below it
    assert counts((TRACKS, prediction[0], VIA, VIA)) == {"right": 1}
    ignore = box(0, 30, 30, 30)
    assert counts((TRACKS, prediction[0], VIA | OTHERS, VIA | OTHERS), ignore=ignore) == {"stray": 1}
    assert counts((TRACKS, NOTHING, VIA, VIA), ignore=box(0, 0, 12, 60)) == {"unjudged": 1}
    assert counts((TRACKS, NOTHING, VIA, VIA), ignore=~NOTHING) == {}


def test_rate_is_pooled_over_judged_vias() -> None:
    images = [
        connection_counts(TRACKS, TRACKS, VIA | OTHERS, via, border_px=3, min_area_px=4)
        for via in (VIA | OTHERS, OTHERS, box(13, 30, 4, 4))
    ]
    columns = {name: np.array([image[name] for image in images]) for name in CONNECTION_COLUMNS}
    assert reduce(columns, "pooled") == {
        "connection_error_rate": pytest.approx(4 / 9),
        "vias_stray": 1.0,
        "vias_crossed": 0.0,
        "vias_lost": 3.0,
    }
    assert reduce(columns, "image") == {}
    nothing = {name: np.zeros(1, int) for name in CONNECTION_COLUMNS}
    assert "connection_error_rate" not in reduce(nothing, "pooled")


def test_masks_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected the same"):
        connection_counts(TRACKS, TRACKS, VIA[1:], VIA[1:])
    with pytest.raises(ValueError, match="expected the same"):
        net_of_each_via(TRACKS, VIA[1:])


# The oracle: sets of pixels, a flood fill, and every matching.


def parts(mask: Mask) -> list[Pixels]:
    """Flood-fill the 8-connected components, in raster order of their first pixels."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    found = []
    for start in sorted(left):
        if start not in left:
            continue
        part, front = set(), [start]
        left.discard(start)
        while front:
            y, x = front.pop()
            part.add((y, x))
            near = {(y + dy, x + dx) for dy, dx in product((-1, 0, 1), repeat=2)} & left
            left -= near
            front += near
        found.append(frozenset(part))
    return found


def centre(part: Pixels) -> tuple[float, float]:
    return sum(y for y, _ in part) / len(part), sum(x for _, x in part) / len(part)


def apart(a: Pixels, b: Pixels) -> float:
    return float(np.hypot(*np.subtract(centre(a), centre(b))))


def radius(part: Pixels) -> float:
    return sqrt(len(part) / pi)


def merged(fragments: list[Pixels]) -> list[tuple[Pixels, float]]:
    """Return the pixels and the radius of each via."""
    vias: list[set[Pixels]] = []
    for fragment in fragments:
        close = [via for via in vias if any(apart(fragment, f) < max(radius(fragment), radius(f)) for f in via)]
        vias = [via for via in vias if via not in close] + [{fragment}.union(*close)]
    return [(frozenset().union(*via), max(map(radius, via))) for via in vias]


def lies_on(via: Pixels, nets: list[Pixels]) -> list[Pixels]:
    shared = [len(via & net) for net in nets]
    return [net for net, px in zip(nets, shared, strict=True) if px and px == max(shared)]


def counted_components(nets: list[Pixels], components: list[Pixels], min_area_px: int) -> list[Pixels]:
    large = [part for part in components if len(part) >= min_area_px]
    found = list(large)
    for net in nets:
        if not any(net & part for part in large):
            found += [max(hits, key=len)] if (hits := [part for part in components if part & net]) else []
    return found


def matchings(reach: list[list[int]], taken: frozenset[int] = frozenset()) -> Iterator[list[int | None]]:
    if not reach:
        yield []
        return
    for choice in (None, *(k for k in reach[0] if k not in taken)):
        for rest in matchings(reach[1:], taken if choice is None else taken | {choice}):
            yield [choice, *rest]


def brute_force(layers: Layers, border_px: int, min_area_px: int) -> dict[str, int]:
    height, width = layers[0].shape
    nets, components, true, predicted = (parts(mask) for mask in layers)
    counted = counted_components(nets, components, min_area_px)

    def interior(net: Pixels) -> bool:
        return any(border_px <= y < height - border_px and border_px <= x < width - border_px for y, x in net)

    def outcome(via: Pixels, match: Pixels | None) -> str:
        judged = [net for net in lies_on(via, nets) if interior(net)]
        if not judged:
            return "unjudged"
        if match is None:
            return "lost"
        below = lies_on(match, counted)
        if not below:
            return "stray"
        return "right" if any(net & part for net in judged for part in below) else "crossed"

    outcome = cache(outcome)
    true_vias, predicted_vias = merged(true), [pixels for pixels, _ in merged(predicted)]
    reach = [[k for k, p in enumerate(predicted_vias) if apart(via, p) <= size] for via, size in true_vias]
    best = (-1, -1, -1, -1)
    for matching in matchings(reach):
        of = Counter(
            outcome(via, None if k is None else predicted_vias[k])
            for (via, _), k in zip(true_vias, matching, strict=True)
        )
        pairs = sum(k is not None for k in matching)
        if (pairs, of["right"], of["stray"], of["crossed"]) > best:
            best, found = (pairs, of["right"], of["stray"], of["crossed"]), of
    return {name: found[name.removeprefix("vias_")] for name in CONNECTION_COLUMNS}


@st.composite
def small_layers(draw: st.DrawFn) -> Layers:
    """Tracks of any shape, and up to six small vias, of which the prediction moves, drops and invents some."""
    tracks = draw(mask_pairs(max_side=14))
    vias = np.zeros((2, *tracks[0].shape), bool)
    place = st.tuples(st.integers(0, 13), st.integers(0, 13), st.integers(1, 4), st.integers(1, 4))
    shift, there = st.tuples(st.integers(-2, 2), st.integers(-2, 2)), st.tuples(st.booleans(), st.booleans())
    for (y, x, height, width), (dy, dx), sides in draw(st.lists(st.tuples(place, shift, there), max_size=6)):
        for side, (top, left) in enumerate(((y, x), (max(y + dy, 0), max(x + dx, 0)))):
            if not sides[side]:
                vias[side, top : top + height, left : left + width] = True
    return (*tracks, *vias)  # type: ignore[return-value]


@given(layers=small_layers(), border_px=st.integers(0, 3), min_area_px=st.sampled_from([1, 3, 8]))
def test_brute_force_on_small_masks(layers: Layers, border_px: int, min_area_px: int) -> None:
    limits = {"border_px": border_px, "min_area_px": min_area_px}
    ours = connection_counts(*layers, **limits)  # type: ignore[arg-type]
    assert ours == brute_force(layers, **limits)
    old = via_counts_from_masks(*layers[2:])
    assert sum(ours.values()) == old["via_true"]
    assert 0 <= old["via_true"] - old["via_matched"] - ours["vias_lost"] <= ours["vias_unjudged"]


@given(layers=small_layers())
def test_nets_of_vias_equal_a_flood_fill(layers: Layers) -> None:
    tracks, _, vias, _ = layers
    nets = parts(tracks)
    expected = [next((nets.index(net) for net in lies_on(via, nets)), -1) for via in parts(vias)]
    assert net_of_each_via(tracks, vias).tolist() == expected


@given(layers=small_layers())
def test_order_of_components_changes_nothing(layers: Layers) -> None:
    for turn in TURNS:
        turned = connection_counts(*map(turn, layers), border_px=2, min_area_px=1)  # type: ignore[arg-type]
        assert turned == connection_counts(*layers, border_px=2, min_area_px=1)


@given(layers=small_layers(), ignored=st.booleans())
def test_truth_against_itself_has_no_error(layers: Layers, ignored: bool) -> None:
    tracks, other_tracks, vias, other_vias = layers
    found = counts((tracks, tracks, vias, vias), ignore=other_tracks | other_vias if ignored else None)
    assert found.keys() <= {"right", "unjudged"}


# Windows of the stand-ins.


def windows(dataset: str, number: int) -> Iterator[tuple[Mask, Mask]]:
    """Draw tracks and vias of windows with judged vias."""
    samples = (synthetic.generate(dataset, index, height=128, width=128, seed=3) for index in count())
    layers = ((sample.track, sample.via) for sample in samples)
    return islice((pair for pair in layers if "right" in in_window(pair[0], pair[0], pair[1], pair[1])), number)


def in_window(*layers: Mask) -> dict[str, int]:
    return counts(layers, border_px=8, min_area_px=1)  # type: ignore[arg-type]


def judged_via(tracks: Mask, vias: Mask) -> Mask:
    """Return the first via whose net reaches the interior."""
    nets, discs = ndimage.label(tracks, EIGHT)[0], ndimage.label(vias, EIGHT)[0]
    judged = [label for label, net in enumerate(net_of_each_via(tracks, vias), 1) if net + 1 in nets[8:-8, 8:-8]]
    return discs == judged[0]  # type: ignore[no-any-return]


def square(place: list[int], side: int) -> Mask:
    mask = np.zeros((128, 128), bool)
    top, left = (middle - side // 2 for middle in place)
    mask[top : top + side, left : left + side] = True
    return mask


@pytest.mark.parametrize("dataset", ["omc", "omv", "miic"])
def test_one_fault_in_a_generated_window_is_one_error(dataset: str) -> None:
    for tracks, vias in windows(dataset, 3):
        perfect = in_window(tracks, tracks, vias, vias)
        assert perfect.keys() <= {"right", "unjudged"}
        assert sum(perfect.values()) == via_counts_from_masks(vias, vias)["via_true"]
        fewer = Counter(perfect) - Counter(["right"])
        via = judged_via(tracks, vias)
        assert in_window(tracks, tracks, vias, vias & ~via) == fewer + Counter(["lost"])
        hole = ndimage.binary_dilation(via, EIGHT, iterations=2)
        assert in_window(tracks, tracks & ~hole, vias, vias) == fewer + Counter(["stray"])

        # A via of 9x9 px at the edge of a net is moved by a pixel, after which it touches no net, and further away.
        free = ndimage.distance_transform_cdt(~tracks)
        places = np.argwhere(free[16:-16, 16:-16] == 5) + 16
        if len(places) == 0:  # all gaps between the tracks are narrower
            continue
        y, x = places[0]
        true = square(places[0] + np.argwhere(free[y - 1 : y + 2, x - 1 : x + 2] == 4)[0] - 1, 9)
        moved, away = square(places[0], 9), np.roll(true, 6, axis=0)
        assert in_window(tracks, tracks, true, true) == {"right": 1}
        assert in_window(tracks, tracks, true, moved) == {"stray": 1}
        assert in_window(tracks, tracks | square(places[0], 3), true, moved) == {"crossed": 1}
        assert in_window(tracks, tracks, true, away) == {"lost": 1}
