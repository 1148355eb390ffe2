"""Defines every metric: its name, its meaning and its formula on integer counts.

A rule for all metrics: an image without a counted pixel has no value and is part of no mean, sum or number of images,
and a rate over nets or vias has no value without a net or via. "1 if both are empty" is for images that were judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt

from benchmark.metrics.boundaries import TOLERANCE_PX
from benchmark.metrics.information import NBIT

Reduction = Literal["image", "pooled"]
#: Treatment of a test set's images.
REDUCTIONS: Mapping[Reduction, str] = MappingProxyType(
    {"image": "mean of per-image values", "pooled": "counts summed over images before the ratio"}
)
#: Holds for every metric; see :func:`benchmark.metrics.judged`.
NOTHING_TO_JUDGE = "an image without a counted pixel (all of it ignored) has no value and is part of no mean or number"
PIXELS = ("tp", "fp", "fn", "tn")
Counts = Mapping[str, npt.NDArray[np.integer]]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A figure of merit.

    Attributes:
        name: key in records and CSV files.
        display: name in tables and plots.
        definition: its meaning, in words.
        formula: a line of text, on the counts.
        columns: the integer columns that the formula uses.
        compute: the formula, vectorised over judged images; NaN where the metric has no value.
        empty: the value where the formula divides by 0, on an image that was judged; blank for counts.
        unit: ``fraction`` (in [0, 1]), ``count`` or ``bits`` (per pixel).
        higher_is_better: direction of rankings in tables and plots.
        reductions: allowed ways over images. Electrical and via counts are summed before a rate is formed.
    """

    name: str
    display: str
    definition: str
    formula: str
    columns: tuple[str, ...]
    compute: Callable[[Counts], Values]
    empty: str = ""
    unit: Literal["fraction", "count", "bits"] = "fraction"
    higher_is_better: bool = True
    reductions: tuple[Reduction, ...] = ("pooled",)

    @property
    def range(self) -> tuple[float, float]:
        """Least and greatest value."""
        return (0.0, 1.0) if self.unit == "fraction" else (0.0, np.inf)


def _fraction(numerator: npt.ArrayLike, denominator: npt.ArrayLike, empty: float = np.nan) -> Values:
    """Divide; the result is ``empty`` where the denominator is 0."""
    bottom = np.asarray(denominator, np.float64)
    out: Values = np.full(bottom.shape, empty)
    np.divide(numerator, bottom, out=out, where=bottom != 0)
    return out


def _mean_of_present(*per_class: Values) -> Values:
    """Average over classes, leaving out those without a value; NaN where none has one."""
    stacked = np.stack(per_class)
    present = ~np.isnan(stacked)
    return _fraction(np.where(present, stacked, 0.0).sum(axis=0), present.sum(axis=0))


def _miou(c: Counts) -> Values:
    errors = c["fp"] + c["fn"]
    return _mean_of_present(_fraction(c["tn"], c["tn"] + errors), _fraction(c["tp"], c["tp"] + errors))


def _mpa(c: Counts) -> Values:
    return _mean_of_present(_fraction(c["tn"], c["tn"] + c["fp"]), _fraction(c["tp"], c["tp"] + c["fn"]))


def _harmonic_mean(c: Counts, lines: str, neither: npt.ArrayLike) -> Values:
    """Return the harmonic mean of the shares of both masks' ``lines``, such as ``skeleton``, that the other one hits.

    The result is ``neither`` where neither mask has such a line.
    """
    true, predicted = c[f"{lines}_true"], c[f"{lines}_predicted"]
    true_hit, predicted_hit = c[f"{lines}_true_hit"], c[f"{lines}_predicted_hit"]
    # Precision and recall over a common denominator give the harmonic mean without a division in between.
    mean = _fraction(2 * predicted_hit * true_hit, predicted_hit * true + true_hit * predicted, empty=0.0)
    return np.where(true + predicted == 0, neither, mean)


def _bits_per_pixel(nanobits: npt.ArrayLike, c: Counts) -> Values:
    pixels = c["tp"] + c["fp"] + c["fn"] + c["tn"]
    return _fraction(nanobits, pixels) * NBIT


BOTH: tuple[Reduction, ...] = ("image", "pooled")

# In the order of tables. G is the ground truth, P the prediction; foreground is circuit.
# fmt: off
_ALL = (
    Metric(
        name="miou", display="mIoU", reductions=BOTH, columns=("tp", "fp", "fn", "tn"),
        definition="Mean intersection over union of the two classes. Background fills most of an image and lifts "
        "the mean, so that one broken track out of fifty hardly shows.",
        formula="mean over {background, foreground} of tp / (tp + fp + fn)",
        empty="a class absent from both G and P is left out of the mean",
        compute=_miou,
    ),
    Metric(
        name="mpa", display="MPA", reductions=BOTH, columns=("tp", "fp", "fn", "tn"),
        definition="Mean pixel accuracy: the share of each class's true pixels that the prediction finds, averaged "
        "over the two classes. A prediction that is too wide gains on foreground what it loses on background.",
        formula="mean over {background, foreground} of tp / (tp + fn)",
        empty="a class absent from G is left out of the mean",
        compute=_mpa,
    ),
    Metric(
        name="dice", display="Dice", reductions=BOTH, columns=("tp", "fp", "fn"),
        definition="Harmonic mean of the foreground's pixel precision and recall.",
        formula="2 tp / (2 tp + fp + fn)", empty="1 if G and P are both empty",
        compute=lambda c: _fraction(2 * c["tp"], 2 * c["tp"] + c["fp"] + c["fn"], empty=1.0),
    ),
    Metric(
        name="aji", display="AJI", reductions=BOTH, columns=("aji_num", "aji_den"),
        definition="Aggregated Jaccard index (Kumar et al. 2017) over 8-connected components: each component of G "
        "takes the component S(G_i) of P with the highest IoU, one of P may serve several, and what is left over "
        "on either side adds its area to the denominator. Some published AJI figures were computed on unlabelled "
        "masks, which gives the foreground IoU: compare those with fg_iou.",
        formula="sum |G_i ∩ S(G_i)| / (sum |G_i ∪ S(G_i)| + area of what is left over)",
        empty="1 if G and P are both empty, 0 if one is",
        compute=lambda c: _fraction(c["aji_num"], c["aji_den"], empty=1.0),
    ),
    Metric(
        name="aji_plus", display="AJI+", reductions=BOTH, columns=("ajip_num", "ajip_den"),
        definition="AJI under the one-to-one assignment M of highest total IoU: no component of P serves twice.",
        formula="sum |G_i ∩ M(G_i)| / (sum |G_i ∪ M(G_i)| + area of what is left over)",
        empty="1 if G and P are both empty, 0 if one is",
        compute=lambda c: _fraction(c["ajip_num"], c["ajip_den"], empty=1.0),
    ),
    Metric(
        name="fg_iou", display="fgIoU", reductions=BOTH, columns=("tp", "fp", "fn"),
        definition="Intersection over union of the foreground alone.",
        formula="tp / (tp + fp + fn)", empty="1 if G and P are both empty",
        compute=lambda c: _fraction(c["tp"], c["tp"] + c["fp"] + c["fn"], empty=1.0),
    ),
    Metric(
        name="boundary_f1", display="Boundary F1", reductions=BOTH,
        columns=("boundary_true", "boundary_true_hit", "boundary_predicted", "boundary_predicted_hit", "fp", "fn"),
        definition=f"Do the outlines agree within {TOLERANCE_PX} px (Csurka et al. 2013)? A mask's boundary is its "
        "foreground pixels with a background pixel above, below, left or right of them; the edge of an image or of an "
        "ignored region is no boundary. A boundary pixel is hit if one of the other mask lies within "
        f"{TOLERANCE_PX} px. Truths drawn by hand are no better than that, and mIoU counts such pixels as errors.",
        formula="2 precision recall / (precision + recall), precision = boundary_predicted_hit / boundary_predicted, "
        "recall = boundary_true_hit / boundary_true",
        empty="without any boundary, 1 if the masks are equal and 0 if one is full; 0 if only one mask has a boundary",
        compute=lambda c: _harmonic_mean(c, "boundary", c["fp"] + c["fn"] == 0),
    ),
    Metric(
        name="cldice", display="clDice", reductions=BOTH,
        columns=("skeleton_true", "skeleton_true_hit", "skeleton_predicted", "skeleton_predicted_hit"),
        definition="Do the centre lines agree (Shit et al. 2021)? Topology precision is the share of the prediction's "
        "skeleton that lies on G, topology sensitivity the share of G's skeleton that lies on P; clDice is their "
        "harmonic mean. A track that is too narrow or too wide costs nothing, a gap or a bridge costs its length. "
        "Skeletons are slow to make: runs count them with --set evaluation.cldice=true.",
        formula="2 Tprec Tsens / (Tprec + Tsens), Tprec = skeleton_predicted_hit / skeleton_predicted, "
        "Tsens = skeleton_true_hit / skeleton_true",
        empty="1 if both skeletons are empty, 0 if one is",
        compute=lambda c: _harmonic_mean(c, "skeleton", 1.0),
    ),
    Metric(
        name="vi_split", display="VI split", unit="bits", higher_is_better=False, reductions=BOTH,
        columns=("vi_split_nbit", "tp", "fp", "fn", "tn"),
        definition="Half of the variation of information (Meilă 2007): what the true segment of a pixel leaves open "
        "about its predicted segment. Grows where the prediction cuts nets into pieces. A segment is an 8-connected "
        "component, or the background as a whole.",
        formula="H(P|G) = 1e-9 vi_split_nbit / (tp + fp + fn + tn)",
        empty="an empty and a full mask, one segment each, agree",
        compute=lambda c: _bits_per_pixel(c["vi_split_nbit"], c),
    ),
    Metric(
        name="vi_merge", display="VI merge", unit="bits", higher_is_better=False, reductions=BOTH,
        columns=("vi_merge_nbit", "tp", "fp", "fn", "tn"),
        definition="Half of the variation of information (Meilă 2007), as VI split: what the predicted segment of a "
        "pixel leaves open about its true segment. Grows where the prediction joins nets.",
        formula="H(G|P) = 1e-9 vi_merge_nbit / (tp + fp + fn + tn)",
        empty="an empty and a full mask, one segment each, agree",
        compute=lambda c: _bits_per_pixel(c["vi_merge_nbit"], c),
    ),
    Metric(
        name="betti0_error", display="Betti-0 error", unit="count", higher_is_better=False, reductions=BOTH,
        columns=("betti0_error",),
        definition="By how many 8-connected components prediction and truth differ, whatever their size and place: an "
        "open and a short cancel, and a speck counts. Betti error 0 in the literature, there often on patches.",
        formula="|components of P - components of G|; pooled is the sum over images",
        compute=lambda c: c["betti0_error"].astype(np.float64),
    ),
    Metric(
        name="betti1_error", display="Betti-1 error", unit="count", higher_is_better=False, reductions=BOTH,
        columns=("betti1_error",),
        definition="By how many holes prediction and truth differ: 4-connected parts of the background that do not "
        "reach the image's edge. A wrong loop of tracks counts, and so does a pinhole in a track.",
        formula="|holes of P - holes of G|; pooled is the sum over images",
        compute=lambda c: c["betti1_error"].astype(np.float64),
    ),
    Metric(
        name="opens", display="Opens", unit="count", higher_is_better=False, columns=("opens",),
        definition="Nets that the prediction cuts into pieces. A net is a component of G, interior if it leaves the "
        "border band. A component of P hits a net if they share a pixel. It counts if its area reaches the least one; "
        "where none of these hits a net, the largest smaller one that does counts, so that a small net that is found "
        "is found, a speck beside a found net is noise, and the truth scored against itself has no error.",
        formula="number of interior nets hit by more than one component",
        compute=lambda c: c["opens"].astype(np.float64),
    ),
    Metric(
        name="shorts", display="Shorts", unit="count", higher_is_better=False, columns=("shorts",),
        definition="Nets that the prediction joins to another: a component over three interior nets makes two.",
        formula="sum over components that reach the interior of max(interior nets hit - 1, 0)",
        compute=lambda c: c["shorts"].astype(np.float64),
    ),
    Metric(
        name="missed", display="Missed nets", unit="count", higher_is_better=False, columns=("missed",),
        definition="Nets of which the prediction shows nothing that counts as a component.",
        formula="number of interior nets hit by no component",
        compute=lambda c: c["missed"].astype(np.float64),
    ),
    Metric(
        name="false", display="False nets", unit="count", higher_is_better=False, columns=("false",),
        definition="Tracks that the prediction invents.",
        formula="number of components that reach the interior and hit no net at all",
        compute=lambda c: c["false"].astype(np.float64),
    ),
    Metric(
        name="net_error_rate", display="Net error rate", higher_is_better=False, columns=("nets", "correct"),
        definition="Share of interior nets that are open, shorted or missed. A net is correct if one component hits "
        "it, and that component hits no other interior net.",
        formula="(nets - correct) / nets", empty="no value without an interior net",
        compute=lambda c: _fraction(c["nets"] - c["correct"], c["nets"]),
    ),
    Metric(
        name="net_precision", display="Net precision", columns=("correct", "components"),
        definition="Share of predicted components that stand for exactly one whole net, out of those that reach the "
        "interior or hit an interior net.",
        formula="correct / components", empty="no value without such a component",
        compute=lambda c: _fraction(c["correct"], c["components"]),
    ),
    Metric(
        name="net_recall", display="Net recall", columns=("correct", "nets"),
        definition="Share of interior nets that are correct.",
        formula="correct / nets", empty="no value without an interior net",
        compute=lambda c: _fraction(c["correct"], c["nets"]),
    ),
    Metric(
        name="net_f1", display="Net F1", columns=("correct", "nets", "components"),
        definition="Harmonic mean of net precision and net recall.",
        formula="2 correct / (nets + components)",
        empty="no value if there is neither an interior net nor a component, 0 if one is missing",
        compute=lambda c: _fraction(2 * c["correct"], c["nets"] + c["components"]),
    ),
    Metric(
        name="via_precision", display="Via precision", columns=("via_matched", "via_predicted"),
        definition="Share of predicted vias matched to a true one. The centres may lie apart by the true radius, and "
        "the matching is one to one. On either side, vias closer than a radius are merged first, so that the truth "
        "scored against itself has no error.",
        formula="via_matched / via_predicted", empty="no value without a predicted via",
        compute=lambda c: _fraction(c["via_matched"], c["via_predicted"]),
    ),
    Metric(
        name="via_recall", display="Via recall", columns=("via_matched", "via_true"),
        definition="Share of true vias matched to a predicted one; vias closer than a radius are one, on either side.",
        formula="via_matched / via_true", empty="no value without a true via",
        compute=lambda c: _fraction(c["via_matched"], c["via_true"]),
    ),
    Metric(
        name="via_f1", display="Via F1", columns=("via_matched", "via_true", "via_predicted"),
        definition="Harmonic mean of via precision and via recall.",
        formula="2 via_matched / (via_true + via_predicted)",
        empty="no value if there is neither a true nor a predicted via, 0 if one is missing",
        compute=lambda c: _fraction(2 * c["via_matched"], c["via_true"] + c["via_predicted"]),
    ),
    Metric(
        name="via_missed", display="Missed vias", unit="count", higher_is_better=False,
        columns=("via_true", "via_matched"),
        definition="True vias without a match.",
        formula="via_true - via_matched",
        compute=lambda c: (c["via_true"] - c["via_matched"]).astype(np.float64),
    ),
    Metric(
        name="via_false", display="False vias", unit="count", higher_is_better=False,
        columns=("via_predicted", "via_matched"),
        definition="Predicted vias without a match.",
        formula="via_predicted - via_matched",
        compute=lambda c: (c["via_predicted"] - c["via_matched"]).astype(np.float64),
    ),
    Metric(
        name="connection_error_rate", display="Connection error rate", higher_is_better=False,
        columns=("vias_right", "vias_stray", "vias_crossed", "vias_lost"),
        definition="Share of judged true vias that the prediction connects to no net (stray) or to another net "
        "(crossed), or does not find (lost); known where an image has tracks and vias. A via lies on the net that it "
        "shares the most pixels with, on all of several alike, and on none if it shares none. A true via is judged "
        "if it lies on an interior net, wherever the via itself is. It is right if its matched via lies on a "
        "component of P that hits this net: so is a via on the piece of an open net or on a short, which other "
        "metrics count. A predicted via without a match is a false via, no connection error. See opens for interior "
        "nets, hits and the components that count.",
        formula="(vias_stray + vias_crossed + vias_lost) / (vias_right + vias_stray + vias_crossed + vias_lost)",
        empty="no value without a true via on an interior net",
        compute=lambda c: _fraction(
            c["vias_stray"] + c["vias_crossed"] + c["vias_lost"],
            c["vias_right"] + c["vias_stray"] + c["vias_crossed"] + c["vias_lost"],
        ),
    ),
    Metric(
        name="vias_stray", display="Stray vias", unit="count", higher_is_better=False, columns=("vias_stray",),
        definition="Judged true vias whose match lies on no component of P that counts; a component below the least "
        "area is noise, except the largest of a net that no larger one hits.",
        formula="number of judged, matched vias on no component",
        compute=lambda c: c["vias_stray"].astype(np.float64),
    ),
    Metric(
        name="vias_crossed", display="Crossed vias", unit="count", higher_is_better=False, columns=("vias_crossed",),
        definition="Judged true vias whose match lies on a component of P that does not hit their net, but another "
        "net or none.",
        formula="number of judged, matched vias on a component that does not hit their net",
        compute=lambda c: c["vias_crossed"].astype(np.float64),
    ),
    Metric(
        name="vias_lost", display="Lost vias", unit="count", higher_is_better=False, columns=("vias_lost",),
        definition="Judged true vias without a match: missed vias that lie on an interior net.",
        formula="number of judged vias without a match",
        compute=lambda c: c["vias_lost"].astype(np.float64),
    ),
)
# fmt: on

#: The metrics of the harness by name, which records hold.
BUILTIN: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in _ALL})
