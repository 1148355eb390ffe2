"""Tables differences to a reference model, about methods and about networks."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmark import metrics
from benchmark.metrics.significance import (
    ALPHA,
    EXACT_LIMIT,
    SIGN_FLIPS,
    clusters_needed,
    effects_in_reach,
    least_rank_p,
    least_sign_flip_p,
)
from benchmark.records.method import METHOD
from benchmark.report.read import StudyResults
from benchmark.report.tables import conventions
from benchmark.report.tables.contests import (
    Comparisons,
    Contest,
    PairedComparison,
    contests,
    over_frames,
    over_repeats,
)
from benchmark.report.tables.render import Block, Cell, Column, Row, Table, csv_cell

METHODS = "Methods"
NETWORKS = "These trained networks, not the methods"

Value = str | int | float


@dataclass(frozen=True)
class SignificanceTable:
    """A table with the lines of its CSV file: one per comparison, all its figures side by side."""

    table: Table
    fields: tuple[str, ...]
    lines: tuple[Mapping[str, Value | None], ...] = ()

    def to_csv(self) -> str:
        """Return the CSV file: fractions in [0, 1], nine digits, on which special functions agree everywhere."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.fields, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for line in self.lines:
            cells = {key: f"{cell:.9g}" if isinstance(cell, float) else csv_cell(cell) for key, cell in line.items()}
            writer.writerow(cells)
        return text.getvalue()


_FACTS = ("dataset", "train", "protocol", "test_images", "metric", "reduction", "reference")
_FIGURES = ("difference", "ci95_low", "ci95_high", "p")
_MODEL = ("model", "display", "family", "n")
METHODS_FIELDS = (
    *(*_FACTS, *_MODEL, *_FIGURES, "exploratory_p_below_0.05", "holm_models", "p_holm"),
    *("verdict", "remark"),
)
NETWORKS_FIELDS = (*_FACTS, *_MODEL, "clusters", *_FIGURES, "holm_models", "p_holm", "remark")


def written(study: StudyResults, blocks: Sequence[Block], reference: str = METHOD) -> list[SignificanceTable]:
    """Return ``methods`` and ``networks``, two statements that never share a table, against a reference model.

    Each block of the accuracy table has a block here for mIoU and one for electrical errors.
    """
    rated = contests(study, blocks)
    if not rated:
        return []
    label = conventions.display(reference)[0]
    methods, networks = ([test(contest, reference) for contest in rated] for test in (over_repeats, over_frames))
    folds = ("folds",) if any("folds" in contest.facts for contest in rated) else ()
    about_methods = _table("methods", METHODS, methods, label, _methods_block)
    about_networks = _table("networks", NETWORKS, networks, label, _networks_block)
    return [
        SignificanceTable(about_methods, folds + METHODS_FIELDS, _lines(methods, reference)),
        SignificanceTable(about_networks, folds + NETWORKS_FIELDS, _lines(networks, reference)),
    ]


def _table(
    name: str, title: str, comparisons: list[Comparisons], label: str, block_of: Callable[[Comparisons, str], Block]
) -> Table:
    if all(comparison.absent for comparison in comparisons):
        sentence = f"No table: {label}, which every model is compared with, is not among the models of this study."
        if any(len(comparison.contest.rows) > 1 for comparison in comparisons):
            sentence += " The option 'reference' of report compares with another model."
        return Table(name, title, (Block("none", title, {}, (sentence,), (), ()),))
    blocks = (
        replace(
            block_of(comparison, label),
            key=f"{comparison.contest.key}-{comparison.contest.metric.name}",
            title=f"{title}: {comparison.contest.metric.display} against {label} {comparison.contest.where}",
            facts=comparison.contest.facts,
        )
        for comparison in comparisons
    )
    return Table(name, title, tuple(blocks))


def _lines(comparisons: list[Comparisons], reference: str) -> tuple[Mapping[str, Value | None], ...]:
    """Return all that either CSV file holds; each picks its own fields."""
    lines: list[Mapping[str, Value | None]] = []
    for comparison in comparisons:
        shared = {**comparison.contest.facts, "reference": reference}
        if comparison.why_not:
            lines.append({**shared, "remark": comparison.why_not})
        lines += [
            {
                **shared, "model": pair.row.key, "display": pair.row.label, "family": pair.row.family,
                "n": pair.n, "clusters": comparison.clusters,
                "difference": pair.difference, "ci95_low": pair.low, "ci95_high": pair.high, "p": pair.p,
                "exploratory_p_below_0.05": None if pair.p is None else str(pair.p < ALPHA).lower(),
                "holm_models": len(comparison.tested), "p_holm": pair.p_holm,
                "verdict": pair.verdict(comparison.contest.metric), "remark": pair.remark,
            }
            for pair in comparison.pairs
        ]  # fmt: skip
    return tuple(lines)


def _points(value: float) -> str:
    """Return percentage points with their sign; what rounds to nothing has none."""
    text = f"{100 * value:+.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", "−")


def _cells(pair: PairedComparison) -> dict[str, Cell]:
    cells = {"n": Cell(pair.n, text=str(pair.n))}
    if pair.difference is not None:
        cells["difference"] = Cell(pair.difference, text=_points(pair.difference))
    if pair.low is not None and pair.high is not None:
        cells["interval"] = Cell(math.nan, text=f"[{_points(pair.low)}, {_points(pair.high)}]")
    for key, p in (("p", pair.p), ("p_holm", pair.p_holm)):
        if p is not None:
            cells[key] = Cell(p, text=f"{p:.4f}" if p >= 0.0001 else "<0.0001")
    return cells


def _columns(**titles: str) -> tuple[Column, ...]:
    units = {"difference": "pp", "interval": "pp"}
    return tuple(Column(key, title, higher_is_better=None, unit=units.get(key, "")) for key, title in titles.items())


def _methods_block(comparisons: Comparisons, label: str) -> Block:
    contest = comparisons.contest
    rows = []
    for pair in comparisons.pairs:
        cells = _cells(pair)
        if pair.p is not None and pair.p < ALPHA:
            cells["exploratory"] = Cell(math.nan, text="✓")
        cells["verdict"] = Cell(math.nan, text=pair.verdict(contest.metric))
        rows.append(Row(pair.row.key, pair.row.label, pair.row.family, cells, remark=pair.remark))
    counts = " or ".join(str(n) for n in sorted({pair.n for pair in comparisons.tested}))
    return Block(
        key="", title="", facts={}, rows=tuple(rows),
        conventions=tuple(_methods_conventions(comparisons, label, counts)),
        columns=_columns(
            n="n", difference="Difference", interval="95 % interval", p="p",
            exploratory=f"Exploratory, n={counts}", p_holm="Holm p", verdict="Verdict",
        ),
    )  # fmt: skip


def _methods_conventions(comparisons: Comparisons, label: str, counts: str) -> Iterator[str]:
    if comparisons.why_not:
        yield comparisons.why_not
        return
    family, contest = len(comparisons.tested), comparisons.contest
    n, noun, shared = max(pair.n for pair in comparisons.tested), contest.noun, contest.test_to_training
    effects = effects_in_reach(n, family, test_to_training=shared)
    needed, reached = (f"{factor:.{factor < 10:d}f}" for factor in effects)
    yield (
        f"About the methods: two-sided paired t-test over {noun}s of each model against {label}; {noun}s pair up by "
        "number, n is the number of pairs."
    )
    if shared:
        yield (
            f"Trainings of {contest.facts['folds']} folds share images: the variance of a mean is taken as 1/n + "
            f"{shared:.3g} of that of a difference (Nadeau and Bengio 2003), which widens intervals and raises p."
        )
    yield _difference(contest, label, "mean over the pairs")
    yield (
        f"Holm p: corrected over {_models(family)}; only where it is below {ALPHA} a model is called better or "
        f"worse than {label}."
    )
    yield (
        f"✓: p below {ALPHA} without correction, as the authors tick: exploratory, n={counts}; one of twenty "
        "equal models gets one by chance."
    )
    yield (
        f"What n = {n} can show: large and steady differences only. The least Holm p falls below {ALPHA} where a "
        f"mean difference is at least {needed} times the standard deviation of the differences between "
        f"{noun}s, and does so in four studies out of five where the true one is {reached} times that large. "
        f"A rank or sign-flip test over {n} pairs never falls below p = {least_rank_p(n):.3g}. That no "
        "difference is shown does not say that there is none."
    )
    yield from _origin(contest)


def _networks_block(comparisons: Comparisons, label: str) -> Block:
    rows = (
        Row(pair.row.key, pair.row.label, pair.row.family, _cells(pair), remark=pair.remark)
        for pair in comparisons.pairs
    )
    return Block(
        key="", title="", facts={}, rows=tuple(rows),
        conventions=tuple(_networks_conventions(comparisons, label)),
        columns=_columns(n="Networks", difference="Difference", interval="95 % interval", p="p", p_holm="Holm p"),
    )  # fmt: skip


def _networks_conventions(comparisons: Comparisons, label: str) -> Iterator[str]:
    if comparisons.why_not:
        yield comparisons.why_not
        return
    family, contest, k = len(comparisons.tested), comparisons.contest, comparisons.clusters
    least, needed = least_sign_flip_p(k), clusters_needed(family)
    yield (
        "About these trained networks on images like these: trained again from other seeds, the methods may come out "
        f"the other way round. Each model's networks against those of {label} of the same {contest.noun}s."
    )
    together = "with the images of all folds as one test"
    yield _difference(contest, label, together if contest.noun == "fold" else "mean over the networks")
    yield (
        f"Clusters: the {k} source frames of the test images. Interval: jackknife that leaves out one frame, Student's "
        f"t with {k - 1} degrees of freedom."
    )
    drawn = f"{SIGN_FLIPS:,} random exchanges, (1 + as extreme) / (1 + drawn)"
    how = f"all {2**k:,} exchanges" if 2**k <= EXACT_LIMIT else drawn
    yield f"p: sign-flip permutation, which exchanges both models' results of whole frames; {how}."
    yield (
        f"Holm p: corrected over {_models(family)}. With {k} frames p never falls below {least:.3g}; Holm p can fall "
        f"below {ALPHA} from {needed} frames on" + (", so it cannot here." if k < needed else ".")
    )
    yield from _origin(contest)


def _difference(contest: Contest, label: str, how: str) -> str:
    side = "above" if contest.metric.higher_is_better else "below"
    return (
        f"Difference: {contest.metric.display} of the model minus that of {label}, {how}, in percentage points "
        f"(pp), {side} 0 in the model's favour; its 95 % interval is not corrected."
    )


def _models(family: int) -> str:
    return f"the {family} models of this table" if family > 1 else "the one model of this table, which changes nothing"


def _origin(contest: Contest) -> Iterator[str]:
    yield f"Reduction: {contest.reduction} ({metrics.REDUCTIONS[contest.reduction]})."
    yield f"Test images: {contest.facts['test_images']}."
    everything = (scores for of_model in contest.scores.values() for scores in of_model.values())
    yield from conventions.not_judged(everything, str(contest.facts["dataset"]))
    yield f"Protocol: {contest.facts['protocol']}."
    yield from conventions.stand_ins((str(contest.facts["dataset"]), *str(contest.facts["train"]).split("+")))
