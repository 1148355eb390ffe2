"""Scores predicted masks, given as arrays or files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import ValidationError

from benchmark import metrics
from benchmark.data.formats.all_formats import format_of, read_label
from benchmark.data.formats.images import Picture
from benchmark.data.formats.label_format import Label, Legend
from benchmark.data.formats.masks import read_ignore
from benchmark.data.formats.values import Values
from benchmark.data.packs import IGNORED
from benchmark.data.specs import Layer
from benchmark.evaluation.counts import count_terms
from benchmark.evaluation.score_folder import bright, rules_of, thresholded, values_of
from benchmark.utils.errors import UserError

EXPECTED = "expected (H, W) of bool, {0, 1} or {0, 255}"


def score(
    truth: ArrayLike | Path | str,
    prediction: ArrayLike | Path | str,
    *,
    ignore: ArrayLike | Path | str | None = None,
    values: Mapping[str, Any] | Path | str | None = None,
    target: Layer = "track",
    threshold: float | None = None,
    protocol: str | Path = "paper",
    border_px: int | None = None,
    min_area_px: int | None = None,
    cldice: bool = True,
) -> dict[str, float]:
    """Score a predicted mask with every metric, as the verb ``score``; counts and metrics are those of a run.

    Args:
        truth: mask ``(H, W)`` of bool, {0, 1} or {0, 255}, or a file in any form of a dataset's labels.
        prediction: as ``truth``, of the same size.
        ignore: mask of pixels that count nowhere.
        values: what other values of ``truth`` mean: ``{"background": 0, "foreground": [1, 2], "ignore": 255}``, or a
            dataset's TOML file with a table ``[values]``. Arrays may then also be ``(H, W, 3)`` of colours "#rrggbb".
        target: the layer that counts in a file of several layers; ``via`` counts vias in place of opens and shorts.
        threshold: ``prediction`` holds probabilities: floats in [0, 1], or gray values of bool, uint8 or uint16 from 0
            to the largest possible value; foreground has at least this share.
        protocol: whose border and least area count: a preset or a TOML file, such as a study's ``protocol.toml``.
        border_px: band at the image's border in which nets are not judged, pixels; by default the protocol's.
        min_area_px: least area of a counted predicted component, pixels; by default the protocol's.
        cldice: compute clDice, which takes most of the time.

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
    if target not in get_args(Layer):
        raise UserError(f"target: found {target!r}; expected {', '.join(get_args(Layer))}")
    if threshold is not None and not (isinstance(threshold, int | float) and 0 < threshold < 1):
        raise UserError(f"threshold: found {threshold!r}; expected a share between 0 and 1, such as 0.5")
    rules = rules_of(protocol, border_px=border_px, min_area_px=min_area_px, cldice=cldice)
    true = _label("truth", truth, target, None if values is None else _meanings(values))
    masks = {"truth": true.mask}
    if threshold is None:
        masks["prediction"] = _label("prediction", prediction, target).mask
    elif isinstance(prediction, str | Path):
        masks["prediction"] = thresholded(Path(prediction), threshold)
    else:
        masks["prediction"] = _likely(prediction, threshold)
    if isinstance(ignore, str | Path):
        masks["ignore"] = read_ignore(Path(ignore), true.mask.shape)
    elif ignore is not None:
        masks["ignore"] = _label("ignore", ignore, target).mask
    if len({mask.shape for mask in masks.values()}) > 1:
        sizes = ", ".join(f"{name} {mask.shape}" for name, mask in masks.items())
        raise UserError(f"masks of different sizes: {sizes}; expected one height and width")
    packed = true.mask.astype(np.uint8)
    for ignored in (true.ignored, masks.get("ignore")):
        if ignored is not None:
            packed[ignored] = IGNORED
    counts = count_terms(packed, masks["prediction"], target, rules)
    columns = {name: np.array([count]) for name, count in counts.items()}
    reduced = metrics.reduce(columns, "pooled") | metrics.reduce(columns, "image")
    return {**reduced, **counts}


def _meanings(values: Mapping[str, Any] | Path | str) -> Values:
    if isinstance(values, str | Path):
        return values_of(Path(values))
    try:
        return Values.model_validate(dict(values))
    except (ValidationError, TypeError, ValueError) as error:
        problem = error.errors(include_url=False)[0]["msg"] if isinstance(error, ValidationError) else error
        raise UserError(
            f"values: found {values!r} ({problem}); expected background, foreground and perhaps ignore, such as "
            '{"background": 0, "foreground": [1, 2]}'
        ) from error


def _label(name: str, mask: ArrayLike | Path | str, target: Layer, values: Values | None = None) -> Label:
    """Return a mask and the pixels that it leaves out."""
    if isinstance(mask, str | Path):
        return read_label(Path(mask), target, format_of(Path(mask)).size(Path(mask)), Legend(values=values))
    array = _array(name, mask, EXPECTED)
    if values is not None:
        whole = array.dtype.kind in "biu" and array.size and array.min() >= 0 and array.max() < 2**16
        if not whole or array.shape[2:] not in ((), (3,)) or array.ndim < 2:
            raise UserError(f"{name}: {_found(array)}; expected (H, W) or (H, W, 3) of whole numbers from 0 to 65535")
        foreground, ignored = values.read(Path(name), Picture(array.astype(np.uint16)))
        return Label(foreground, ignored=ignored)
    binary = array.dtype.kind in "biu" and (set(np.unique(array)) <= {0, 1} or set(np.unique(array)) <= {0, 255})
    if array.ndim != 2 or not binary:
        remedy = {"truth": ": give values", "prediction": ": give threshold=0.5 if it holds probabilities"}
        raise UserError(f"{name}: {_found(array)}; {EXPECTED}{remedy.get(name, '')}")
    return Label(array > 0)


def _likely(probability: ArrayLike, threshold: float) -> NDArray[np.bool_]:
    """Return the foreground of an array of probabilities."""
    wanted = "expected (H, W) of floats in [0, 1], bool, uint8 or uint16"
    array = _array("prediction", probability, wanted)
    if array.ndim == 2 and array.dtype.type in (np.bool_, np.uint8, np.uint16):
        return bright(array, threshold)
    if array.ndim != 2 or array.dtype.kind != "f" or not ((array >= 0) & (array <= 1)).all():
        raise UserError(f"prediction: {_found(array)}; {wanted}")
    foreground: NDArray[np.bool_] = array >= threshold
    return foreground


def _array(name: str, mask: ArrayLike, expected: str) -> NDArray[Any]:
    try:
        return np.asarray(mask)
    except ValueError as error:  # rows of different lengths
        raise UserError(f"{name}: not an array ({error}); {expected}") from error


def _found(array: NDArray[Any]) -> str:
    values = np.unique(array).tolist() if array.dtype.kind in "biu" else [f"of {array.dtype}"]
    return f"an array {array.shape}, values {', '.join(map(str, values[:5]))}"
