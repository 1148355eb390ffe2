"""Makes the datasets of two public optical pictures from their repositories' files."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import GifImagePlugin, Image, JpegImagePlugin
from scipy import ndimage
from skimage.morphology import convex_hull_image, disk

from benchmark.data.formats.images import UInt8Array

Mask = NDArray[np.bool_]
Files = Mapping[str, bytes]

EIGHT = np.ones((3, 3), np.bool_)  # neighbours of a pixel and itself
# Outside of this window the authors' overlay has coloured cells, below which no layer can be told.
WINDOW = np.s_[448:2240, 496:3056]
SHADE, LIFT = 0.5, 72  # the overlay is SHADE * layers + LIFT
BLUE, RED, GREEN = (0, 0, 255), (255, 0, 0), (0, 255, 0)  # tracks, at half opacity
MAGENTA, YELLOW = (255, 0, 255), (255, 255, 0)  # poly and diffusion
BLACK = (0, 0, 0)  # contacts, opaque
REACH = 180  # sum of differences of three channels to a colour, out of 765, as JPEG and smooth edges leave it
REDUCED = 4  # wires are sought at this fraction of a picture's sides
DARK = 112  # gray; wires are darker than all of the chip
ROD_PX = 800  # reduced pixels; dark parts of wires from the chip's edge are larger, the tips of wires smaller
TIP_PX = 100

#: SHA-256 of the decoded pixels of each file that is made, by Pillow 13.0, libjpeg-turbo 3.2, scipy 1.17
#: and scikit-image 0.26.
PIXELS: Mapping[str, Mapping[str, str]] = {
    "t84c": {
        "image/t84c_regblock_m1.png": "689dfae4eb1686927e83b770958940c41f2e0b36e5f2636600c39243d3459c39",
        "label_metal/t84c_regblock_m1.png": "f0cd7dea201878b54ddcf1809f8bfcf3e7f97b8d4a753a1685987e13e855e4ad",
        "label_contact/t84c_regblock_m1.png": "b5128619009186c13309aa2c148e0ea5f9e4c45982f60b1d18951c1ad42843d8",
    },
    "t84c_poly": {
        "image/t84c_regblock_poly.png": "7bba22d17f5b7d7f3c9989b35fe733b1c632915c1caa09c9e6b1cd9f8130a390",
        "label_poly/t84c_regblock_poly.png": "bb001bbc03ebde7ea9918fda9431874dfeb43f5ece12cf14ac2bf640208c2116",
        "label_diffusion/t84c_regblock_poly.png": "90db03717172461a7132f7c10e1ddea63c951af0f7cafb8f0b4f5df4302752a1",
    },
    "54hc32": {
        "image/54HC32_RCA_8825_die.png": "8844b582b680c67277d851b6744c5c5b07c07206d4f3e859ef4bdb754b9adb76",
        "label/54HC32_RCA_8825_die.png": "c63a040e6feb0aa6c80ee5e1062930ee13028391451b9f2404a3c9eea031b965",
        "ignore/54HC32_RCA_8825_die.png": "e6a73eda2c4cdd779bc55d53fbcae94a143861cc6f94e3d123528d80674ca36d",
    },
}


def prepare_t84c(files: Files) -> dict[str, UInt8Array]:
    """Return the metal photograph ``(1792, 2560, 3)`` and its masks of metal and contacts ``(1792, 2560)``.

    The authors drew half-transparent tracks and opaque contacts over the picture of poly and diffusion, then dimmed the
    whole. Each pixel takes the layer that explains its colour best.
    """
    photo, poly, overlay = (_window(files, name) for name in ("m1_img", "diff_poly", "modules"))
    below = poly.astype(np.int16)
    layers = ((overlay.astype(np.float32) - LIFT) / SHADE).clip(0, 255).astype(np.int16)
    tracks = [(below + np.array(colour, np.int16)) // 2 for colour in (BLUE, RED, GREEN)]
    contact_only = np.array(BLACK, np.int16)
    best = np.stack([_difference(layers, drawn) for drawn in (below, *tracks, contact_only)]).argmin(0)
    metal = _cleaned(_median(best > 0, 5), speck=60, hole=40)
    contact = _cleaned(_median(best > len(tracks), 3), speck=12, hole=40) & metal
    name = "t84c_regblock_m1.png"
    return {
        f"image/{name}": photo,
        f"label_metal/{name}": _as_mask(metal),
        f"label_contact/{name}": _as_mask(contact),
    }


def prepare_t84c_poly(files: Files) -> dict[str, UInt8Array]:
    """Return the photograph without metal ``(1792, 2560, 3)`` and its masks of poly and diffusion ``(1792, 2560)``."""
    photo, drawn = _window(files, "poly_img"), _window(files, "diff_poly").astype(np.int16)
    magenta, yellow = (_difference(drawn, np.array(colour, np.int16)) for colour in (MAGENTA, YELLOW))
    name = "t84c_regblock_poly.png"
    made = {f"image/{name}": photo}
    for layer, own, other in (("poly", magenta, yellow), ("diffusion", yellow, magenta)):
        mask = _cleaned(_median((own < REACH) & (own < other), 5), speck=30, hole=30)
        made[f"label_{layer}/{name}"] = _as_mask(mask)
    return made


def prepare_54hc32(files: Files) -> dict[str, UInt8Array]:
    """Return the photograph ``(2598, 2530, 3)``, its mask of metal and the mask of ignored pixels.

    The metal was drawn at four times the size and is reduced by averages.
    """
    photo = _decode(files["54HC32_RCA_8825_die_120nmpp_4xsmaller.jpg"])
    with GifImagePlugin.GifImageFile(io.BytesIO(files["manual_segmentation/54HC32_metal.gif"])) as drawn:
        reduced = drawn.convert("L").resize(photo.shape[1::-1], Image.Resampling.BOX)
    metal = np.asarray(reduced) > 127
    name = "54HC32_RCA_8825_die.png"
    return {
        f"image/{name}": photo,
        f"label/{name}": _as_mask(metal),
        f"ignore/{name}": _as_mask(hidden_by_wires(photo, metal)),
    }


def hidden_by_wires(photo: UInt8Array, metal: Mask) -> Mask:
    """Return the pixels ``(H, W)`` outside of the metal's frame and those of bond wires, which hide drawn metal.

    A wire is a dark rod from the chip's edge, a bright ball and a dark tip. Rods and tips are found by their darkness;
    the hull of a tip and the end of the nearest rod covers the ball.
    """
    gray = np.asarray(Image.fromarray(photo).convert("L").reduce(REDUCED)).astype(np.float32)
    dark = ndimage.binary_opening(ndimage.uniform_filter(gray, 3) < DARK, disk(3))
    outside = np.ones(gray.shape, np.bool_)
    rows, columns = np.nonzero(metal)
    top, bottom, left, right = (int(end) // REDUCED for end in (rows.min(), rows.max(), columns.min(), columns.max()))
    outside[top : bottom + 1, left : right + 1] = False
    labels, count = ndimage.label(dark | outside, EIGHT)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    rods: Mask = ((sizes >= ROD_PX)[labels] & (labels > 0)) | (labels == labels[0, 0])
    hidden = rods.copy()
    distance, nearest = ndimage.distance_transform_edt(~(rods & dark), return_indices=True)
    for number in np.flatnonzero((sizes >= TIP_PX) & (sizes < ROD_PX)):
        tip = labels == number
        first = np.where(tip, distance, np.inf).argmin()
        row, column = nearest.reshape(2, -1)[:, first]
        near = np.hypot(*np.ogrid[-row : len(gray) - row, -column : gray.shape[1] - column]) <= 18
        hidden |= ndimage.binary_dilation(convex_hull_image(tip | (rods & dark & near)), disk(6))
    hidden = ndimage.binary_dilation(hidden, disk(3))
    return np.kron(hidden, np.ones((REDUCED, REDUCED), np.bool_))[: metal.shape[0], : metal.shape[1]]


#: Makes a dataset's images and masks, by their paths in its folder, from its sources' files.
RECIPES: Mapping[str, Callable[[Files], dict[str, UInt8Array]]] = {
    "t84c": prepare_t84c,
    "t84c_poly": prepare_t84c_poly,
    "54hc32": prepare_54hc32,
}


def pixel_hash(pixels: NDArray[Any]) -> str:
    """Return the SHA-256 of decoded pixels, whatever file holds them."""
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def differing_pixels(name: str, made: Mapping[str, UInt8Array]) -> tuple[str, ...]:
    """Say which files have other pixels than are written down: another JPEG decoder may differ by 1 in a value."""
    from importlib.metadata import version

    from PIL import features

    jpeg = features.version("libjpeg_turbo") or features.version("jpg")
    others = (f"{package} {version(package)}" for package in ("pillow", "scipy", "scikit-image"))
    libraries = ", ".join([*others, f"libjpeg {jpeg}"])
    return tuple(
        f"{name}/{path}: the source files are right, but {libraries} make other pixels of them than are written down "
        f"(SHA-256 {pixel_hash(pixels)[:16]}, expected {PIXELS[name][path][:16]}), so that fingerprints and numbers "
        "differ from those of other machines"
        for path, pixels in made.items()
        if pixel_hash(pixels) != PIXELS[name][path]
    )


def _decode(content: bytes) -> UInt8Array:
    """Decode a JPEG of any size to ``(H, W, 3)``."""
    with JpegImagePlugin.JpegImageFile(io.BytesIO(content)) as file:
        return np.asarray(file.convert("RGB"))


def _window(files: Files, name: str) -> UInt8Array:
    return _decode(files[f"T84C/imgstore/regblock_{name}.jpg"])[WINDOW]


def _difference(pixels: NDArray[np.int16], others: NDArray[np.int16]) -> NDArray[np.int16]:
    """Return the sum of absolute differences of the channels, 0 to 765, ``(H, W)``."""
    total: NDArray[np.int16] = np.abs(pixels - others).sum(-1, dtype=np.int16)
    return total


def _median(mask: Mask, side: int) -> Mask:
    """Return the majority in a square around each pixel."""
    majority: Mask = ndimage.uniform_filter(mask.astype(np.float32), side) > 0.5
    return majority


def _cleaned(mask: Mask, *, speck: int, hole: int) -> Mask:
    """Remove components, and fill holes, of fewer pixels."""
    labels, _ = ndimage.label(mask, EIGHT)
    kept = mask & (np.bincount(labels.ravel()) >= speck)[labels]
    labels, _ = ndimage.label(~kept)
    filled: Mask = kept | (np.bincount(labels.ravel()) < hole)[labels]
    return filled


def _as_mask(mask: Mask) -> UInt8Array:
    return np.where(mask, np.uint8(255), np.uint8(0))
