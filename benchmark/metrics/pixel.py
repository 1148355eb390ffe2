"""Counts an image's pixels: the confusion matrix of foreground (circuit) and background."""

from __future__ import annotations

from benchmark.metrics.components import Overlap


def pixel_counts(overlap: Overlap, ignored: int = 0) -> dict[str, int]:
    """Count an image's true and false positives and negatives.

    Args:
        overlap: the image's components; ignored pixels are background in both masks.
        ignored: number of ignored pixels.

    Returns:
        ``ignored, tp, fp, fn, tn``, in pixels; their sum is the image's area.
    """
    height, width = overlap.truth.shape
    tp = int(overlap.intersection_px.sum())
    fn = int(overlap.truth.area_px.sum()) - tp
    fp = int(overlap.prediction.area_px.sum()) - tp
    return {"ignored": ignored, "tp": tp, "fp": fp, "fn": fn, "tn": height * width - ignored - tp - fp - fn}
