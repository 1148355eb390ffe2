"""Changes brightness, sharpness and noise of training images, on their device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.config.training_settings import Photometric
from benchmark.utils import extensions, seeds
from benchmark.utils.errors import UserError

BLOCK = 8  # pixels, of JPEG
#: JPEG's table of luminance at quality 50: the steps of a block's DCT coefficients (ITU-T T.81, table K.1).
LUMINANCE = (
    *(16, 11, 10, 16, 24, 40, 51, 61),
    *(12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77),
    *(24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101),
    *(72, 92, 95, 98, 112, 100, 103, 99),
)


def change(images: Tensor, settings: Photometric, rng: np.random.Generator) -> Tensor:
    """Return images under other conditions, drawn for each image: blur, gain and gamma, noise, blocks, then
    transforms of installed packages.

    The same number of draws is taken whatever the settings are, so that no effect changes the draws of another.

    Args:
        images: ``(N, C, H, W)`` float32 in [0, 1].
        settings: the greatest strength of each effect.
        rng: of the epoch; it also seeds the noise, which is drawn on the images' device.
    """
    shares, seed = rng.random((len(images), 5)), int(rng.integers(2**63))
    if settings.blur or settings.gain or settings.gamma:
        images = torch.cat(
            [_exposed(*each, settings) for each in zip(torch.split(images, 1), shares[:, :3], strict=True)]
        )
    noise, blocks = torch.from_numpy(shares[:, 3:, None, None, None]).float().to(images.device).unbind(1)
    if settings.noise:
        generator = torch.Generator(images.device).manual_seed(seed)
        drawn = torch.randn(images.shape, generator=generator, device=images.device)
        images = (images + settings.noise * noise * drawn).clamp(0, 1)
    if settings.blocks:
        images = quantise_blocks(images, settings.blocks * blocks)
    for place, name in enumerate(settings.transforms):
        again = settings.transforms[:place].count(name)  # a repeated one draws anew
        images = _transformed(images, name, seeds.derive(seed, name, *([again] if again else [])))
    return images.contiguous(memory_format=torch.channels_last)


def _transformed(images: Tensor, name: str, seed: int) -> Tensor:
    """Apply the transform of an installed package: a function of images and of a generator on their device.

    Raises:
        UserError: its result is no tensor of the same shape.
    """
    result = extensions.load("transforms", name)(images, torch.Generator(images.device).manual_seed(seed))
    if not isinstance(result, Tensor) or result.shape != images.shape:
        found = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise UserError(f"photometric.transforms: {name} returned {found}; expected a tensor of {tuple(images.shape)}")
    return result.float().clamp(0, 1)


def _exposed(image: Tensor, shares: np.ndarray, settings: Photometric) -> Tensor:
    """Blur an image, ``(1, C, H, W)``, then change its gamma and gain; ``shares`` in [0, 1) are the three draws."""
    from torchvision.transforms.v2 import functional as V

    sigma = settings.blur * float(shares[0])
    if sigma > 0:
        # The reflection at the border needs a side of one pixel more.
        radius = min(int(np.ceil(3 * sigma)), *(side - 1 for side in image.shape[2:]))
        image = V.gaussian_blur_image(image, [2 * radius + 1] * 2, [sigma, sigma])  # type: ignore[attr-defined]
    gain = 1 + settings.gain * (2 * float(shares[1]) - 1)
    gamma = (1 + settings.gamma) ** (2 * float(shares[2]) - 1)
    exposed: Tensor = V.adjust_gamma_image(image, gamma, gain)  # type: ignore[attr-defined]  # exported without __all__
    return exposed.clamp(0, 1)


def quantise_blocks(images: Tensor, strengths: Tensor) -> Tensor:
    """Return images as after JPEG without subsampling: the DCT of 8x8 blocks is rounded to multiples of a table.

    torchvision's JPEG is for bytes on a CPU.

    Args:
        images: ``(N, C, H, W)`` float32 in [0, 1]; a partial block is continued by its last pixels.
        strengths: ``(N, 1, 1, 1)``, factors of :data:`LUMINANCE`; the least step is 1 out of 255, as in JPEG.
    """
    count, channels, height, width = images.shape
    padded = F.pad(images, (0, -width % BLOCK, 0, -height % BLOCK), mode="replicate") * 255 - 128
    rows, columns = (side // BLOCK for side in padded.shape[2:])
    blocks = padded.reshape(count, channels, rows, BLOCK, columns, BLOCK)
    transform = _cosines().to(images.device)
    table = torch.tensor(LUMINANCE, device=images.device, dtype=images.dtype).reshape(BLOCK, 1, BLOCK)
    steps = (strengths.reshape(count, 1, 1, 1, 1, 1) * table).clamp(min=1)
    coefficients = torch.einsum("ui,nchiwj,vj->nchuwv", transform, blocks, transform)
    rounded = (coefficients / steps).round() * steps
    restored = torch.einsum("ui,nchuwv,vj->nchiwj", transform, rounded, transform)
    return ((restored.reshape(padded.shape) + 128) / 255).clamp(0, 1)[..., :height, :width]


def _cosines() -> Tensor:
    """Return the orthonormal DCT-II of eight values, (8, 8)."""
    from scipy.fft import dct

    return torch.from_numpy(dct(np.eye(BLOCK), axis=0, norm="ortho")).float()
