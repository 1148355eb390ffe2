"""Circles of vias against what HY5SYN's reader draws of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from scipy import ndimage

from benchmark.data.formats.svg import rasterise, read_svg
from benchmark.data.synthetic import generate
from benchmark.predict.polygons import circles
from benchmark.predict.polygons.circles import circles_of
from benchmark.predict.polygons.outlines import trace
from benchmark.predict.polygons.svg_writer import to_svg
from tests.benchmark.predict.shapes import Mask, blobs, masks

SVG = Path("circles.svg")


def read_back(path: Path, track: Mask, via: Mask) -> int:
    """Check that an SVG holds exactly both layers; return the number of its circles."""
    drawn, _ = circles_of(via)
    path.write_text(to_svg(via.shape, trace(track), drawn))
    label = read_svg(path)
    layers = rasterise(label)
    np.testing.assert_array_equal(layers.via, via)
    np.testing.assert_array_equal(layers.track, track)
    return len(label.vias)


@given(masks, st.booleans())
def test_any_mask_reads_back(tmp_path_factory: pytest.TempPathFactory, mask: Mask, tracks: bool) -> None:
    if mask.any():
        folder = tmp_path_factory.getbasetemp()
        read_back(folder / SVG, np.roll(mask, 1, axis=0) if tracks else np.zeros_like(mask), mask)


@pytest.mark.parametrize("index", range(8))
def test_drawn_layouts_read_back(tmp_path: Path, index: int) -> None:
    sample = generate("hy5syn", index, height=256, width=320, seed=9)
    assert sample.track.any()
    read_back(tmp_path / SVG, sample.track, sample.via)
    ragged = ndimage.binary_opening(sample.via ^ (np.random.default_rng(index).random(sample.via.shape) < 0.02))
    read_back(tmp_path / SVG, sample.track, ragged)


@pytest.mark.parametrize("diameter", range(1, 40))
def test_drawn_disc_is_one_circle(diameter: int) -> None:
    picture = Image.new("L", (60, 50))
    ImageDraw.Draw(picture).ellipse([7, 5, 7 + diameter, 5 + diameter], fill=1)
    assert circles_of(np.asarray(picture, np.bool_))[0].tolist() == [
        [7 + diameter / 2, 5 + diameter / 2, diameter / 2],
    ]


def test_single_pixel_is_a_circle_that_draws_it(tmp_path: Path) -> None:
    mask = np.zeros((5, 9), np.bool_)
    mask[2, 3] = mask[4, 8] = True
    assert read_back(tmp_path / SVG, np.zeros_like(mask), mask) == 2


def test_component_that_is_no_via_is_one_disc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circles, "MOST_AREA", 100)
    mask = np.zeros((60, 60), np.bool_)
    mask[5:8, 5:8] = True
    mask[20:50, 20:50] = True
    drawn, large = circles_of(mask)
    assert large == 1
    assert drawn[-1].tolist() == [34, 34, 17]
    monkeypatch.undo()
    assert circles_of(mask)[1] == 0


def test_blobs_take_few_circles() -> None:
    mask = ndimage.binary_opening(blobs(3, 120, 160, 5), iterations=2)
    count = ndimage.label(mask, np.ones((3, 3)))[1]
    assert len(circles_of(mask)[0]) < mask.sum() / 12
    assert count >= 3
