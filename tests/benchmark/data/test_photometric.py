from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from benchmark.config.protocol import load_protocol
from benchmark.config.training_settings import Photometric
from benchmark.data.batches import TrainingBatches
from benchmark.data.packs import Pack
from benchmark.data.photometric import LUMINANCE, change, quantise_blocks
from tests.benchmark.conftest import SMALL

EFFECTS = {"gain": 0.4, "gamma": 0.8, "blur": 1.5, "noise": 0.1, "blocks": 3.0}


def images(count: int = 4, channels: int = 1, height: int = 24, width: int = 21) -> torch.Tensor:
    """Return bright tracks with soft edges, in (0.2, 0.8)."""
    rng = np.random.default_rng(0)
    drawn = gaussian_filter(rng.normal(0, 1, (count, channels, height, width)), (0, 0, 1.5, 1.5))
    return torch.from_numpy(0.5 + 0.3 * np.tanh(6 * drawn)).float()


def changed(source: torch.Tensor, seed: int = 0, **settings: float) -> torch.Tensor:
    return change(source, Photometric.model_validate(settings), np.random.default_rng(seed))


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_effect_changes_every_image_in_its_own_strength(effect: str, channels: int) -> None:
    source = images(channels=channels)
    result = changed(source, **{effect: EFFECTS[effect]})
    differences = (result - source).abs().mean(dim=(1, 2, 3)).tolist()
    assert min(differences) > 0
    assert len(set(differences)) == len(source)
    assert 0 <= float(result.min()) < float(result.max()) <= 1
    assert result.shape == source.shape
    assert result.dtype == torch.float32
    assert torch.equal(result, changed(source, **{effect: EFFECTS[effect]}))
    assert not torch.equal(result, changed(source, seed=1, **{effect: EFFECTS[effect]}))


def test_gain_and_gamma_stay_within_their_bounds() -> None:
    flat = torch.full((500, 1, 8, 8), 0.5)
    factors = changed(flat, gain=0.4)[:, 0, 0, 0] / 0.5
    assert 0.6 <= float(factors.min()) < 0.62
    assert 1.38 < float(factors.max()) <= 1.4
    exponents = changed(flat, gamma=1.0)[:, 0, 0, 0].log() / np.log(0.5)
    assert 0.5 <= float(exponents.min()) < 0.52
    assert 1.95 < float(exponents.max()) <= 2.0
    assert float((exponents < 1).float().mean()) == pytest.approx(0.5, abs=0.05)


def test_noise_has_the_drawn_deviation() -> None:
    deviations = (changed(torch.full((200, 1, 32, 32), 0.5), noise=0.1) - 0.5).std(dim=(1, 2, 3))
    assert float(deviations.max()) == pytest.approx(0.1, rel=0.1)
    assert float(deviations.mean()) == pytest.approx(0.05, rel=0.1)


def test_blur_is_gaussian() -> None:
    source = images(1, height=40, width=40)
    sigma = 1.5 * np.random.default_rng(0).random((1, 5))[0, 0]
    result = changed(source, blur=1.5)[0, 0].numpy()
    assert result == pytest.approx(gaussian_filter(source[0, 0].numpy(), sigma, mode="mirror", truncate=3.5), abs=2e-3)


def test_blur_wider_than_the_image_is_cut_to_it() -> None:
    source = images(1, height=8, width=8)
    assert float(changed(source, blur=16.0).std()) < float(source.std())


def test_no_effect_changes_the_draws_of_another() -> None:
    source = images()
    alone = changed(source, noise=0.1) - source
    beside = changed(source, noise=0.1, gain=1e-9) - source
    torch.testing.assert_close(alone, beside, rtol=0, atol=1e-6)


@pytest.mark.parametrize("quality", [50, 25, 10])
def test_blocks_are_those_of_jpeg(quality: int) -> None:
    pixels = (images(1, height=32, width=27)[0, 0].numpy() * 255).round().astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "jpeg", quality=quality)
    jpeg = Image.open(file)
    if quality == 50:
        assert sorted(jpeg.quantization[0]) == sorted(LUMINANCE)
    source = torch.from_numpy(pixels).float()[None, None] / 255
    result = quantise_blocks(source, torch.full((1, 1, 1, 1), 50 / quality)) * 255
    difference = np.abs(result[0, 0].numpy() - np.asarray(jpeg, np.float32))[:, :24]  # libjpeg pads in another way
    assert difference.mean() < 1
    assert np.abs(pixels - np.asarray(jpeg, np.float32)).mean() > 3 * difference.mean()


def test_weakest_blocks_lose_almost_nothing() -> None:
    source = images()
    torch.testing.assert_close(quantise_blocks(source, torch.zeros(4, 1, 1, 1)), source, rtol=0, atol=0.02)


def batches(pack: Pack, *overrides: str) -> TrainingBatches:
    protocol = load_protocol("quick", [*SMALL, *overrides])
    return TrainingBatches([(pack, pack.divide(protocol).train)], 32, protocol, 0, torch.device("cpu"))


def test_order_crops_and_masks_do_not_depend_on_the_changes(pack: Pack) -> None:
    plain, noisy = batches(pack).epoch(3), batches(pack, "photometric.noise=0.1").epoch(3)
    for before, after in zip(plain, noisy, strict=True):
        assert torch.equal(before.masks, after.masks)
        assert 0 < float((before.images - after.images).abs().mean()) < 0.1


def test_every_epoch_and_purpose_draws_anew_and_repeats_exactly(pack: Pack) -> None:
    source = batches(pack, "photometric.noise=0.1", "photometric.gain=0.5")
    drawn = [next(source.epoch(*which)).images for which in ((0,), (1,), (0, "norms 0"), (0,))]
    assert torch.equal(drawn[0], drawn[3])
    clean = [next(batches(pack).epoch(*which)).images for which in ((0,), (1,), (0, "norms 0"))]
    noise = [image - other for image, other in zip(drawn, clean, strict=False)]
    assert not any(torch.equal(noise[0], other) for other in noise[1:])
