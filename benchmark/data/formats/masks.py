"""Reads labels and ignore masks that are stored as pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.config.targets import Target
from benchmark.data.formats.images import IMAGE_SUFFIXES, Picture, Pixels, decode, read_size, sized, to_channels
from benchmark.data.formats.label_format import Label, LabelFormat, Layers, Legend
from benchmark.data.formats.pillow import read_form
from benchmark.data.formats.rasterize import Mask
from benchmark.data.formats.values import colours_of, distinct, listed, remedy
from benchmark.utils.errors import UserError

THRESHOLD = 128  # of JPEG masks: half of 255, rounded up
UNCLEAR = (32, 224)  # JPEG leaves black and white areas well outside these; edges lie within
GRAY_TOLERANCE = 8  # levels between a gray JPEG's channels, after conversion to YCbCr and back
EXPECTED = "{0, 1} or {0, 255}"

INVERTED = (
    "TIFF that stores white as 0, read as viewers show it; some programs write a mask's foreground 1 that way, "
    "which then is inverted: look at the masks"
)
INVERTED_PALETTE = (
    "palette whose colours and indices tell opposite sides, read by its colours as viewers show it; some programs "
    "number foreground 1 whatever its colour, which then is inverted: look at the masks"
)
ALPHA = "one colour everywhere, so the mask is what is not transparent: look at the masks"


class PixelFormat(LabelFormat):
    """Masks of pixels, in any file format of images.

    Accepted are {0, 1}, {0, 255} and, of 16 bit, {0, 65535}, as gray, gray RGB(A), 1 bit or palette; one-hot RGB (red
    background, green track, blue via); and gray JPEG, which is thresholded. A palette counts by its colours if they are
    these grays (a black entry is background at any index) or one-hot, otherwise by its indices, which is how annotation
    tools number their classes. Transparency must give the same mask as the colours, unless there is only one colour.
    ``[values]`` of a dataset's TOML file replaces all of this.
    """

    suffixes = IMAGE_SUFFIXES

    def size(self, label: Path) -> tuple[int, int]:
        """Return height and width from the file's header."""
        return read_size(label)

    def form(self, label: Path) -> str:
        """Return the file's format and mode, such as ``PNG L``."""
        return read_form(label)

    def read(self, label: Path, target: Target, legend: Legend) -> Label:
        """Read a mask; an error names the values or colours that have no meaning."""
        picture = decode(label)
        if legend.values is not None:
            foreground, ignored = legend.values.read(label, picture)
            return Label(foreground, ignored=ignored)
        if picture.lossy:
            return _thresholded(label, picture)
        if picture.alpha is not None:
            return _with_alpha(label, picture, picture.alpha, target)
        mask, by_index = _by_colours(picture, target), _by_index(picture)
        if mask is None:
            mask = by_index
        elif not picture.white_is_zero and by_index is not None and (by_index != mask).any():
            return Label(mask, INVERTED_PALETTE)
        if mask is None:
            raise _refused(label, picture, f"{EXPECTED}, or one-hot RGB (red background, green track, blue via)")
        note, one_hot = INVERTED if picture.white_is_zero else None, by_index is None and _binary(picture) is None
        return Label(mask, note, stored_as=_stored_as(picture), tells_layers=one_hot)


PIXELS = PixelFormat()


def check_size(path: Path, shape: tuple[int, int], expected: tuple[int, int]) -> None:
    """Refuse a mask of another height and width than its image.

    Raises:
        UserError: names both sizes.
    """
    if shape != expected:
        raise UserError(
            f"{path}: {sized(shape)} pixels, but its image has {sized(expected)}; "
            "expected the same size: export the mask at the image's size"
        )


def read_ignore(path: Path, shape: tuple[int, int]) -> Mask:
    """Read the pixels ``(H, W)`` that count nowhere: the foreground of a binary mask.

    Raises:
        UserError: unreadable file, another size than the image's, or not binary; names the values.
    """
    check_size(path, read_size(path), shape)
    picture = decode(path)
    if picture.lossy:
        raise UserError(f"{path}: a JPEG; expected an ignore mask without loss: save it as PNG")
    if picture.alpha is not None:
        return _with_alpha(path, picture, picture.alpha, None).mask
    mask = _by_colours(picture, None)
    mask = _by_index(picture) if mask is None else mask
    if mask is None:
        raise _refused(path, picture, EXPECTED, "threshold or recolour the mask first")
    return mask


def gray_of(pixels: Pixels) -> Pixels | None:
    """Return the gray values ``(H, W)`` of pixels, gray RGB included, or ``None`` for colours."""
    if pixels.ndim == 2:
        return pixels
    return pixels[..., 0] if _is_colourless(pixels) else None


def _with_alpha(path: Path, picture: Picture, alpha: NDArray[Any], target: Target | None) -> Label:
    """Read a mask with transparent pixels: by colours if transparency agrees, by transparency if there is one colour.

    Programs make either side of a mask transparent, with any colour below it, so other combinations are ambiguous.
    """
    shown: Mask = alpha > 0
    opaque = np.iinfo(alpha.dtype).max
    by_colour = _by_colours(picture, target and "metal")
    if (alpha[shown] == opaque).all():
        if by_colour is not None and (by_colour == shown).all() and (mask := _by_colours(picture, target)) is not None:
            return Label(mask)
        if target is not None and (picture.colours == picture.colours[0, 0]).all():
            return Label(shown, ALPHA)
        by_alpha = f"{np.mean(shown):.1%} foreground by transparency"
    else:
        by_alpha = f"values from {alpha.min()} to {alpha.max()} in the alpha channel"
    side = "no mask" if by_colour is None else f"{np.mean(by_colour):.1%} foreground"
    raise UserError(
        f"{path}: {np.mean(alpha < opaque):.1%} of the pixels are transparent; found {by_alpha} and {side} by colour; "
        "expected the same mask by both: flatten the image onto its background and save it without alpha"
    )


def _binary(picture: Picture) -> Mask | None:
    """Return the foreground of a mask of black and white, or ``None`` for other colours."""
    if picture.palette is not None:
        colours = picture.palette[distinct(picture.pixels)]
        binary = _is_colourless(colours) and _is_binary(set(colours[:, 0].tolist()))
        foreground: Mask = picture.palette[:, 0] > 0
        return foreground[picture.pixels] if binary else None
    gray = gray_of(picture.pixels)
    return gray > 0 if gray is not None and _is_binary(set(distinct(gray))) else None


def _stored_as(picture: Picture) -> int:
    """Return the value of foreground in a binary mask of 8 bits per pixel, 0 if a palette's colours decide."""
    by_palette = picture.palette is not None and _binary(picture) is not None
    gray = None if by_palette else gray_of(picture.pixels)
    return int(gray.max()) if gray is not None and gray.dtype == np.uint8 else 0


def _by_colours(picture: Picture, target: Target | None) -> Mask | None:
    """Return the foreground by black and white or, with a target, by the colours of layers; ``None`` for neither."""
    mask = _binary(picture)
    if mask is None and target is not None and (layers := _one_hot(picture)):
        return layers.of(target)
    return mask


def _one_hot(picture: Picture) -> Layers | None:
    """Return the layers of a picture whose pixels are pure red, green or blue, or ``None``."""
    if picture.palette is not None:
        # Unused entries below the highest used one count too: a black one shows that colours are only decoration.
        on = _channel_on(picture.palette[: int(picture.pixels.max()) + 1])
        return None if on is None else Layers(on[:, 1][picture.pixels], on[:, 2][picture.pixels])
    on = _channel_on(picture.pixels) if picture.pixels.ndim == 3 else None
    return None if on is None else Layers(on[..., 1], on[..., 2])


def _channel_on(colours: NDArray[Any]) -> Mask | None:
    """Return which channel is on, ``(..., 3)``, or ``None`` if some colour has not exactly one channel on."""
    on: Mask = colours == colours.max()
    pure = _is_binary({0, int(colours.max())}) and (on | (colours == 0)).all() and (on.sum(-1, np.uint8) == 1).all()
    return on if pure else None


def _by_index(picture: Picture) -> Mask | None:
    indexed = picture.palette is not None and _is_binary(set(distinct(picture.pixels)))
    return picture.pixels > 0 if indexed else None


def _thresholded(path: Path, picture: Picture) -> Label:
    """Read a JPEG."""
    pixels = picture.pixels.astype(np.uint8, copy=False)
    if pixels.ndim == 3 and (pixels.max(-1) - pixels.min(-1)).max() > GRAY_TOLERANCE:
        raise UserError(f"{path}: a coloured JPEG; expected gray, since loss blurs colours: save the mask as PNG")
    gray = to_channels(pixels, 1)[..., 0]
    if 0 < gray.max() < THRESHOLD:
        raise UserError(
            f"{path}: a JPEG with values from {gray.min()} to {gray.max()}; expected black and white, 0 and 255: "
            "save the mask as PNG"
        )
    unclear = int(((gray > UNCLEAR[0]) & (gray < UNCLEAR[1])).sum())
    if 2 * unclear > gray.size:
        raise UserError(
            f"{path}: a JPEG of which {unclear:,} of {gray.size:,} pixels lie between {UNCLEAR[0]} and {UNCLEAR[1]}; "
            "expected a mask, nearly all black or white: was an image put among the labels?"
        )
    note = f"JPEG mask, thresholded at {THRESHOLD}; {unclear:,} pixels lay between {UNCLEAR[0]} and {UNCLEAR[1]}"
    return Label(gray >= THRESHOLD, note)


def _refused(path: Path, picture: Picture, expected: str, advice: str = "") -> UserError:
    gray = gray_of(picture.pixels)
    colours = colours_of(picture.pixels.reshape(-1, 3) if gray is None else gray.reshape(-1))
    kind = "colours" if gray is None else "values"
    return UserError(f"{path}: mask {kind} {listed(colours)}; expected {expected}: {advice or remedy(colours)}")


def _is_colourless(colours: NDArray[Any]) -> bool:
    return bool((colours == colours[..., :1]).all())


def _is_binary(values: set[int]) -> bool:
    return values <= {0, 1} or values <= {0, 255} or values <= {0, 2**16 - 1}
