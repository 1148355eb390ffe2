"""Scores predicted masks, given as arrays or files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import ValidationError

from benchmark import metrics
from benchmark.config.targets import JOIN, checked, layers_of
from benchmark.data.formats.all_formats import format_of, read_label
from benchmark.data.formats.images import Picture
from benchmark.data.formats.label_format import Label, Legend
from benchmark.data.formats.masks import read_ignore
from benchmark.data.formats.values import Values
from benchmark.data.packs import IGNORED
from benchmark.data.specs import Layer
from benchmark.evaluation.counts import count_layers
from benchmark.evaluation.score_pairs import bright, rules_of, thresholded, values_of
from benchmark.utils.errors import UserError

Given = ArrayLike | Path | str
EXPECTED = "expected (H, W) of bool, {0, 1} or {0, 255}"


def score(
    truth: Given | Mapping[str, Given],
    prediction: Given | Mapping[str, Given],
    *,
    ignore: Given | None = None,
    values: Mapping[str, Any] | Path | str | None = None,
    target: Layer = "track",
    threshold: float | None = None,
    protocol: str | Path = "paper",
    border_px: int | None = None,
    min_area_px: int | None = None,
    cldice: bool = True,
) -> dict[str, Any]:
    """Score a predicted mask with every metric, as the verb ``score``; counts and metrics are those of a run.

    Args:
        truth: mask ``(H, W)`` of bool, {0, 1} or {0, 255}, or a file in any form of a dataset's labels; of several
            layers, a mask for each by name, such as ``{"track": ..., "via": ...}``.
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
        bits per pixel or numbers of faults. ``python -m benchmark explain NAME`` tells the formula of each. Of several
        layers, these by layer; those of vias count the connections to the nets of the first layer that is none of vias.

    Raises:
        UserError: a file cannot be read, an array holds other values, sizes differ, or truth and prediction have other
            layers.

    Example:
        >>> import numpy as np, benchmark
        >>> truth = np.zeros((200, 200), bool)
        >>> truth[60:70] = truth[120:130] = True  # two tracks
        >>> prediction = truth.copy()
        >>> prediction[70:120, 90:100] = True  # joined by a third
        >>> scores = benchmark.score(truth, prediction)
        >>> scores["shorts"], round(scores["miou"], 3)
        (1, 0.938)

        Vias are judged by the nets that they lie on, if there are masks of both:

        >>> vias = np.zeros((200, 200), bool)
        >>> vias[62:68, 40:46] = vias[122:128, 40:46] = True  # one on each track
        >>> found = vias.copy()
        >>> found[100:] = False
        >>> layers = benchmark.score({"track": truth, "via": vias}, {"track": truth, "via": found})
        >>> layers["track"]["miou"], layers["via"]["vias_right"], layers["via"]["vias_lost"]
        (1.0, 1, 1)
    """
    if target not in get_args(Layer):
        raise UserError(f"target: found {target!r}; expected {', '.join(get_args(Layer))}")
    if threshold is not None and not (isinstance(threshold, int | float) and 0 < threshold < 1):
        raise UserError(f"threshold: found {threshold!r}; expected a share between 0 and 1, such as 0.5")
    rules = rules_of(protocol, border_px=border_px, min_area_px=min_area_px, cldice=cldice)
    several = isinstance(truth, Mapping) or isinstance(prediction, Mapping)
    truths, predictions = _by_layer(truth, prediction, target)
    meanings = None if values is None else _meanings(values)
    masks, packed, predicted = dict[str, NDArray[np.bool_]](), [], []
    for layer in truths:
        of_layer = f" {layer}" * several
        true = _label(f"truth{of_layer}", truths[layer], layer, meanings)
        masks[f"truth{of_layer}"] = true.mask
        predicted.append(_predicted(f"prediction{of_layer}", predictions[layer], layer, threshold))
        masks[f"prediction{of_layer}"] = predicted[-1]
        packed.append(true.mask.astype(np.uint8))
        if true.ignored is not None:
            packed[-1][true.ignored] = IGNORED
    if isinstance(ignore, str | Path):
        masks["ignore"] = read_ignore(Path(ignore), packed[0].shape)
    elif ignore is not None:
        masks["ignore"] = _label("ignore", ignore, target).mask
    if len({mask.shape for mask in masks.values()}) > 1:
        sizes = ", ".join(f"{name} {mask.shape}" for name, mask in masks.items())
        raise UserError(f"masks of different sizes: {sizes}; expected one height and width")
    if "ignore" in masks:
        for mask in packed:
            mask[masks["ignore"]] = IGNORED
    terms = count_layers(np.stack(packed), np.stack(predicted), tuple(truths), rules)
    scores = dict(zip(truths, map(_reduced, terms), strict=True))
    return scores if several else scores[target]


def _reduced(counts: Mapping[str, int]) -> dict[str, float]:
    columns = {name: np.array([count]) for name, count in counts.items()}
    return {**metrics.reduce(columns, "pooled"), **metrics.reduce(columns, "image"), **counts}


def _by_layer(truth: Any, prediction: Any, target: str) -> tuple[dict[str, Given], dict[str, Given]]:
    """Return true and predicted masks by layer, in the order of the truth's; masks alone are those of the target."""
    if not (isinstance(truth, Mapping) or isinstance(prediction, Mapping)):
        return {target: truth}, {target: prediction}
    if not (isinstance(truth, Mapping) and isinstance(prediction, Mapping)):
        kinds = ", ".join(
            f"{name} {'by layer' if isinstance(masks, Mapping) else 'alone'}"
            for name, masks in (("truth", truth), ("prediction", prediction))
        )
        raise UserError(f"found {kinds}; expected a dict of masks by layer on both sides, or on neither")
    try:
        layers = layers_of(checked(JOIN.join(map(str, truth))))
    except ValueError as error:
        raise UserError(f"truth: {error}") from error
    if set(layers) != set(prediction):
        raise UserError(
            f"truth has the layers {', '.join(layers)} and prediction {', '.join(map(str, prediction))}; expected the "
            "same: leave out the others"
        )
    return {layer: truth[layer] for layer in layers}, {layer: prediction[layer] for layer in layers}


def _predicted(name: str, prediction: Given, layer: str, threshold: float | None) -> NDArray[np.bool_]:
    if threshold is None:
        return _label(name, prediction, layer).mask
    if isinstance(prediction, str | Path):
        return thresholded(Path(prediction), threshold)
    return _likely(name, prediction, threshold)


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


def _label(name: str, mask: Given, target: str, values: Values | None = None) -> Label:
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
        raise UserError(f"{name}: {_found(array)}; {EXPECTED}{remedy.get(name.split()[0], '')}")
    return Label(array > 0)


def _likely(name: str, probability: ArrayLike, threshold: float) -> NDArray[np.bool_]:
    """Return the foreground of an array of probabilities."""
    wanted = "expected (H, W) of floats in [0, 1], bool, uint8 or uint16"
    array = _array(name, probability, wanted)
    if array.ndim == 2 and array.dtype.type in (np.bool_, np.uint8, np.uint16):
        return bright(array, threshold)
    if array.ndim != 2 or array.dtype.kind != "f" or not ((array >= 0) & (array <= 1)).all():
        raise UserError(f"{name}: {_found(array)}; {wanted}")
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
