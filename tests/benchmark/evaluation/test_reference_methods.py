"""The methods without training that networks are compared with."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark import metrics
from benchmark.config.protocol import Protocol
from benchmark.data.packs import Pack
from benchmark.evaluation.counts import count_columns, window_side
from benchmark.evaluation.reference_methods import REFERENCE_METHODS, kmeans, otsu, score_reference


def test_otsu_and_background_are_scored_like_networks(small: Protocol, pack: Pack) -> None:
    test = pack.divide(small).test
    (background,) = score_reference("background", pack, test, small).values()
    assert all(row["tp"] == row["fp"] == 0 for row in background)
    images, masks = pack.centre(test, 32)
    (rows,) = score_reference("otsu", pack, test, small).values()
    for row, image, mask in zip(rows, images, masks[:, 0], strict=True):
        assert row["tp"] == (otsu(image) & (mask > 0)).sum()
    assert set(metrics.ratios(count_columns(rows))) >= {"miou", "aji"}


@pytest.mark.parametrize("name", REFERENCE_METHODS)
def test_image_of_one_gray_level_has_no_foreground(name: str) -> None:
    predicted = REFERENCE_METHODS[name](np.full((32, 48, 1), 7, np.uint8))
    assert predicted.shape == (32, 48)
    assert not predicted.any()


@pytest.mark.parametrize("name", ["otsu", "kmeans"])
@pytest.mark.parametrize("channels", [1, 3])
def test_bright_bar_on_dark_ground_is_found(name: str, channels: int) -> None:
    image = np.full((64, 64, channels), 40, np.uint8)
    image[20:40] = 200
    assert (REFERENCE_METHODS[name](image) == (image[..., 0] > 100)).all()


def test_k_means_looks_at_the_surroundings_of_a_pixel_and_draws_nothing_at_random() -> None:
    rng = np.random.default_rng(0)
    truth = np.zeros((128, 128), np.bool_)
    truth[40:90] = True
    noisy = np.clip(np.where(truth, 150, 90) + rng.normal(0, 30, truth.shape), 0, 255).astype(np.uint8)[..., None]
    first = kmeans(noisy)
    assert (first != truth).mean() < 0.7 * (otsu(noisy) != truth).mean()
    np.random.default_rng(1).random()
    np.random.seed(5)  # noqa: NPY002  # the generator that scipy falls back to
    assert (kmeans(noisy) == first).all()


@pytest.mark.parametrize("name", REFERENCE_METHODS)
def test_references_are_scored_on_the_windows_of_the_networks(small: Protocol, pack: Pack, name: str) -> None:
    settings = small.evaluation.model_copy(update={"window": "tile"})
    for protocol, side in ((small, 32), (small.model_copy(update={"evaluation": settings}), 64)):
        assert window_side(pack, protocol) == side
        (rows,) = score_reference(name, pack, pack.divide(small).test, protocol).values()
        assert all(sum(int(row[n]) for n in ("tp", "fp", "fn", "tn")) == side**2 for row in rows)
