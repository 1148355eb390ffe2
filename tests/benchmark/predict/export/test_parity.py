"""Comparing a file with torch: what passes, what does not, at which sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmark.predict.export import parity
from benchmark.predict.export.export_formats import Array, Forward
from benchmark.predict.export.parity import ParityError, Range, Yardstick


def doubled(image: Array) -> Array:
    return image * 2


def exactly(torch: Forward) -> Yardstick:
    return Yardstick(torch, torch)


DOUBLED = exactly(doubled)


def image(*shape: int) -> Array:
    return np.random.default_rng(0).random(shape, np.float32)


def test_differences_and_masks_are_counted_over_all_pixels() -> None:
    logits = np.array([[[[-3.0, -1e-6, 1e-6, 20.0]]]], np.float32)
    moved = logits + np.array([[[[0.0, 2e-6, -2e-6, 1e-3]]]], np.float32)
    result = parity.compare(exactly(lambda _: logits), lambda _: moved, image(1, 1, 1, 4), "x", 0.5)
    assert result.max_difference == pytest.approx(1e-3, rel=1e-3)
    assert (result.max_logit, result.pixels, result.differing_pixels) == (20.0, 4, 2)


def test_threshold_is_one_of_the_probability() -> None:
    logits = np.array([[[[2.0]]]], np.float32)  # a probability of 0.8808
    moved = logits + np.float32(1e-4)
    between = float(1 / (1 + np.exp(-2.00005)))
    for threshold, differing in ((0.5, 0), (between, 1)):
        result = parity.compare(exactly(lambda _: logits), lambda _: moved, image(1, 1, 1, 1), "x", threshold)
        assert result.differing_pixels == differing


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda x: x * 2 + 1e-3, r"logits differ by 0\.001 of \S+ at 2 x 8x6 \(x\)"),
        (lambda x: x * np.nan, "logits differ by nan"),
        (lambda x: doubled(x)[:1], r"logits of shape \(1, 1, 8, 6\) and torch's of \(2, 1, 8, 6\)"),
        (lambda x: 1 / 0, r"does not run at 2 x 8x6 \(x\): division by zero"),
    ],
)
def test_what_is_not_the_same_is_refused(other: Forward, message: str) -> None:
    with pytest.raises(ParityError, match=message):
        parity.compare(DOUBLED, other, image(2, 1, 8, 6), "x", 0.5)


@pytest.mark.parametrize(("error", "passes"), [(3.9e-3, True), (4.1e-3, False)])
def test_beyond_the_tolerance_float64_tells_what_is_rounding(error: float, passes: bool) -> None:
    torch_is_off_by = 1e-3
    yardstick = Yardstick(lambda x: doubled(x) + torch_is_off_by, lambda x: doubled(x.astype(np.float64)))
    pixels = image(1, 1, 8, 8)
    if passes:
        result = parity.compare(yardstick, lambda x: doubled(x) - error, pixels, "x", 0.5)
        assert result.rounding == pytest.approx(torch_is_off_by, rel=1e-2)
        assert result.max_difference == pytest.approx(error + torch_is_off_by, rel=1e-2)
    else:
        with pytest.raises(ParityError, match="logits differ"):
            parity.compare(yardstick, lambda x: doubled(x) - error, pixels, "x", 0.5)


def test_yardstick_of_a_network_is_the_network_in_two_precisions() -> None:
    network = torch.nn.Conv2d(1, 1, 3)
    before = network.weight.clone()
    yardstick, pixels = Yardstick.of(network), image(2, 1, 8, 8)
    assert (yardstick.torch(pixels).dtype, yardstick.exact(pixels).dtype) == (np.float32, np.float64)
    assert 0 < np.abs(yardstick.torch(pixels) - yardstick.exact(pixels)).max() < 1e-6
    assert torch.equal(network.weight, before)
    assert network.weight.dtype == torch.float32


@pytest.mark.parametrize("step", [1, 4, 8, 16, 32, 64])
def test_sizes_differ_from_those_of_the_capture_and_hold_odd_multiples(step: int) -> None:
    result = parity.sizes(512, Range(step, 2 * step))
    assert result[0] == (1, 512, 512)
    assert (1, 2 * step, 2 * step) in result
    assert all(height % step == width % step == 0 for _, height, width in result)
    assert any(height // step % 2 and width // step % 2 and batch == parity.BATCH for batch, height, width in result)
    assert {height < width for _, height, width in result} == {True, False}
    assert len({(height, width) for _, height, width in result}) >= 3
    assert parity.sizes(512, Range(None, 512)) == [(1, 512, 512), (parity.BATCH, 512, 512)]


def test_smallest_size_is_found_by_trying() -> None:
    def from_24_on(image: Array) -> Array:
        if image.shape[-1] < 24:
            raise ValueError("too small")
        return doubled(image)

    assert parity.range_of(DOUBLED, doubled, 1, 8) == Range(8, 8)
    assert parity.range_of(DOUBLED, from_24_on, 1, 8) == Range(8, 24)
    assert parity.range_of(exactly(from_24_on), doubled, 1, 8) == Range(8, 24)
    with pytest.raises(ParityError, match="does not run at 1 x 96x96"):
        parity.range_of(DOUBLED, lambda _: image(1 // 0), 1, 8)


def test_of_an_error_only_its_first_line_is_told() -> None:
    assert parity.words(ValueError("\n  what happened\nand a page more")) == "what happened"
    assert parity.words(ValueError()) == "ValueError"
    assert len(parity.words(ValueError("x" * 1000))) == parity.MOST_WORDS + 1
    raised = parity.words(RuntimeError("height/width at /home/someone/src/split.cpp:7 and C:\\Users\\me\\net.py"))
    assert raised == "height/width at split.cpp:7 and net.py"
