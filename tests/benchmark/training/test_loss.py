from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmark.config.protocol import Loss
from benchmark.training.loss import segmentation_loss


def plain(logits: NDArray[np.float64], mask: NDArray[np.float64], settings: Loss) -> float:
    p = 1 / (1 + np.exp(-logits))
    bce = -(mask * np.log(p) + (1 - mask) * np.log(1 - p)).mean()
    dice = (2 * (p * mask).sum() + settings.epsilon) / (p.sum() + mask.sum() + settings.epsilon)
    return float(settings.bce * bce + settings.dice * (1 - dice))


def case(seed: int, n: int = 3, foreground: float = 0.3) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, 1, 6, 5))
    return torch.from_numpy(logits), torch.from_numpy((rng.random(logits.shape) < foreground).astype(np.float64))


@pytest.mark.parametrize(
    "settings", [Loss(), Loss(bce=1, dice=0), Loss(bce=0, dice=1), Loss(bce=0.3, dice=2, epsilon=1)]
)
@pytest.mark.parametrize("foreground", [0.0, 0.3, 1.0])
def test_matches_plain_numpy(settings: Loss, foreground: float) -> None:
    logits, mask = case(0, foreground=foreground)
    result = segmentation_loss(logits, mask, settings)
    assert result.dtype == torch.float32
    assert result.shape == ()
    assert result.item() == pytest.approx(plain(logits.numpy(), mask.numpy(), settings), rel=1e-5)


def test_dice_is_of_the_batch_and_not_a_mean_over_images() -> None:
    logits = torch.full((2, 1, 4, 4), -20.0)  # p is 0 within 1e-8
    mask = torch.zeros(2, 1, 4, 4)
    logits[0, 0, :2], mask[0, 0, :2] = 20.0, 1.0  # the first image is right, the second misses one pixel
    mask[1, 0, 0, 0] = 1.0
    result = segmentation_loss(logits, mask, Loss(bce=0, dice=1)).item()
    assert result == pytest.approx(1 - 2 * 8 / (8 + 9), abs=1e-5)
    per_image = torch.stack(
        [segmentation_loss(logits[i : i + 1], mask[i : i + 1], Loss(bce=0, dice=1)) for i in (0, 1)]
    )
    assert per_image.mean().item() == pytest.approx(0.5, abs=1e-5)


def test_empty_mask_predicted_empty_costs_nothing() -> None:
    empty = torch.zeros(1, 1, 4, 4)
    assert segmentation_loss(torch.full((1, 1, 4, 4), -100.0), empty, Loss()).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("level", [-1e4, 1e4])
@pytest.mark.parametrize("truth", [0.0, 1.0])
def test_extreme_logits_stay_finite_with_finite_gradients(level: float, truth: float) -> None:
    logits = torch.full((1, 1, 4, 4), level, requires_grad=True)
    loss = segmentation_loss(logits, torch.full((1, 1, 4, 4), truth), Loss())
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_half_precision_logits_are_summed_in_float32() -> None:
    logits, mask = case(1)
    rounded = logits.to(torch.bfloat16)
    result = segmentation_loss(rounded, mask, Loss())
    assert result.dtype == torch.float32
    assert result.item() == pytest.approx(plain(rounded.double().numpy(), mask.numpy(), Loss()), rel=1e-5)


def test_gradient_is_the_numerical_one() -> None:
    logits, mask = case(2, n=1)
    leaf = logits.float().requires_grad_()
    segmentation_loss(leaf, mask, Loss()).backward()
    assert leaf.grad is not None
    step = np.zeros(logits.shape)
    step[0, 0, 1, 2] = 1e-5
    values = logits.numpy()
    slope = (plain(values + step, mask.numpy(), Loss()) - plain(values - step, mask.numpy(), Loss())) / 2e-5
    assert leaf.grad[0, 0, 1, 2].item() == pytest.approx(slope, rel=1e-3)


@pytest.mark.parametrize("settings", [Loss(), Loss(bce=1, dice=0), Loss(bce=0, dice=1)])
def test_pixels_that_do_not_count_might_as_well_not_exist(settings: Loss) -> None:
    logits, mask = case(5)
    counted = torch.from_numpy((np.random.default_rng(6).random(logits.shape) < 0.7).astype(np.float32))
    kept = counted.numpy() > 0
    result = segmentation_loss(logits, mask, settings, counted)
    assert result.item() == pytest.approx(plain(logits.numpy()[kept], mask.numpy()[kept], settings), rel=1e-5)
    everything = segmentation_loss(logits, mask, settings, torch.ones_like(counted))
    assert everything.item() == pytest.approx(segmentation_loss(logits, mask, settings).item(), rel=1e-6)


def test_batch_with_nothing_to_count_has_a_finite_loss_without_gradient() -> None:
    logits, mask = case(7)
    logits.requires_grad_()
    segmentation_loss(logits, mask, Loss(), torch.zeros(logits.shape)).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert float(logits.grad.abs().max()) == 0
