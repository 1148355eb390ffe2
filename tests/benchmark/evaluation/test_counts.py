"""Counts of a test set, and the methods without training that networks are compared with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmark import metrics
from benchmark.config.protocol import Protocol
from benchmark.data.packs import IGNORED, Pack
from benchmark.evaluation import counts


def test_via_targets_have_via_counts_and_no_opens(small: Protocol, pack: Pack) -> None:
    rows = counts.score_reference("otsu", pack, pack.divide(small).test, "via", small)
    assert {"via_true", "via_predicted", "via_matched"} <= rows[0].keys()
    assert not {"opens", "shorts"} & rows[0].keys()
    assert "opens" not in counts.summarise(rows)["pooled"]


def test_otsu_and_background_are_scored_like_networks(small: Protocol, pack: Pack) -> None:
    test = pack.divide(small).test
    background = counts.score_reference("background", pack, test, "track", small)
    assert all(row["tp"] == row["fp"] == 0 for row in background)
    images, masks = pack.centre(test, 32)
    otsu = counts.score_reference("otsu", pack, test, "track", small)
    for row, image, mask in zip(otsu, images, masks, strict=True):
        assert row["tp"] == (counts.otsu(image) & (mask > 0)).sum()
    assert set(metrics.ratios(counts.columns_of(otsu))) >= {"miou", "aji"}


@pytest.mark.parametrize("name", counts.REFERENCES)
def test_an_image_of_one_gray_level_has_no_foreground(name: str) -> None:
    predicted = counts.REFERENCES[name](np.full((32, 48, 1), 7, np.uint8))
    assert predicted.shape == (32, 48)
    assert not predicted.any()


@pytest.mark.parametrize("name", ["otsu", "kmeans"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_bright_bar_on_dark_ground_is_found(name: str, channels: int) -> None:
    image = np.full((64, 64, channels), 40, np.uint8)
    image[20:40] = 200
    assert (counts.REFERENCES[name](image) == (image[..., 0] > 100)).all()


def test_k_means_looks_at_the_surroundings_of_a_pixel_and_draws_nothing_at_random() -> None:
    rng = np.random.default_rng(0)
    truth = np.zeros((128, 128), np.bool_)
    truth[40:90] = True
    noisy = np.clip(np.where(truth, 150, 90) + rng.normal(0, 30, truth.shape), 0, 255).astype(np.uint8)[..., None]
    first = counts.kmeans(noisy)
    assert (first != truth).mean() < 0.7 * (counts.otsu(noisy) != truth).mean()
    np.random.default_rng(1).random()
    np.random.seed(5)  # noqa: NPY002  # the generator that scipy falls back to
    assert (counts.kmeans(noisy) == first).all()


@pytest.mark.parametrize("name", counts.REFERENCES)
def test_references_are_scored_on_the_windows_of_the_networks(small: Protocol, pack: Pack, name: str) -> None:
    settings = small.evaluation.model_copy(update={"window": "tile"})
    for protocol, side in ((small, 32), (small.model_copy(update={"evaluation": settings}), 64)):
        assert counts.tested_side(pack, protocol) == side
        rows = counts.score_reference(name, pack, pack.divide(small).test, "track", protocol)
        assert all(sum(int(row[n]) for n in ("tp", "fp", "fn", "tn")) == side**2 for row in rows)


@pytest.mark.parametrize("target", ["track", "via"])
def test_ignored_pixels_are_no_foreground(small: Protocol, pack: Pack, target: str) -> None:
    test = pack.divide(small).test
    masks = np.array(pack.masks)
    masks[:, 30:] = IGNORED
    rows = counts.score_reference("otsu", replace(pack, masks=masks), test, target, small)  # type: ignore[arg-type]
    for row, index in zip(rows, test, strict=True):
        truth = pack.masks[index][16:30, 16:48]
        assert row["ignored"] == 18 * 32
        assert int(row["tp"]) + int(row["fn"]) == truth.sum()


@pytest.mark.parametrize(
    ("behaviours", "ending"),
    [
        ([1, 2], "below 16 px², do not count."),
        ([3], "below 16 px², do not count, except the largest such component of a net that no larger one hits."),
        ([2, 3], "do not count, except (runs of behaviour number 3 on) the largest such component of a net that no "
                 "larger one hits."),
    ],
)  # fmt: skip
def test_sentence_about_small_nets_follows_the_behaviour_number_of_the_runs(
    behaviours: list[int], ending: str, small: Protocol
) -> None:
    limits = small.evaluation.model_copy(update={"border_px": 8, "min_area_px": 16})
    assert counts.limits_of_nets(limits, behaviours).endswith(ending)
    assert counts.limits_of_nets(limits).startswith("Nets that lie only in the outer 8 px of an image, and predicted ")
