"""Drawn stripes give the widths, pitch, contrast, noise and blur that they were drawn with."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from benchmark.data.check.picture_statistics import NAMES, measure, measure_survey
from benchmark.data.check.survey import DatasetFolder, survey_folder
from benchmark.data.check.verify import verify_dataset
from tests.benchmark.data.check.folder_checks import protocol, row
from tests.benchmark.data.folder_makers import make_folder, save

BoolMask = NDArray[np.bool_]
SIDE = 256


def stripes(width: int, pitch: int, first: int = 3) -> BoolMask:
    return np.tile((np.arange(SIDE) - first) % pitch < width, (SIDE, 1))


def drawn(
    mask: BoolMask, *, sigma: float = 1.0, noise: float = 3.0, light: float = 180, dark: float = 100
) -> np.ndarray:
    """Draw a mask out of focus, then add noise."""
    image = ndimage.gaussian_filter(np.where(mask, light, dark).astype(np.float64), sigma)
    image += np.random.default_rng(0).normal(0, noise, mask.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def medians(image: np.ndarray, mask: BoolMask, counted: BoolMask | None = None) -> dict[str, float]:
    values = measure(image, mask, np.ones_like(mask) if counted is None else counted)
    assert list(values) == list(NAMES)
    return {name.partition(",")[0]: float(np.median(value)) for name, value in values.items() if value.size}


@pytest.mark.parametrize(("width", "pitch"), [(1, 5), (4, 9), (11, 24), (30, 70)])
@pytest.mark.parametrize("turned", [False, True])
def test_widths_and_pitch_of_stripes_are_exact(width: int, pitch: int, turned: bool) -> None:
    mask = stripes(width, pitch).T if turned else stripes(width, pitch)
    values = measure(drawn(mask), mask, np.ones_like(mask))
    for name, expected in (("foreground width, px", width), ("gap width, px", pitch - width), ("pitch, px", pitch)):
        assert set(values[name]) == {expected}, name


@pytest.mark.parametrize("angle", [10, 30, 45])
def test_widths_of_slanted_stripes_are_within_a_pixel(angle: float) -> None:
    y, x = np.mgrid[:SIDE, :SIDE]
    mask = (x * np.cos(np.radians(angle)) + y * np.sin(np.radians(angle))) % 23 < 9
    found = medians(drawn(mask), mask)
    assert found["foreground width"] == pytest.approx(9, abs=1)
    assert found["gap width"] == pytest.approx(14, abs=1)


@pytest.mark.parametrize(("sigma", "noise"), [(0.7, 1.5), (1.0, 3), (1.5, 10)])
@pytest.mark.parametrize(("light", "dark"), [(180, 100), (60, 140)])
def test_blur_noise_and_contrast_are_those_drawn(sigma: float, noise: float, light: float, dark: float) -> None:
    mask = stripes(40, 90)  # most pixels of which are far from an edge
    found = medians(drawn(mask, sigma=sigma, noise=noise, light=light, dark=dark), mask)
    assert found["blur"] == pytest.approx(sigma, rel=0.1)
    assert found["contrast"] == pytest.approx((light - dark) / (light + dark), abs=0.02)
    rounded = np.hypot(noise, np.sqrt(1 / 12))
    for name in ("noise", "foreground texture", "background texture"):
        assert found[name] == pytest.approx(rounded, rel=0.1), name


def test_mask_drawn_by_hand_hardly_changes_the_blur() -> None:
    """Each row of the mask is off by up to 2 px, slowly; a profile across the mask as it is would show 1.7 px."""
    truth = stripes(24, 60)
    off = np.rint(2 * np.sin(np.arange(SIDE) / 9)).astype(int)
    mask = np.array([np.roll(row, by) for row, by in zip(truth, off, strict=True)])
    assert medians(drawn(truth), mask)["blur"] == pytest.approx(1.0, rel=0.1)


def test_grains_are_texture_and_little_noise() -> None:
    mask = stripes(60, 120)
    grains = ndimage.gaussian_filter(np.random.default_rng(1).normal(0, 1, mask.shape), 1.5)
    image = np.clip(drawn(mask, noise=0) + 10 * mask * grains / grains.std(), 0, 255).astype(np.uint8)
    found = medians(image, mask)
    assert found["noise"] < 1
    assert 4 < found["foreground texture"] < 10
    assert found["background texture"] < 0.5


def test_ignored_pixels_change_no_figure() -> None:
    mask, counted = stripes(14, 30), np.ones((SIDE, SIDE), np.bool_)
    counted[:, 100:] = False
    image = drawn(mask)
    spoiled, other = np.where(counted, mask, stripes(5, 9)), np.where(counted, image, 0).astype(np.uint8)
    values, expected = measure(other, spoiled, counted), measure(image, mask, counted)
    assert set(values["foreground width, px"]) == {14}
    assert set(values["gap width, px"]) == {16}
    assert set(values["pitch, px"]) == {30}
    for name in NAMES:
        assert values[name] == pytest.approx(expected[name], rel=0.02), name


@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (40, 40)])
def test_window_of_one_class_or_few_pixels_has_no_figure_of_edges(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    counted = np.ones(shape, np.bool_)
    assert medians(image, np.zeros(shape, np.bool_)) == {}
    assert medians(image, image > 127, ~counted) == {}
    assert "blur" not in medians(image, image > 127)


def test_same_windows_are_drawn_each_time_and_broken_files_left_out(tmp_path: Path) -> None:
    make_folder(tmp_path, "abcdef")
    (tmp_path / "image" / "b.png").write_bytes(b"")
    survey = survey_folder(DatasetFolder("mychip", tmp_path), protocol())
    first, again = measure_survey(survey, 3), measure_survey(survey, 3)
    assert str(first) == "3 of 5 windows"
    assert [first.summary(name) for name in NAMES] == [again.summary(name) for name in NAMES]
    assert re.fullmatch(r"0\.50 \(0\.\d\d to 0\.\d\d\)", first.summary("contrast"))
    assert first.summary("blur, px") == "-"


def test_two_datasets_are_shown_side_by_side(tmp_path: Path) -> None:
    for name, light in (("real", 180), ("drawn", 140)):
        save(tmp_path / name / "image" / "a.png", drawn(stripes(14, 28), light=light))
        save(tmp_path / name / "label" / "a.png", stripes(14, 28).astype(np.uint8) * np.uint8(255))
    real, other = (DatasetFolder(name, tmp_path / name) for name in ("real", "drawn"))
    verification = verify_dataset(real, protocol(), against=other)
    assert row(verification, "windows measured").value == "real 1 of 1 window; drawn 1 of 1 window"
    assert row(verification, "pitch, px").value == "real 28.0 (28.0 to 28.0); drawn 28.0 (28.0 to 28.0)"
    assert re.fullmatch(r"real 0\.2\d .*; drawn 0\.1\d .*", row(verification, "contrast").value)
    assert row(verification, "foreground share").value.count("mean 49.6%") == 2
    assert row(verify_dataset(real, protocol()), "gap width, px").value == "14.0 (14.0 to 14.0)"
