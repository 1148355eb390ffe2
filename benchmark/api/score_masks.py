"""Scores predicted masks, given as arrays or files."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import ValidationError

from benchmark import metrics
from benchmark.config.protocol import Evaluation
from benchmark.data.formats.all_formats import format_of, read_label
from benchmark.data.packs import IGNORED
from benchmark.data.specs import Target
from benchmark.evaluation.counts import count_terms
from benchmark.utils.errors import UserError


def score(
    truth: ArrayLike | Path | str,
    prediction: ArrayLike | Path | str,
    *,
    ignore: ArrayLike | Path | str | None = None,
    target: Target = "track",
    border_px: int = Evaluation().border_px,
    min_area_px: int = Evaluation().min_area_px,
) -> dict[str, float]:
    """Score a predicted mask with every metric; counts and metrics are those of a run.

    Args:
        truth: mask ``(H, W)`` of bool, {0, 1} or {0, 255}, or a file in any form of a dataset's labels.
        prediction: as ``truth``, of the same size.
        ignore: mask of pixels that count nowhere.
        target: the layer that counts in a file of several layers; ``via`` counts vias in place of opens and shorts.
        border_px: band at the image's border in which nets are not judged, pixels.
        min_area_px: least area of a counted predicted component, pixels.

    Returns:
        The integer counts (``benchmark.metrics.COUNT_COLUMNS``) and the metrics that have a value: fractions in [0, 1],
        bits per pixel or numbers of faults. ``python -m benchmark explain NAME`` tells the formula of each.

    Raises:
        UserError: a file cannot be read, an array holds other values, or sizes differ.

    Example:
        >>> import numpy as np, benchmark
        >>> truth = np.zeros((200, 200), bool)
        >>> truth[60:70] = truth[120:130] = True  # two tracks
        >>> prediction = truth.copy()
        >>> prediction[70:120, 90:100] = True  # joined by a third
        >>> scores = benchmark.score(truth, prediction)
        >>> scores["shorts"], round(scores["miou"], 3)
        (1, 0.938)
    """
    if target not in get_args(Target):
        raise UserError(f"target: found {target!r}; expected {', '.join(get_args(Target))}")
    try:
        settings = Evaluation(border_px=border_px, min_area_px=min_area_px, cldice=True)
    except ValidationError as error:
        raise UserError(
            f"border_px {border_px!r}, min_area_px {min_area_px!r}: expected 0, 1 or more pixels"
        ) from error
    given = {"truth": truth, "prediction": prediction, **({} if ignore is None else {"ignore": ignore})}
    masks: dict[str, NDArray[np.bool_]] = {}
    for name, image in given.items():
        masks[name], ignored = _mask(name, image, target)
        if ignored is not None and name != "prediction":
            masks["ignore"] = masks.get("ignore", np.zeros_like(ignored)) | ignored
    if len({mask.shape for mask in masks.values()}) > 1:
        sizes = ", ".join(f"{name} {mask.shape}" for name, mask in masks.items())
        raise UserError(f"masks of different sizes: {sizes}; expected one height and width")
    packed = masks["truth"].astype(np.uint8)
    if "ignore" in masks:
        packed[masks["ignore"]] = IGNORED
    counts = count_terms(packed, masks["prediction"], target, settings)
    columns = {name: np.array([count]) for name, count in counts.items()}
    values = metrics.reduce(columns, "pooled") | metrics.reduce(columns, "image")
    return {**values, **counts}


def _mask(
    name: str, image: ArrayLike | Path | str, target: Target
) -> tuple[NDArray[np.bool_], NDArray[np.bool_] | None]:
    """Return a mask and the pixels that its file leaves out."""
    if isinstance(image, str | Path):
        label = read_label(Path(image), target, format_of(Path(image)).size(Path(image)))
        return label.mask, label.ignored
    try:
        array = np.asarray(image)
    except ValueError as error:  # rows of different lengths
        raise UserError(f"{name}: not an array ({error}); expected (H, W) of bool, {{0, 1}} or {{0, 255}}") from error
    values = set(np.unique(array).tolist()) if array.dtype.kind in "biu" else {f"of {array.dtype}"}
    if array.ndim != 2 or not (values <= {0, 1} or values <= {0, 255}):
        found = f"{array.shape}, values {', '.join(map(str, sorted(values)[:5]))}"
        raise UserError(
            f"{name}: an array {found}; expected (H, W) of bool, {{0, 1}} or {{0, 255}}: compare probabilities with a "
            "threshold first"
        )
    return array > 0, None
