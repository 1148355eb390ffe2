"""Draws a prediction with each kind of fault in its own colour."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmark import metrics
from benchmark.config.protocol import Evaluation
from benchmark.config.targets import Target, is_via
from benchmark.data.formats.images import UInt8Array

Mask = NDArray[np.bool_]

COLOURS = {"short": (220, 30, 30), "open": (40, 110, 255), "false": (0, 170, 70), "missed": (255, 210, 0)}
PREDICTED, ONLY_TRUE, ONLY_PREDICTED, IGNORED_PIXELS = (205, 205, 205), (95, 95, 95), (240, 100, 215), (60, 40, 90)
COVER, COVER_FAULT = 0.3, 0.6  # opacity of the colours over an image, whose content stays visible
WHOLE = ("short", "open")  # faults of nets whose pixels may mostly be right
DARKENED = 0.5


def overlay(
    truth: Mask, prediction: Mask, ignore: Mask, target: Target, limits: Evaluation, image: UInt8Array | None = None
) -> UInt8Array:
    """Return a picture ``(H, W, 3)`` of right and wrong pixels.

    Light gray pixels are right, pink pixels predicted wrongly, dark gray pixels missing. Whole nets and components have
    the colour of their fault: red joins nets (short), blue is cut (open), green is false, yellow is missed. The wrong
    pixels of shorts and opens are darker, so that bridge and gap are visible. Ignored pixels are dark violet. Via
    targets have false and missed vias only.

    Args:
        truth: ``(H, W)``.
        prediction: ``(H, W)``.
        ignore: ``(H, W)``, pixels that do not count.
        target: meaning of the foreground.
        limits: border and least area.
        image: ``(H, W)`` below the colours; black by default.
    """
    truth, prediction = truth & ~ignore, prediction & ~ignore
    if is_via(target):
        faults = metrics.via_fault_map(truth, prediction)
    else:
        faults = metrics.fault_map(truth, prediction, border_px=limits.border_px, min_area_px=limits.min_area_px)
    layers = [(ignore, IGNORED_PIXELS, COVER), (truth, ONLY_TRUE, COVER), (prediction, PREDICTED, COVER)]
    layers += [(prediction & ~truth, ONLY_PREDICTED, COVER_FAULT)]
    layers += [(faults == metrics.FAULTS.index(name), colour, COVER_FAULT) for name, colour in COLOURS.items()]
    picture = np.zeros((*truth.shape, 3), np.float32)
    if image is not None:
        picture += image[..., None]
    for pixels, colour, cover in layers:
        opaque = np.array(colour, np.float32)
        picture[pixels] = opaque if image is None else (1 - cover) * image[pixels][:, None] + cover * opaque
    picture[np.isin(faults, [metrics.FAULTS.index(name) for name in WHOLE]) & (truth ^ prediction)] *= DARKENED
    return np.rint(picture).astype(np.uint8)
