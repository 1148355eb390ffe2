from __future__ import annotations

import doctest
from typing import get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmark.config.training_settings import Loss, LossOfLogits
from benchmark.data.batches import Batch
from benchmark.training import topology
from benchmark.training.losses import LOSS_FUNCTIONS, loss_of_layers, segmentation_loss
from benchmark.training.topology import worst_neighbours


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


CHOICES = [
    Loss(name="focal"),
    Loss(name="focal", focal_alpha=0.3, focal_gamma=1.5),
    Loss(name="tversky"),
    Loss(name="lovasz"),
    Loss(name="cldice", cldice_iterations=2),
    *(Loss(name="scnp", scnp_inside=name) for name in LOSS_FUNCTIONS),
]


def test_every_name_has_a_function() -> None:
    assert LOSS_FUNCTIONS.keys() == set(get_args(LossOfLogits))


@pytest.mark.parametrize("foreground", [0.0, 0.3, 1.0])
def test_focal_loss_matches_plain_numpy(foreground: float) -> None:
    logits, mask = case(3, foreground=foreground)
    p, g = 1 / (1 + np.exp(-logits.numpy())), mask.numpy()
    right = np.where(g == 1, p, 1 - p)
    for alpha, weight in ((None, 1.0), (0.3, np.where(g == 1, 0.3, 0.7))):
        result = segmentation_loss(logits, mask, Loss(name="focal", focal_alpha=alpha, focal_gamma=3.0))
        assert result.item() == pytest.approx((-weight * (1 - right) ** 3 * np.log(right)).mean(), rel=1e-4)


def test_tversky_loss_weighs_false_positives_against_false_negatives() -> None:
    logits, mask = case(3)
    p, g = 1 / (1 + np.exp(-logits.numpy())), mask.numpy()
    hit, false, missed = (p * g).sum(), (p * (1 - g)).sum(), ((1 - p) * g).sum()
    result = segmentation_loss(logits, mask, Loss(name="tversky", tversky_alpha=0.2)).item()
    assert result == pytest.approx(1 - hit / (hit + 0.2 * false + 0.8 * missed), rel=1e-4)


def test_lovasz_hinge_of_certain_pixels_is_one_minus_the_iou_of_the_foreground() -> None:
    mask = torch.tensor([[[[1.0, 1.0, 1.0, 0.0, 0.0]]]])
    logits = torch.tensor([[[[1.0, 1.0, -1.0, 1.0, -1.0]]]])  # hinge errors of 0 or 2; IoU 2 / 4
    assert segmentation_loss(logits, mask, Loss(name="lovasz")).item() == pytest.approx(2 * (1 - 2 / 4))


def gap(width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a track and logits that are sure of all of it but a gap as wide as told."""
    mask = torch.zeros(1, 1, 15, 40)
    mask[..., 5:10, :] = 1
    logits = (2 * mask - 1) * 12
    logits[..., 5:10, 18 : 18 + width] = -12
    return logits, mask


def test_cldice_charges_a_gap_and_forgives_a_thin_track() -> None:
    settings = Loss.model_construct(name="cldice", cldice_alpha=1.0)
    logits, mask = gap(4)
    thin = torch.full_like(logits, -12)
    thin[..., 6:9, :] = 12
    whole, broken, thinner = (segmentation_loss(x, mask, settings).item() for x in (gap(0)[0], logits, thin))
    assert whole == pytest.approx(0, abs=1e-3)
    assert broken == pytest.approx(1 - 2 * 0.9 / 1.9, abs=0.02)  # a tenth of the mask's skeleton is missed
    assert thinner == pytest.approx(0, abs=1e-3)
    assert segmentation_loss(thin, mask, Loss(name="cldice", cldice_alpha=0.1)).item() > 0.1


def test_cldice_mixes_in_dice() -> None:
    logits, mask = gap(4)
    alone, dice = (
        segmentation_loss(logits, mask, x).item()
        for x in (Loss.model_construct(name="cldice", cldice_alpha=1), Loss(bce=0))
    )
    result = segmentation_loss(logits, mask, Loss(name="cldice", cldice_alpha=0.3)).item()
    assert result == pytest.approx(0.3 * alone + 0.7 * 2 * dice, rel=1e-5)


def test_worst_neighbour_is_of_the_same_class_and_counts() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 1, 7, 6, generator=generator)
    mask = (torch.rand(logits.shape, generator=generator) < 0.5).float()
    counted = (torch.rand(logits.shape, generator=generator) < 0.8).float()
    result = worst_neighbours(logits, mask, counted)
    for n, _, row, column in np.ndindex(*logits.shape):
        window = np.s_[n, 0, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        truth = mask[n, 0, row, column]
        same = logits[window][(mask[window] == truth) & (counted[window] > 0)]
        expected = logits[n, 0, row, column]
        if counted[n, 0, row, column]:
            expected = same.min() if truth == 1 else same.max()
        assert result[n, 0, row, column] == expected


def test_scnp_is_the_other_loss_on_the_worst_logits() -> None:
    logits, mask = case(4)
    worst = worst_neighbours(logits.float(), mask.float())
    for name in get_args(LossOfLogits):
        result = segmentation_loss(logits, mask, Loss(name="scnp", scnp_inside=name))
        assert result == segmentation_loss(worst, mask, Loss(name=name))
        assert result > segmentation_loss(logits, mask, Loss(name=name))


@pytest.mark.parametrize("settings", CHOICES, ids=lambda s: f"{s.name} {s.of_logits}")
def test_ignored_pixels_never_enter_a_loss(settings: Loss) -> None:
    logits, mask = case(5)
    counted = torch.from_numpy((np.random.default_rng(6).random(logits.shape) < 0.7).astype(np.float32))
    results = []
    for value, truth in ((-30.0, 0.0), (0.5, 1.0), (1000.0, 1.0)):
        leaf = torch.where(counted > 0, logits, value).requires_grad_()
        loss = segmentation_loss(leaf, torch.where(counted > 0, mask, truth), settings, counted)
        loss.backward()  # type: ignore[no-untyped-call]
        assert leaf.grad is not None
        assert loss.dtype == torch.float32
        assert loss.shape == ()
        assert float(leaf.grad[counted == 0].abs().max()) == 0
        assert float(leaf.grad.abs().max()) > 0
        results.append((loss.item(), leaf.grad))
    assert results[0][0] == results[1][0] == results[2][0]
    assert all(torch.equal(results[0][1], gradient) for _, gradient in results)
    everything = segmentation_loss(logits, mask, settings, torch.ones_like(counted))
    assert everything.item() == pytest.approx(segmentation_loss(logits, mask, settings).item(), rel=1e-6)


@pytest.mark.parametrize("settings", [s for s in CHOICES if s.name in ("focal", "tversky", "lovasz")])
def test_choices_are_those_of_the_counted_pixels_alone(settings: Loss) -> None:
    logits, mask = case(5)
    counted = torch.from_numpy((np.random.default_rng(6).random(logits.shape) < 0.7).astype(np.float32))
    alone = [tensor[counted > 0].reshape(1, 1, 1, -1) for tensor in (logits, mask)]
    result = segmentation_loss(logits, mask, settings, counted).item()
    assert result == pytest.approx(segmentation_loss(alone[0], alone[1], settings).item(), rel=1e-5)


@pytest.mark.parametrize("settings", CHOICES, ids=lambda s: f"{s.name} {s.of_logits}")
@pytest.mark.parametrize("level", [-1e4, 0.0, 1e4])
@pytest.mark.parametrize("truth", [0.0, 1.0])
def test_choices_stay_finite_at_extreme_logits(settings: Loss, level: float, truth: float) -> None:
    for counted in (None, torch.zeros(1, 1, 4, 4)):
        logits = torch.full((1, 1, 4, 4), level, dtype=torch.bfloat16, requires_grad=True)
        loss = segmentation_loss(logits, torch.full((1, 1, 4, 4), truth), settings, counted)
        loss.backward()
        assert loss.isfinite()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()
        assert counted is None or float(logits.grad.abs().max()) == 0


def layered(seed: int) -> tuple[torch.Tensor, Batch]:
    """Logits and masks of two layers, of which the second is labelled in half of the images."""
    parts = [case(seed + layer) for layer in (0, 1)]
    logits, masks = (torch.cat(tensors, dim=1) for tensors in zip(*parts, strict=True))
    counted = torch.ones_like(masks)
    counted[0, 1] = 0
    return logits.requires_grad_(), Batch(torch.zeros(3, 1, 6, 5), masks, counted)


def test_loss_of_layers_is_the_weighted_mean_of_their_losses() -> None:
    logits, batch = layered(5)
    assert batch.counted is not None
    alone = [
        segmentation_loss(logits[:, at], batch.masks[:, at], Loss(), batch.counted[:, at])
        for at in (slice(0, 1), slice(1, 2))
    ]
    assert alone[0] != alone[1]
    mean = loss_of_layers(logits, batch, ("track", "via"), Loss())
    torch.testing.assert_close(mean, (alone[0] + alone[1]) / 2)
    weighted = loss_of_layers(logits, batch, ("track", "via"), Loss(layer_weights={"via": 3.0}))
    torch.testing.assert_close(weighted, (alone[0] + 3 * alone[1]) / 4)


@pytest.mark.parametrize("settings", [Loss(), Loss(name="lovasz"), Loss(layer_weights={"track": 5.0})])
def test_loss_of_a_single_layer_is_that_loss_to_the_bit(settings: Loss) -> None:
    logits, mask = case(3)
    result = loss_of_layers(logits, Batch(torch.zeros(3, 1, 6, 5), mask), ("track",), settings)
    assert torch.equal(result, segmentation_loss(logits, mask, settings))


def test_layer_of_an_image_without_labels_has_no_gradient() -> None:
    logits, batch = layered(7)
    loss_of_layers(logits, batch, ("track", "via"), Loss()).backward()
    assert logits.grad is not None
    assert not logits.grad[0, 1].any()
    assert logits.grad[0, 0].any()
    assert logits.grad[1:, 1].any()


def test_examples_of_the_documentation_hold() -> None:
    result = doctest.testmod(topology)
    assert (result.failed, result.attempted > 0) == (0, True)
