"""Says below a table how its figures were formed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass

from benchmark import metrics
from benchmark.config import registry
from benchmark.config.protocol import Protocol
from benchmark.config.registry import ModelEntry
from benchmark.config.targets import dataset_of, layer_of
from benchmark.data.specs import KNOWN, SUFFIX, known_first
from benchmark.evaluation.counts import describe_net_limits
from benchmark.records.method import METHOD
from benchmark.records.run_record import BOUNDED, BOUNDED_MEANS
from benchmark.report.read import Run, StudyResults
from benchmark.report.scores import Scores
from benchmark.report.tables.render import Column, Row, noun_of
from benchmark.utils.words import counted


def metric_column(metric: metrics.Metric) -> Column:
    """Return how tables print a metric."""
    scale, digits, unit = {"fraction": (100.0, 2, "%"), "count": (1.0, 1, ""), "bits": (1.0, 4, "bits")}[metric.unit]
    return Column(metric.name, metric.display, metric.higher_is_better, scale, digits, unit)


#: Ends the key of the row of a network's ensemble; no name of a network has a plus sign.
ENSEMBLE = "+ensemble"
#: Marks of cells: those of scores, and those of measurements.
MARKS = "Bold: best, underlined: second, among trained models, by the printed mean; equal means share a mark."
VALUE_MARKS = "Bold: best, underlined: second, by the printed value; equal values share a mark."


def about_scores(
    protocol: Protocol, reductions: Sequence[metrics.Reduction], datasets: Iterable[str], n: int, test_images: str = ""
) -> Iterator[str]:
    """Say how the scores of a block were formed."""
    nothing = "No test images to judge: trained, not tested." if test_images == "0" else "No run has finished."
    yield nothing if n == 0 else over_repeats(n, protocol)
    yield from cross_validation(protocol)
    if reductions:
        yield f"Reduction: {', '.join(f'{name} ({metrics.REDUCTIONS[name]})' for name in reductions)}."
    if test_images:
        yield f"Test images: {test_images}."
    yield f"Protocol: {protocol.name}."
    yield MARKS
    yield from stand_ins(datasets)


def no_logits(runs: Iterable[Run]) -> Iterator[str]:
    """Name the networks whose outputs were no logits."""
    models = dict.fromkeys(run.record.model for run in runs if run.record.environment.get(BOUNDED))
    if models:
        yield f"{', '.join(models)}: {BOUNDED_MEANS}."


def not_judged(scores: Iterable[Scores], test: str) -> Iterator[str]:
    """Say how much of a test is unlabelled, how many of its images gave no value, and where to see which."""
    scores = list(scores)
    unlabelled, *labelled = (
        sum(test_scores.sums.get(name, 0) for test_scores in scores) for name in ("ignored", "tp", "fp", "fn", "tn")
    )
    if unlabelled:
        pixels = unlabelled + sum(labelled)
        yield f"Unlabelled, and so not counted: {100 * unlabelled / pixels:.1f} % of the pixels of the test images."
    if blank := sorted({len(test_scores.images) - test_scores.judged for test_scores in scores} - {0}):
        images = counted(" or ".join(map(str, blank)), "more test image")
        yield (
            f"Without a counted pixel, and so without any value: {images} "
            f"(their ratios are blank in images.{test}.csv)."
        )


def over_repeats(n: int, protocol: Protocol) -> str:
    """Say what a mean over so many repeats, or folds, stands beside."""
    noun, folds = noun_under(protocol), protocol.split.folds or 0
    of = f"{n} of {folds}" if n < folds else f"{n}"
    return f"Mean ± std over n = {of} {noun}s (std with ddof = 1)." if n > 1 else f"n = 1 {noun}, so no std."


def other_counts(counts: Mapping[str, int], n: int) -> str:
    """Return the names with another number of repeats than ``n``, to stand behind it; blank without any.

    Example:
        >>> "n = 3" + other_counts({"UNet": 1, "EDANet": 3, "FCN": 1}, 3)
        'n = 3; n = 1: UNet, FCN'
    """
    names: dict[int, list[str]] = {}
    for name, count in counts.items():
        if count != n:
            names.setdefault(count, []).append(name)
    return "".join(f"; n = {count}: {', '.join(of)}" for count, of in names.items())


def folds_of(protocol: Protocol | None) -> dict[str, int]:
    """Return the fact that a study is a cross-validation, as blocks hold it; nothing for another study."""
    return {"folds": protocol.split.folds} if protocol is not None and protocol.split.folds else {}


def noun_under(protocol: Protocol | None) -> str:
    """Return what a study's figures are means over: repeats or, in a cross-validation, folds."""
    return noun_of(folds_of(protocol))


def cross_validation(protocol: Protocol) -> Iterator[str]:
    """Say what folds are; nothing without folds."""
    if folds := protocol.split.folds:
        yield f"Cross-validation: each of {folds} folds of the images is the test of networks trained without it."


def in_all_tests(counts: Iterable[tuple[int, int]], noun: str) -> str:
    """Return a number that the test images alone decide, from that of every run: of all folds together.

    Without folds, all runs should have the same, and several are joined by "or"; blank without runs.

    Args:
        counts: (repeat, number) of each run.
        noun: what figures are means over, as :func:`~benchmark.report.tables.render.noun_of` returns it.
    """
    counts = list(counts)
    if noun == "fold" and counts:
        return str(sum(dict(counts).values()))
    return " or ".join(map(str, sorted({count for _, count in counts})))


def stand_ins(datasets: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each dataset that is a layer, or synthetic: a known stand-in, or drawn from a layout."""
    tests = list(dict.fromkeys(datasets))
    for test in tests:
        if layer := layer_of(test):
            yield f"{test} is the layer {layer} of {dataset_of(test)}."
    for name in dict.fromkeys(map(dataset_of, tests)):
        base = name.removesuffix(SUFFIX)
        if name != base:
            # An unknown one is a layout, or a known one under the name that a redacted report gives it.
            description = "the synthetic stand-in for" if base in KNOWN else "synthetic, drawn in place of"
            yield f"{name} is {description} {base}."


def origins(runs: Iterable[Run]) -> Iterator[str]:
    """Say which given weights the runs started from."""
    for source in sorted({run.record.init.source for run in runs if run.record.init}):
        yield f"Fine-tuned: training started from the weights of {source}."


def left_out(study: StudyResults) -> Iterator[str]:
    """Name the runs that are missing because their records cannot be read, and rows that are not of the runs."""
    if study.broken:
        yield f"Left out, since their records are broken: {', '.join(broken.run for broken in study.broken)}."
    if study.broken_ensembles:
        yield f"Left out: {' '.join(f'{reason}.' for reason in study.broken_ensembles)}"
    if study.strangers:
        yield f"Left out, since they do not belong to these runs: {', '.join(study.strangers)}."


def about_ensembles(rows: Iterable[Row]) -> Iterator[str]:
    """Say what the rows of ensembles are."""
    if any(row.key.endswith(ENSEMBLE) for row in rows):
        yield (
            "Ensemble of n: the network's n repeats, whose probabilities are averaged before the threshold; a single "
            "test, so no std and no mark, at the cost of n forwards."
        )


def electrical_conventions(protocol: Protocol, scores: Sequence[tuple[int, Scores]]) -> Iterator[str]:
    """Say what counts as a net or a via, and how many true ones there are; ``scores`` have their repeats."""
    yield describe_net_limits(protocol.evaluation, (score.behaviour for _, score in scores))
    for column, label in (("nets", "Interior nets"), ("via_true", "True vias")):
        sums = ((repeat, score.sums[column]) for repeat, score in scores if column in score.sums)
        if total := in_all_tests(sums, noun_under(protocol)):
            yield f"{label} in all test images: {total}."


@dataclass(frozen=True)
class Naming:
    """The users' networks of a report, and the model that it is about."""

    networks: tuple[ModelEntry, ...] = ()
    method: str = METHOD


NO_NAMING = Naming()
_NAMING: ContextVar[Naming] = ContextVar("naming", default=NO_NAMING)


@contextlib.contextmanager
def naming(networks: Iterable[ModelEntry], method: str = METHOD) -> Iterator[None]:
    """Let tables, plots and pages that are made meanwhile name a study's own networks, and lead with its method."""
    token = _NAMING.set(Naming(tuple(networks), method))
    try:
        yield
    finally:
        _NAMING.reset(token)


def current_naming() -> Naming:
    """Return how the report that is being made names networks."""
    return _NAMING.get()


def users_networks() -> tuple[ModelEntry, ...]:
    """Return the users' networks of the report that is being made."""
    return _NAMING.get().networks


def entry_of(model: str) -> ModelEntry | None:
    """Return the facts about a network; ``None`` for a user's network known only to its records."""
    return registry.find(model) or next((entry for entry in users_networks() if entry.name == model), None)


def display(model: str) -> tuple[str, str]:
    """Return a model's name for readers and its family; a user's network known only to its records keeps its name."""
    entry, method = entry_of(model), _NAMING.get().method
    label, family = (entry.display, entry.group or entry.family) if entry else (model, "user")
    if model == method:
        family = "ours"
    elif family == "ours" and not method.startswith(METHOD):  # another method is under test
        family = "lightweight"
    return label, family


def in_order(models: Iterable[str]) -> list[str]:
    """Sort model names as the registry does, the method under test first; unknown ones follow by name.

    A network's ensemble keeps its place behind the network.
    """
    known = list(dict.fromkeys([_NAMING.get().method, *registry.models()]))
    return sorted(models, key=lambda name: known_first(name.removesuffix(ENSEMBLE), known))
