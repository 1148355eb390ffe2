"""Tests differences over repeats and over source frames, and computes intervals.

Repeats allow conclusions about methods: each training is another draw. Frames allow conclusions about the trained
networks only, however many frames there are: they count the luck of a training as a difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

from benchmark.metrics.all_metrics import METRICS
from benchmark.metrics.definitions import Counts, Metric, Reduction
from benchmark.metrics.reductions import judged

Floats = npt.NDArray[np.float64]

#: Level of every test; intervals cover 1 - ALPHA.
ALPHA = 0.05
EXACT_LIMIT = 2**16  # all swaps of up to 16 clusters are tried
SIGN_FLIPS = 9_999  # random swaps of more clusters
BOOTSTRAP_DRAWS = 2_000
VALUES_AT_ONCE = 2**23

# Values are fractions near 1 or small counts; smaller differences come from rounding alone.
ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class PairedT:
    """A paired t-test; each array has the shape of the input without its last axis."""

    mean: Floats  # mean difference
    low: Floats  # lower end of its 1 - ALPHA interval; NaN without a test
    high: Floats  # upper end
    p: Floats  # two-sided; NaN without a test


def paired_t(values: npt.ArrayLike, reference: npt.ArrayLike, *, test_to_training: float = 0.0) -> PairedT:
    """Test whether values differ from the reference in the mean, as :func:`scipy.stats.ttest_rel` does.

    There is no test of a single pair, and none where all pairs have the same difference. Then scipy has p = 0 (or NaN
    for no difference at all), but small integer counts often give three equal differences, which are no certainty.

    The trainings of a cross-validation's folds share images, so that their differences are not independent. Their mean
    then has the variance (1 / n + test_to_training) of a difference (Nadeau and Bengio, Mach. Learn. 52, 2003; for
    folds Bouckaert and Frank, PAKDD 2004).

    Args:
        values: (..., n), n repeats.
        reference: (..., n), the same repeats of the reference.
        test_to_training: number of a fold's test images by that of its others; 0 for independent repeats.
    """
    a, b = np.broadcast_arrays(np.asarray(values, np.float64), np.asarray(reference, np.float64))
    difference = a - b
    mean = difference.mean(axis=-1)
    none = np.full(mean.shape, np.nan)
    n = difference.shape[-1]
    if n < 2:
        return PairedT(mean, none, none, none)
    size = np.maximum(1.0, np.abs(a).max(axis=-1))
    steady = np.ptp(difference, axis=-1) <= ROUNDING * size
    result = stats.ttest_rel(np.where(steady[..., None], np.nan, a), b, axis=-1)
    interval, p = result.confidence_interval(1 - ALPHA), result.pvalue
    low, high = interval.low, interval.high
    if test_to_training:
        wider = math.sqrt(1 + n * test_to_training)
        low, high = (mean + wider * (end - mean) for end in (low, high))
        p = 2 * stats.t.sf(np.abs(result.statistic) / wider, n - 1)
    return PairedT(mean, *(np.asarray(value, np.float64) for value in (low, high, p)))


def holm(p: npt.ArrayLike) -> Floats:
    """Correct p-values for their number (Holm, Scand. J. Statist. 6, 1979), along the last axis.

    Args:
        p: (..., m) the family; NaN, a hypothesis that could not be tested, counts as one more member and stays NaN.

    Returns:
        Adjusted p-values: those below alpha are significant while the chance of any false one stays below alpha.
    """
    raw = np.asarray(p, np.float64)
    order = np.argsort(raw, axis=-1, kind="stable")  # NaN comes last
    steps = raw.shape[-1] - np.arange(raw.shape[-1])
    stepped = np.maximum.accumulate(steps * np.take_along_axis(raw, order, axis=-1), axis=-1)
    adjusted = np.empty_like(raw)
    np.put_along_axis(adjusted, order, np.minimum(stepped, 1.0), axis=-1)
    return adjusted


def effects_in_reach(n: int, family: int, power: float = 0.8, *, test_to_training: float = 0.0) -> tuple[float, float]:
    """Return the effects that a paired t-test over n pairs can show, in standard deviations of the differences.

    Args:
        n: number of pairs, at least 2.
        family: number of tests that Holm corrects over; figures are for the strictest test.
        power: chance to find the true difference.
        test_to_training: as for :func:`paired_t`.

    Returns:
        The least mean difference that is significant, and the true difference that is found with the given chance.
    """
    threshold, root = float(stats.t.isf(ALPHA / family / 2, n - 1)), math.sqrt(n / (1 + n * test_to_training))
    true = optimize.brentq(lambda e: float(stats.nct.sf(threshold, n - 1, e * root)) - power, 0, 10 * threshold)
    return threshold / root, float(true)


def least_rank_p(n: int) -> float:
    """Return the least two-sided p of a signed-rank or sign-flip test over n pairs: one of 2^n and its mirror."""
    return min(1.0, math.ldexp(2.0, -n))


def least_sign_flip_p(clusters: int) -> float:
    """Return the least p that :func:`sign_flip` can give."""
    return least_rank_p(clusters) if 2**clusters <= EXACT_LIMIT else 1 / (SIGN_FLIPS + 1)


def clusters_needed(family: int) -> int:
    """Return the least number of clusters with which a sign-flip test can be significant after Holm over a family."""
    return math.floor(math.log2(2 * family / ALPHA)) + 1


def alike(different: npt.NDArray[np.bool_]) -> list[tuple[int, ...]]:
    """Return the largest groups without a significant difference inside (compact letter display).

    Two items share a group exactly if they do not differ; ``different`` is (M, M) and symmetric. The algorithm is
    insert and absorb (Piepho, J. Comput. Graph. Stat. 13, 2004).
    """
    groups = [frozenset(range(len(different)))]
    for i, j in zip(*np.nonzero(np.triu(different)), strict=True):
        parts = {part for group in groups for part in ((group - {i}, group - {j}) if {i, j} <= group else (group,))}
        groups = [part for part in parts if not any(part < other for other in parts)]
    return sorted(tuple(sorted(int(item) for item in group)) for group in groups)


@dataclass(frozen=True, eq=False)
class Clustered:
    """A metric of several networks on the same test images, as sums per source frame.

    Either reduction is a ratio of sums: of values and their number, or of two counts. The functions below weigh
    clusters, sum up, and form the ratio anew.
    """

    groups: tuple[str, ...]  # the clusters' names, sorted; frames without a counted pixel are left out
    terms: Floats  # (clusters, networks, terms)
    metric: Metric  # the metric of the ratio
    reduction: Reduction  # the reduction of the metric

    @classmethod
    def of(
        cls, networks: Sequence[tuple[Counts, Sequence[str]]], metric: str, reduction: Reduction = "pooled"
    ) -> Clustered:
        """Sum the counts of each source frame.

        Args:
            networks: integer columns and source frames of each network's images, in any order.
            metric: a key of :data:`~benchmark.metrics.METRICS`.
            reduction: the reduction of the metric.

        Raises:
            ValueError: the networks were tested on different frames, or there is no network.
        """
        # Those of the same images are summed together: of hundreds of repeats, each alone would take ten times as long.
        alike: dict[tuple[tuple[str, ...], bytes], list[int]] = {}
        for index, (counts, groups) in enumerate(networks):
            alike.setdefault((tuple(groups), judged(counts).tobytes()), []).append(index)
        sums: dict[tuple[str, ...], list[tuple[list[int], Floats]]] = {}
        for (groups, judged_bytes), indices in alike.items():
            has_value = np.frombuffer(judged_bytes, np.bool_)
            columns = {
                name: np.stack([np.asarray(networks[index][0][name], np.int64)[has_value] for index in indices])
                for name in METRICS[metric].columns
            }
            names, terms = _sums(METRICS[metric], reduction, columns, np.asarray(groups, dtype=object)[has_value])
            sums.setdefault(names, []).append((indices, terms))
        if len(sums) != 1:
            raise ValueError(f"expected networks tested on the same source frames, found {len(sums)} sets of frames")
        ((names, parts),) = sums.items()
        order = np.argsort([index for indices, _ in parts for index in indices])
        return cls(names, np.concatenate([terms for _, terms in parts], axis=1)[:, order], METRICS[metric], reduction)

    def form(self, sums: Floats) -> Floats:
        """Return the metric, (...), of summed terms, (..., terms)."""
        if self.reduction == "image":
            total, present = sums[..., 0], sums[..., 1]
            means: Floats = np.divide(total, present, out=np.full(total.shape, np.nan), where=present > 0)
            return means
        # Integers below 2^53 are exact in float64, whichever way the sums were formed.
        whole = np.rint(sums).astype(np.int64)
        return self.metric.compute({name: whole[..., index] for index, name in enumerate(self.metric.columns)})


def _sums(
    metric: Metric, reduction: Reduction, columns: Counts, groups: npt.NDArray[np.object_]
) -> tuple[tuple[str, ...], Floats]:
    """Return the cluster names and (clusters, networks, terms), independent of the order of the images.

    Args:
        metric: its terms are summed.
        reduction: of the metric.
        columns: (networks, images) of each column of the metric.
        groups: (images,) source frames.
    """
    names, member = np.unique(groups, return_inverse=True)
    networks, images = next(iter(columns.values())).shape
    if reduction == "image":
        values = metric.compute({name: column.reshape(-1) for name, column in columns.items()})
        sums = np.zeros((len(names), networks, 2))
        by_cluster = values.reshape(networks, images)[:, np.argsort(member, kind="stable")]
        for cluster, of_cluster in enumerate(np.split(by_cluster, np.bincount(member).cumsum()[:-1], axis=1)):
            for network, of_images in enumerate(of_cluster.tolist()):
                present = [value for value in of_images if not math.isnan(value)]
                sums[cluster, network] = math.fsum(present), len(present)
    else:
        whole = np.zeros((len(names), networks, len(columns)), np.int64)
        np.add.at(whole, member, np.stack(list(columns.values()), axis=-1).swapaxes(0, 1))
        sums = whole.astype(np.float64)
    return tuple(names.tolist()), sums


def _by_content(terms: Floats) -> Floats:
    """Sort clusters by their content, so that no draw depends on their names or their order."""
    return terms[np.lexsort(terms.reshape(len(terms), -1).T)]


def _pairs(model: Clustered, reference: Clustered) -> tuple[Floats, Floats]:
    """Return both sides' terms, cluster by cluster, in an order that depends on the content alone."""
    if model.groups != reference.groups or model.terms.shape != reference.terms.shape:
        raise ValueError("expected as many networks on both sides, tested on the same source frames")
    both = _by_content(np.concatenate([model.terms, reference.terms], axis=1))
    return both[:, : model.terms.shape[1]], both[:, model.terms.shape[1] :]


def paired_interval(model: Clustered, reference: Clustered) -> tuple[float, float, float]:
    """Return the difference of two sets of networks, averaged over each, with its 1 - ALPHA interval over clusters.

    The interval is the jackknife's that leaves out one cluster, with Student's t on k - 1 degrees of freedom. For the
    mean over clusters of one size it is the t interval of the cluster means; it needs no formula for ratios of sums,
    and does not shrink with few clusters as a percentile bootstrap does (by a fifth with k = 8).

    Returns:
        Difference, low, high; an end is NaN with fewer than two clusters, or where leaving one out leaves no value.
    """
    ours, theirs = _pairs(model, reference)

    def difference(ours: Floats, theirs: Floats) -> Floats:
        means: Floats = model.form(ours).mean(axis=-1) - reference.form(theirs).mean(axis=-1)
        return means

    whole = float(difference(ours.sum(axis=0), theirs.sum(axis=0)))
    clusters = len(ours)
    if clusters < 2:
        return whole, math.nan, math.nan
    without = difference(ours.sum(axis=0) - ours, theirs.sum(axis=0) - theirs)
    error = math.sqrt((clusters - 1) * float(np.var(without)))
    reach = float(stats.t.isf(ALPHA / 2, clusters - 1)) * error
    return whole, whole - reach, whole + reach


def sign_flip(
    model: Clustered, reference: Clustered, *, exact_limit: int = EXACT_LIMIT, draws: int = SIGN_FLIPS, seed: int = 0
) -> float:
    """Return the two-sided p of exchanging both sides' results within whole clusters; NaN without a difference.

    For a mean over images this flips the signs of the cluster sums of the differences.

    Args:
        model: networks of a side.
        reference: networks of the other side.
        exact_limit: all 2^k exchanges are tried up to this number; p is then a share of them.
        draws: number of random exchanges otherwise; p is (1 + as extreme) / (1 + draws) (Phipson and Smyth 2010).
        seed: of the draws.
    """
    ours, theirs = _pairs(model, reference)
    clusters = len(ours)
    exact = clusters < 63 and 2**clusters <= exact_limit
    if exact:
        swaps = (np.arange(2**clusters)[:, None] >> np.arange(clusters)) & 1
    else:
        swaps = np.random.default_rng(seed).integers(0, 2, (draws, clusters), dtype=np.int8)
    left, right = ours.sum(axis=0), theirs.sum(axis=0)

    def differences(swaps: npt.NDArray[np.integer]) -> Floats:
        moved = np.tensordot(swaps.astype(np.float64), theirs - ours, axes=1)
        means: Floats = (model.form(left + moved) - reference.form(right - moved)).mean(axis=-1)
        return np.abs(means)

    # In parts, or hundreds of networks would take gigabytes.
    parts = math.ceil(swaps.size / clusters * max(clusters, left.size) / VALUES_AT_ONCE)
    sizes = np.concatenate([differences(part) for part in np.array_split(swaps, parts)])
    observed = abs(float((model.form(left) - reference.form(right)).mean()))
    if math.isnan(observed):
        return math.nan
    # An exchange without a value counts as extreme.
    extreme = int(np.sum(~(sizes < observed - ROUNDING * max(1.0, observed))))
    return extreme / len(swaps) if exact else (1 + extreme) / (1 + draws)


def two_level_bootstrap(
    networks: Clustered, *, draws: int = BOOTSTRAP_DRAWS, seed: int = 0, level: float = 1 - ALPHA
) -> tuple[float, float]:
    """Return the percentile interval of the mean over networks: repeats are drawn anew, then frames.

    All repeats are tested on the same frames, so a draw of frames serves every drawn repeat (the pigeonhole bootstrap:
    Owen, Ann. Appl. Stat. 1, 2007). Three repeats are too few to estimate the acceleration of BCa, so this is the
    percentile interval. No bootstrap of three repeats predicts a fourth: where frames matter little, the interval is
    the range of the three and covers the method's mean in three cases out of four.

    Args:
        networks: a model's networks, one per repeat.
        draws: of repeats and frames.
        seed: of the draws.
        level: share of the draws inside.
    """
    terms = _by_content(networks.terms)
    clusters, repeats = terms.shape[:2]
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(repeats, np.full(repeats, 1 / repeats), size=draws) / repeats
    frames = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=draws)
    values = networks.form(np.tensordot(frames.astype(np.float64), terms, axes=1))
    means = np.where(weights > 0, weights * values, 0.0).sum(axis=-1)
    present = means[~np.isnan(means)]
    if not len(present):
        return math.nan, math.nan
    low, high = np.quantile(present, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
