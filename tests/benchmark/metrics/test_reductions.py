"""Both reductions of every metric against scikit-learn, scikit-image and brute force on whole sets of images.

The oracles see pixels, never counts: pooled figures are those of all images' pixels put together.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from skimage.metrics import variation_of_information
from skimage.morphology import skeletonize
from sklearn.metrics import f1_score, jaccard_score, recall_score

from benchmark.metrics import METRICS, count_image, reduce, via_counts_from_masks
from benchmark.metrics.components import Mask
from tests.benchmark.metrics.layouts import damaged, window
from tests.benchmark.metrics.reference import EIGHT, brute_aji, loop_terms
from tests.benchmark.metrics.strategies import mask_pairs
from tests.benchmark.metrics.test_electrical import plain

Pair = tuple[Mask, Mask]
BORDER_PX, MIN_AREA_PX = 2, 3


def reduced(pairs: list[Pair], **settings: int) -> dict[str, dict[str, float]]:
    limits = {"border_px": BORDER_PX, "min_area_px": MIN_AREA_PX} | settings
    rows = [count_image(*pair, **limits, cldice=True) | via_counts_from_masks(*pair) for pair in pairs]  # type: ignore[arg-type]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return {"image": reduce(columns, "image"), "pooled": reduce(columns, "pooled")}


def miou(g: Mask, p: Mask) -> float:
    return float(jaccard_score(g, p, labels=sorted({*g.tolist(), *p.tolist()}), average="macro"))


def mpa(g: Mask, p: Mask) -> float:
    return float(recall_score(g, p, labels=sorted(set(g.tolist())), average="macro", zero_division=0.0))


def fg_iou(g: Mask, p: Mask) -> float:
    return float(jaccard_score(g, p, zero_division=1.0)) if (g | p).any() else 1.0


def dice(g: Mask, p: Mask) -> float:
    return float(f1_score(g, p, zero_division=1.0))


PIXEL_ORACLES: dict[str, Callable[[Mask, Mask], float]] = {"miou": miou, "mpa": mpa, "dice": dice, "fg_iou": fg_iou}


def labels(masks: list[Mask]) -> np.ndarray:
    """One long row of segments; each image's components and its background are its own."""
    rows = [ndimage.label(mask, EIGHT)[0].ravel() for mask in masks]
    offsets = np.cumsum([0, *(row.max() + 1 for row in rows[:-1])])
    return np.concatenate([row + offset for row, offset in zip(rows, offsets, strict=True)])


def beside(masks: list[Mask]) -> Mask:
    """Images of any sizes below each other, with background between them."""
    width = max(mask.shape[1] for mask in masks)
    return np.concatenate([np.pad(mask, ((1, 1), (1, 1 + width - mask.shape[1]))) for mask in masks])


def cldice(g: Mask, p: Mask) -> float:
    if not g.any() or not p.any():
        return float(g.any() == p.any())
    precision, sensitivity = np.mean(g[skeletonize(p)]), np.mean(p[skeletonize(g)])
    return float(2 * precision * sensitivity / (precision + sensitivity)) if precision + sensitivity else 0.0


def assert_both_reductions(pairs: list[Pair], terms: Callable[[Mask, Mask], tuple[int, int]]) -> None:
    ours = reduced(pairs)
    truths, predictions = (list(side) for side in zip(*pairs, strict=True))
    flat = [np.concatenate([mask.ravel() for mask in side]) for side in (truths, predictions)]
    for name, oracle in PIXEL_ORACLES.items():
        per_image = [oracle(g.ravel(), p.ravel()) for g, p in pairs]
        assert ours["image"][name] == pytest.approx(np.mean(per_image), abs=1e-12), name
        assert ours["pooled"][name] == pytest.approx(oracle(flat[0], flat[1]), abs=1e-12), name

    fractions = [terms(*pair) for pair in pairs]
    values = [Fraction(n, d) if d else Fraction(1) for n, d in fractions]
    assert ours["image"]["aji"] == pytest.approx(float(sum(values) / len(values)), abs=1e-12)
    numerator, denominator = map(sum, zip(*fractions, strict=True))
    pooled = Fraction(numerator, denominator) if denominator else Fraction(1)
    assert ours["pooled"]["aji"] == pytest.approx(float(pooled), abs=1e-12)

    per_image = [cldice(*pair) for pair in pairs]
    assert ours["image"]["cldice"] == pytest.approx(np.mean(per_image), abs=1e-12)
    assert ours["pooled"]["cldice"] == pytest.approx(cldice(beside(truths), beside(predictions)), abs=1e-12)

    # Half a nanobit of rounding per image; on an image of 500 pixels or more that is below 1e-12 bits per pixel.
    rounding = max(1e-12, 0.51e-9 / min(g.size for g, _ in pairs))
    halves = np.array([variation_of_information(labels([g]), labels([p])) for g, p in pairs])
    together = variation_of_information(labels(truths), labels(predictions))
    for half, name in enumerate(("vi_split", "vi_merge")):
        assert ours["image"][name] == pytest.approx(halves[:, half].mean(), abs=rounding)
        assert ours["pooled"][name] == pytest.approx(together[half], abs=rounding)

    sums = {
        name: sum(plain(*pair, BORDER_PX, MIN_AREA_PX)[name] for pair in pairs)
        for name in plain(*pairs[0], BORDER_PX, MIN_AREA_PX)
    }
    for name in ("opens", "shorts", "missed", "false"):
        assert ours["pooled"][name] == sums[name]
        assert name not in ours["image"]
    nets, components, correct = sums["nets"], sums["components"], sums["correct"]
    rates = {
        "net_error_rate": Fraction(nets - correct, nets) if nets else None,
        "net_recall": Fraction(correct, nets) if nets else None,
        "net_precision": Fraction(correct, components) if components else None,
        "net_f1": Fraction(2 * correct, nets + components) if nets + components else None,
    }
    for name, rate in rates.items():
        assert ours["pooled"].get(name) == (None if rate is None else pytest.approx(float(rate), abs=1e-12)), name


@given(st.lists(mask_pairs(), min_size=1, max_size=3))
def test_small_masks_of_every_kind(pairs: list[Pair]) -> None:
    assert_both_reductions(pairs, brute_aji)


def test_images_of_usual_size_and_of_several_sizes() -> None:
    sides = (96, 128, 160)
    truths = [window(seed, side) for seed, side in enumerate(sides)]
    pairs = [(g, damaged(g, 25, seed)) for seed, g in enumerate(truths)]
    assert_both_reductions(pairs, lambda g, p: loop_terms(g, p)[:2])
    ours = reduced(pairs)
    fractions = [loop_terms(*pair)[2:] for pair in pairs]
    assert ours["image"]["aji_plus"] == pytest.approx(np.mean([n / d for n, d in fractions]), abs=1e-12)
    numerator, denominator = map(sum, zip(*fractions, strict=True))
    assert ours["pooled"]["aji_plus"] == pytest.approx(numerator / denominator, abs=1e-12)
    assert all(abs(ours["image"][name] - ours["pooled"][name]) > 1e-6 for name in ("miou", "aji", "cldice", "vi_split"))


def test_every_metric_has_an_oracle() -> None:
    here = {*PIXEL_ORACLES, "aji", "aji_plus", "cldice", "vi_split", "vi_merge"}
    others = {"boundary_f1", "betti0_error", "betti1_error"}  # in test_boundaries.py and test_betti.py
    electrical = {"opens", "shorts", "missed", "false", "net_error_rate", "net_precision", "net_recall", "net_f1"}
    assert here | others | electrical == {
        name for name in METRICS if not name.startswith(("via_", "vias_", "connection_"))
    }


@given(mask_pairs(max_side=16))
def test_bounds_and_symmetry(pair: Pair) -> None:
    ours, turned = reduced([pair])["pooled"], reduced([pair[::-1]])["pooled"]
    for name, value in ours.items():
        low, high = METRICS[name].range
        assert low <= value <= high, name
    for name in ("miou", "dice", "fg_iou", "aji_plus", "boundary_f1", "cldice", "betti0_error", "betti1_error"):
        assert ours[name] == turned[name], name
    assert (ours["vi_split"], ours["vi_merge"]) == (turned["vi_merge"], turned["vi_split"])
    itself = reduced([(pair[0], pair[0])])["pooled"]
    perfect = ("miou", "mpa", "dice", "aji", "aji_plus", "fg_iou", "boundary_f1", "cldice")
    assert [itself[name] for name in perfect] == [1.0] * len(perfect)
    assert (itself["vi_split"], itself["vi_merge"], itself["opens"], itself["shorts"]) == (0, 0, 0, 0)


TURNS: dict[str, Callable[[Mask], Mask]] = {
    "upside down": lambda m: m[::-1],
    "mirrored": lambda m: m[:, ::-1],
    "transposed": lambda m: m.T,
    "turned": lambda m: np.rot90(m),
}


@pytest.mark.parametrize("turn", TURNS)
@given(pair=mask_pairs(max_side=16))
def test_order_of_components_changes_nothing(turn: str, pair: Pair) -> None:
    """AJI's last tie rule is the raster order, and skeletons thin from a fixed corner: both are left out here."""
    first, second = (
        count_image(*masks, border_px=BORDER_PX, min_area_px=MIN_AREA_PX)
        for masks in (pair, tuple(TURNS[turn](mask) for mask in pair))
    )
    for counts in (first, second):
        del counts["aji_num"], counts["aji_den"]
    assert first == second


@pytest.mark.parametrize("turn", TURNS)
def test_order_of_components_changes_no_aji_without_ties(turn: str) -> None:
    truth = window(5, 256)
    prediction = damaged(truth, 60, 5)
    assert count_image(truth, prediction) == count_image(TURNS[turn](truth), TURNS[turn](prediction))
