"""Maps made ready to be shown: which component, which sign, which scale, without the padding."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from sklearn.decomposition import PCA

from benchmark.predict import feature_maps
from benchmark.predict.feature_maps import Patch

Rng = np.random.Generator


@pytest.fixture
def rng() -> Rng:
    return np.random.default_rng(0)


def gray(rng: Rng, height: int, width: int) -> np.ndarray:
    return rng.integers(0, 256, (height, width, 1), dtype=np.uint8)


def test_principal_component_is_scikit_learns(rng: Rng) -> None:
    values = rng.normal(size=(7, 400)) * np.arange(1, 8)[:, None] + 5
    brightness = rng.normal(size=400)

    loadings, share = feature_maps.principal(values, brightness)

    theirs = PCA(1, svd_solver="full").fit(values.T)
    assert abs(loadings @ theirs.components_[0]) == pytest.approx(1)
    assert share == pytest.approx(theirs.explained_variance_ratio_[0])
    assert np.corrcoef(loadings @ values, brightness)[0, 1] > 0
    assert np.allclose(feature_maps.principal(values, -brightness)[0], -loadings)


def test_without_any_correlation_the_largest_loading_is_positive(rng: Rng) -> None:
    values = np.array([[1.0, -1.0, 1.0, -1.0], [-3.0, 3.0, -3.0, 3.0]])

    for signed in (values, -values):
        loadings, share = feature_maps.principal(signed, np.ones(4))
        assert loadings == pytest.approx(np.array([-1, 3]) / np.sqrt(10))
        assert share == pytest.approx(1)


def test_padding_takes_no_part_in_any_figure(rng: Rng) -> None:
    padded = feature_maps.pad(gray(rng, 20, 28), 16)
    assert padded.shape == (32, 32, 1)
    features = rng.normal(size=(3, 8, 8))
    # A map of 8x8 on 32x32: the image covers five rows of its own and seven columns.
    louder = features.copy()
    louder[2, 5:] = louder[2, :, 7:] = 1000

    for channel in ("principal", "variance"):
        shown, other = (
            feature_maps.stage("down", created, padded, (20, 28), channel)  # type: ignore[arg-type]
            for created in (features, louder)
        )
        seen = shown.values[:5, :7]
        assert (seen.mean(), seen.std()) == pytest.approx((0, 1))
        assert np.allclose(other.values[:5, :7], seen)
        assert shown.component == other.component
        assert shown.facts == "1/4 · 3 ch · 8×8"


def test_most_varying_channel_is_shown_with_its_own_sign(rng: Rng) -> None:
    features = rng.normal(size=(4, 6, 6)) * np.array([1, 2, 9, 3])[:, None, None]

    shown = feature_maps.stage("s", features, gray(rng, 12, 12), (12, 12), "variance")

    assert shown.component == "channel 2"
    assert np.allclose(shown.values, (features[2] - features[2].mean()) / features[2].std())


@pytest.mark.parametrize("channel", ["principal", "variance"])
def test_map_without_content_is_flat_and_not_a_pattern_of_rounding(channel: feature_maps.Channel, rng: Rng) -> None:
    features = np.full((2, 4, 4), 0.1, np.float32) + rng.normal(size=(2, 4, 4)).astype(np.float32) * 1e-9

    shown = feature_maps.stage("s", features, gray(rng, 8, 8), (8, 8), channel)

    assert shown.component == "flat"
    assert not shown.values.any()


def test_scale_is_told_as_it_is(rng: Rng) -> None:
    def scale(*size: int) -> str:
        features = np.zeros((1, *size), np.float32)
        return feature_maps.stage("s", features, gray(rng, 96, 96), (96, 96), "variance").scale

    assert [scale(12, 12), scale(11, 11), scale(96, 96), scale(48, 24)] == ["1/8", "1/8.73", "1/1", "1/2 by 1/4"]


def test_images_are_mirrored_to_a_size_that_divides(rng: Rng) -> None:
    pixels = gray(rng, 5, 16)

    assert np.array_equal(feature_maps.pad(pixels, 8)[:, :, 0], np.pad(pixels[..., 0], ((0, 3), (0, 0)), "reflect"))
    assert feature_maps.pad(pixels, 1) is not None
    assert np.array_equal(feature_maps.pad(pixels, 1), pixels)
    assert feature_maps.pad(gray(rng, 3, 3), 32).shape == (32, 32, 1)  # mirrored more than once


@pytest.mark.parametrize("size", [(70, 40), (130, 200), (20, 50)])
def test_patch_has_the_most_gradient_energy(size: tuple[int, int], rng: Rng) -> None:
    pixels = gray(rng, *size)

    box = feature_maps.busiest(pixels)

    assert box.side == {40: 32, 130: 32, 20: 20}[min(size)]
    energy = sum(ndimage.sobel(pixels[..., 0].astype(float), axis) ** 2 for axis in (0, 1))
    windows = np.lib.stride_tricks.sliding_window_view(energy, (box.side, box.side)).sum((2, 3))
    assert np.argwhere(windows == windows.max())[0].tolist() == [box.y, box.x]


def test_of_equal_patches_the_upmost_then_the_leftmost_is_taken() -> None:
    assert feature_maps.busiest(np.full((200, 300, 3), 7, np.uint8)) == Patch(0, 0, 50)


def test_box_lies_inside_or_not() -> None:
    assert Patch(2, 3, 5).fits(8, 7)
    assert not any(box.fits(8, 7) for box in (Patch(3, 3, 5), Patch(2, 4, 5), Patch(-1, 0, 2), Patch(0, 0, 0)))
