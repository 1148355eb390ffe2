"""Opens, shorts, missed and false nets on drawn layouts where the right answer is plain to see."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from benchmark.data import synthetic
from benchmark.metrics import FAULTS, count_image, fault_map, fault_places, not_counted, ratios, reduce
from benchmark.metrics.components import Mask, Overlap
from benchmark.metrics.electrical import judge
from tests.benchmark.metrics.layouts import window, with_bridge, with_cut
from tests.benchmark.metrics.reference import EIGHT, masks_of
from tests.benchmark.metrics.strategies import mask_pairs

CLEAN = {"opens": 0, "shorts": 0, "missed": 0, "false": 0}


def faults(truth: Mask, prediction: Mask, **settings: int) -> dict[str, int]:
    counts = count_image(truth, prediction, **({"border_px": 5, "min_area_px": 4} | settings))  # type: ignore[arg-type]
    return {name: counts[name] for name in CLEAN}


def miou(truth: Mask, prediction: Mask) -> float:
    counts = count_image(truth, prediction)
    return float(ratios({name: np.array([value]) for name, value in counts.items()})["miou"][0])


@pytest.fixture
def bars() -> Mask:
    """Three horizontal bars of 4x60 px on 40x80, rows 8, 18 and 28; none in the border band of 5 px."""
    mask = np.zeros((40, 80), bool)
    for top in (8, 18, 28):
        mask[top : top + 4, 10:70] = True
    return mask


def test_perfect_prediction_has_no_fault(bars: Mask) -> None:
    counts = count_image(bars, bars, border_px=5, min_area_px=4)
    assert (counts["nets"], counts["components"], counts["correct"]) == (3, 3, 3)
    assert faults(bars, bars) == CLEAN


def test_one_bridge_is_one_short_of_two_nets(bars: Mask) -> None:
    bridged = bars.copy()
    bridged[8:22, 40] = True
    assert faults(bars, bridged) == CLEAN | {"shorts": 1}
    counts = count_image(bars, bridged, border_px=5, min_area_px=4)
    assert (counts["nets"], counts["components"], counts["correct"]) == (3, 2, 1)


def test_three_nets_joined_are_two_shorts(bars: Mask) -> None:
    joined = bars.copy()
    joined[8:32, 40] = True
    assert faults(bars, joined) == CLEAN | {"shorts": 2}


def test_bridge_over_a_diagonal_gap_is_a_short(bars: Mask) -> None:
    bridged = bars.copy()
    bridged[np.arange(12, 18), np.arange(40, 46)] = True
    assert faults(bars, bridged)["shorts"] == 1


def test_one_cut_is_one_open(bars: Mask) -> None:
    cut = bars.copy()
    cut[8:12, 40] = False
    assert faults(bars, cut) == CLEAN | {"opens": 1}
    counts = count_image(bars, cut, border_px=5, min_area_px=4)
    assert (counts["nets"], counts["components"], counts["correct"]) == (3, 4, 2)


def test_net_cut_twice_is_still_one_open(bars: Mask) -> None:
    cut = bars.copy()
    cut[8:12, [20, 40]] = False
    assert faults(bars, cut)["opens"] == 1


def test_net_cut_to_one_pixel_width_is_no_open(bars: Mask) -> None:
    nicked = bars.copy()
    nicked[9:12, 40] = False
    assert faults(bars, nicked) == CLEAN


def test_missed_and_false_nets(bars: Mask) -> None:
    prediction = bars.copy()
    prediction[8:12] = False
    prediction[13:16, 20:40] = True  # between two nets, touching none
    assert faults(bars, prediction) == CLEAN | {"missed": 1, "false": 1}


def test_small_components_do_not_count(bars: Mask) -> None:
    speck = bars.copy()
    speck[14, 20:23] = True
    assert faults(bars, speck) == CLEAN
    speck[14, 23] = True
    assert faults(bars, speck) == CLEAN | {"false": 1}  # 4 px: as large as the least area


def test_largest_small_component_finds_otherwise_missed_net(bars: Mask) -> None:
    crumbs = bars.copy()
    crumbs[8:12] = False
    crumbs[8, 10:12] = crumbs[8, 20:23] = True
    assert faults(bars, crumbs) == CLEAN  # two crumbs are no two pieces
    assert fault_map(bars, crumbs, border_px=5, min_area_px=4).max() == 0
    crumbs[10, 30:34] = True
    assert faults(bars, crumbs) == CLEAN  # a component of the least area is there: the crumbs are noise beside it
    crumbs[10, 40:44] = True
    assert faults(bars, crumbs) == CLEAN | {"opens": 1}


def test_uncounted_errors_are_reported(bars: Mask) -> None:
    truth = bars.copy()
    truth[0:4, 10:70] = True
    prediction = truth.copy()
    prediction[0:12, 40] = True  # joins the net of the border band to the first bar
    prediction[14, 20:23] = prediction[37, 20:26] = True  # a speck, and a false net in the band
    limits = {"border_px": 5, "min_area_px": 4}
    assert faults(truth, prediction, **limits) == CLEAN
    expected = {"shorts": 1, "opens": 0, "false": 1, "missed": 0, "specks": 1}
    assert not_counted(truth, prediction, **limits) == expected


def test_first_of_equal_small_components_counts() -> None:
    truth = np.zeros((12, 20), bool)
    truth[4:9, 2:18] = True
    prediction = np.zeros_like(truth)
    prediction[6, 2:5] = prediction[5, 8:11] = prediction[7, 14] = True
    verdict = judge(Overlap.of(truth, prediction), border_px=0, min_area_px=50)
    assert verdict.counted.tolist() == [True, False, False]  # the one of row 5


@given(mask_pairs(max_side=16), st.integers(0, 9), st.integers(1, 60))
def test_truth_against_itself_has_no_fault(pair: tuple[Mask, Mask], border_px: int, min_area_px: int) -> None:
    """Whatever the layout, and whatever slivers an ignore mask leaves of its nets."""
    truth, ignore = pair
    limits = {"border_px": border_px, "min_area_px": min_area_px}
    for ignored in (None, ignore):
        counts = count_image(truth, truth, ignore=ignored, **limits)  # type: ignore[arg-type]
        assert {name: counts[name] for name in CLEAN} == CLEAN
        assert counts["correct"] == counts["nets"] == counts["components"]
    kept = truth & ~ignore
    assert not fault_map(kept, kept, **limits).any()
    assert not fault_places(kept, kept, **limits).any()


def test_faults_in_the_border_band_do_not_count(bars: Mask) -> None:
    prediction = bars.copy()
    prediction[0:5, 20:40] = True
    assert faults(bars, prediction) == CLEAN
    prediction[5, 30] = True  # one pixel beyond the band
    assert faults(bars, prediction) == CLEAN | {"false": 1}
    with_net_in_band = bars.copy()
    with_net_in_band[0:5, 10:70] = True
    assert faults(with_net_in_band, bars) == CLEAN  # a net of the band alone cannot be missed
    joined = with_net_in_band.copy()
    joined[4:9, 40] = True
    assert faults(with_net_in_band, joined) == CLEAN  # nor be joined
    counts = count_image(with_net_in_band, joined, border_px=5, min_area_px=4)
    assert (counts["nets"], counts["components"], counts["correct"]) == (3, 3, 3)
    assert faults(with_net_in_band, joined, border_px=0)["shorts"] == 1


def test_component_in_border_band_makes_no_short_but_cuts_a_net() -> None:
    truth = np.zeros((30, 30), bool)
    truth[0:12, 4:7] = truth[0:12, 20:23] = True  # two nets that come in from the top edge
    prediction = truth.copy()
    prediction[5] = False
    prediction[2, 4:23] = True  # joins both, within the band
    counts = count_image(truth, prediction, border_px=5, min_area_px=4)
    assert counts["shorts"] == 0
    assert counts["opens"] == 2
    assert counts["components"] == 3  # the one in the band hits interior nets


def test_image_within_its_border_has_no_nets() -> None:
    mask = np.ones((60, 60), bool)
    counts = count_image(mask, mask)  # 35 px on both sides are more than 60
    assert (counts["nets"], counts["components"], counts["correct"]) == (0, 0, 0)


def test_via_targets_have_no_electrical_columns(bars: Mask) -> None:
    counts = count_image(bars, bars, electrical=False)
    assert list(counts) == [
        *("ignored", "tp", "fp", "fn", "tn", "aji_num", "aji_den", "ajip_num", "ajip_den"),
        *("boundary_true", "boundary_true_hit", "boundary_predicted", "boundary_predicted_hit"),
        *("vi_split_nbit", "vi_merge_nbit", "betti0_error", "betti1_error"),
    ]


def plain(truth: Mask, prediction: Mask, border_px: int, min_area_px: int) -> dict[str, int]:
    """The definitions, spelled out with one mask per net and per component."""
    inner = np.zeros_like(truth)
    if 2 * border_px < min(truth.shape):
        inner[border_px : truth.shape[0] - border_px, border_px : truth.shape[1] - border_px] = True
    nets = [(mask, bool((mask & inner).any())) for mask in masks_of(truth)]
    large = [m for m in masks_of(prediction) if m.sum() >= min_area_px]
    small = [m for m in masks_of(prediction) if m.sum() < min_area_px]
    chosen: set[int] = set()
    for net, _ in nets:
        if not any((net & part).any() for part in large):
            hitting = [(-int(part.sum()), index) for index, part in enumerate(small) if (net & part).any()]
            chosen |= {min(hitting)[1]} if hitting else set()
    parts = [(m, bool((m & inner).any())) for m in (*large, *(small[index] for index in sorted(chosen)))]
    hits = [[j for j, (net, inside) in enumerate(nets) if inside and (net & part).any()] for part, _ in parts]
    hit_by = [[i for i, (part, _) in enumerate(parts) if (net & part).any()] for net, _ in nets]
    return {
        "nets": sum(inside for _, inside in nets),
        "components": sum(inside or bool(hit) for (_, inside), hit in zip(parts, hits, strict=True)),
        "opens": sum(inside and len(by) > 1 for (_, inside), by in zip(nets, hit_by, strict=True)),
        "shorts": sum(max(len(hit) - 1, 0) for (_, inside), hit in zip(parts, hits, strict=True) if inside),
        "missed": sum(inside and not by for (_, inside), by in zip(nets, hit_by, strict=True)),
        "false": sum(inside and not (part & truth).any() for part, inside in parts),
        "correct": sum(len(hit) == 1 and len(hit_by[hit[0]]) == 1 for hit in hits),
    }


@given(mask_pairs(max_side=14))
def test_counts_equal_definitions(pair: tuple[Mask, Mask]) -> None:
    for border_px, min_area_px in ((0, 1), (2, 3), (1, 20)):
        counts = count_image(*pair, border_px=border_px, min_area_px=min_area_px)
        expected = plain(*pair, border_px, min_area_px)
        assert {name: counts[name] for name in expected} == expected
        assert counts["correct"] <= min(counts["nets"], counts["components"])
        assert counts["opens"] + counts["missed"] + counts["correct"] <= counts["nets"]


def test_faults_are_painted_at_their_pixels(bars: Mask) -> None:
    prediction = bars.copy()
    prediction[8:12, 40] = False  # open
    prediction[18:32, 20] = True  # short
    prediction[34, 30:40] = False
    prediction[34, 50:60] = True  # false, in the band unless the border is 0
    painted = fault_map(bars, prediction, border_px=0, min_area_px=4)
    named = {name: painted == code for code, name in enumerate(FAULTS)}
    np.testing.assert_array_equal(named["open"][:16], bars[:16])
    np.testing.assert_array_equal(named["short"][17:33], prediction[17:33])
    assert named["false"].sum() == 10
    missed = fault_map(bars, np.zeros_like(bars), border_px=0)
    np.testing.assert_array_equal(missed == FAULTS.index("missed"), bars)


def far(places: Mask, wrong: Mask) -> float:
    """Return how far the farthest place is from the wrong pixels."""
    return float(ndimage.distance_transform_edt(~wrong)[places].max())


def test_position_of_cut_and_bridge_is_the_gap(bars: Mask) -> None:
    bars[28:] = False
    staged = np.zeros_like(bars)
    staged[8:12, 40:46] = True
    staged[12:18, 22:25] = True
    prediction = ndimage.binary_erosion(bars, EIGHT)  # wrong at every edge, which is no fault
    prediction[8:12, 40:46] = False
    prediction[10:20, 22:25] = True
    limits = {"border_px": 5, "min_area_px": 4}
    assert faults(bars, prediction, **limits) == CLEAN | {"opens": 1, "shorts": 1}
    places = fault_places(bars, prediction, **limits)
    assert far(places, staged) <= 1
    for half in (np.s_[:, :32], np.s_[:, 32:]):
        assert places[half].any()
    assert fault_map(bars, prediction, **limits).astype(bool).sum() > 5 * places.sum()


def test_position_of_wide_gap_is_its_middle(bars: Mask) -> None:
    cut = bars.copy()
    cut[18:22, 30:50] = False  # the other bars are nearer to its middle than its own ends
    rows, columns = np.nonzero(fault_places(bars, cut, border_px=5, min_area_px=4))
    assert set(rows.tolist()) == set(range(18, 22))
    assert set(columns.tolist()) == {39, 40}


@pytest.mark.parametrize("falling", [True, False])
def test_bridge_of_corners_has_a_position(bars: Mask, falling: bool) -> None:
    bridge = np.zeros_like(bars)
    bridge[np.arange(12, 18), np.arange(40, 46) if falling else np.arange(45, 39, -1)] = True
    places = fault_places(bars, bars | bridge, border_px=5, min_area_px=4)
    assert places.sum() == 2
    assert bridge[places].all()


@given(mask_pairs(max_side=14))
def test_position_of_every_fault_is_painted(pair: tuple[Mask, Mask]) -> None:
    limits = {"border_px": 2, "min_area_px": 3}
    painted, places = fault_map(*pair, **limits), fault_places(*pair, **limits)
    assert places.any() == any(faults(*pair, **limits).values())
    assert painted[places].all()
    for net in masks_of(pair[0]):
        if (painted[net] == FAULTS.index("missed")).all():
            assert places[net].all()


FEW, MANY = range(1), range(1, 30)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((kind, seed), id=f"{kind}-{seed}", marks=[pytest.mark.slow] if seed in MANY else [])
        for kind in ("drawn", "generated")
        for seed in (*FEW, *MANY)
    ],
)
def truth(request: pytest.FixtureRequest) -> Mask:
    kind, seed = request.param
    if kind == "drawn":
        mask = window(seed)
    else:
        mask = synthetic.generate("hy5syn", seed, height=1024, width=1024, seed=1).mask("metal")
    assert 0.09 < mask.mean() < 0.35  # HY5SYN's windows hold 0.09 to 0.30
    return mask


class TestWindowsOfAChip:
    """What the figures mean: 1024x1024 windows with tracks about 22 px wide and gaps of at least 5 px."""

    def test_truth_has_no_error(self, truth: Mask) -> None:
        assert count_image(truth, truth)["nets"] >= 10
        assert faults(truth, truth, border_px=35, min_area_px=35) == CLEAN

    def test_bridge_of_5_px(self, truth: Mask) -> None:
        bridged = with_bridge(truth)
        assert miou(truth, bridged) > 0.999
        assert faults(truth, bridged, border_px=35, min_area_px=35) == CLEAN | {"shorts": 1}
        assert far(fault_places(truth, bridged), bridged & ~truth) <= 2

    def test_cut(self, truth: Mask) -> None:
        cut = with_cut(truth)
        assert miou(truth, cut) > 0.999
        assert faults(truth, cut, border_px=35, min_area_px=35) == CLEAN | {"opens": 1}
        assert far(fault_places(truth, cut), truth & ~cut) <= 2

    def test_dilated_prediction(self, truth: Mask) -> None:
        wider = ndimage.binary_dilation(truth, EIGHT)
        assert 0.92 <= miou(truth, wider) <= 0.96
        assert faults(truth, wider, border_px=35, min_area_px=35) == CLEAN


def test_rates_are_formed_from_sums() -> None:
    counts = {
        "nets": np.array([10, 0, 30]),
        "components": np.array([20, 4, 16]),
        "correct": np.array([5, 0, 15]),
        "opens": np.array([1, 0, 2]),
        "shorts": np.array([0, 0, 3]),
        "missed": np.array([0, 0, 4]),
        "false": np.array([0, 4, 0]),
    }
    assert reduce(counts, "pooled") == {
        "opens": 3.0,
        "shorts": 3.0,
        "missed": 4.0,
        "false": 4.0,
        "net_error_rate": 0.5,
        "net_precision": 0.5,
        "net_recall": 0.5,
        "net_f1": 0.5,
    }
    assert reduce(counts, "image") == {}
