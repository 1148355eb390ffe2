"""Tables accuracy, topology and electrical errors: one block per training set and test dataset."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from benchmark import metrics
from benchmark.config.protocol import Protocol
from benchmark.config.targets import is_own
from benchmark.data.specs import KNOWN, known_first
from benchmark.records.asked_runs import UnfinishedRun
from benchmark.report.read import Run, StudyResults
from benchmark.report.tables.conventions import (
    ENSEMBLE,
    Naming,
    about_ensembles,
    about_scores,
    current_naming,
    display,
    electrical_conventions,
    folds_of,
    in_all_tests,
    in_order,
    left_out,
    metric_column,
    no_logits,
    not_judged,
    noun_under,
    origins,
)
from benchmark.report.tables.render import Block, Cell, Row, Table
from benchmark.utils.words import counted, plural

REFERENCES = {"otsu": "Otsu threshold", "kmeans": "k-means", "background": "All background"}


@dataclass(frozen=True)
class Kind:
    """A table of scores: which metrics it shows, formed how.

    Attributes:
        columns: metrics in their order; those that no method has on a dataset are left out there.
        reduction: ``None`` for the protocol's.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    reduction: metrics.Reduction | None


ACCURACY = Kind("accuracy", "Accuracy", ("miou", "mpa", "dice", "aji", "aji_plus", "fg_iou", "boundary_f1"), None)
TOPOLOGY = Kind("topology", "Topology", ("cldice", "vi_split", "vi_merge", "betti0_error", "betti1_error"), None)
# Counts are summed over images before a rate is formed: a net error rate of an image with two nets means little.
ELECTRICAL = Kind(
    "electrical",
    "Electrical errors",
    (
        *("opens", "shorts", "missed", "false", "net_error_rate", "net_f1"),
        *("via_precision", "via_recall", "via_f1", "via_missed", "via_false"),
        *("connection_error_rate", "vias_stray", "vias_crossed", "vias_lost"),
    ),
    "pooled",
)


def scores(study: StudyResults, kind: Kind) -> Table:
    """Return one block per (training datasets, test dataset), models in the registry's order, references last."""
    # Tables, plots and the page of a report rest on the same one, and of ten thousand runs it takes half a second.
    tables = _TABLES.setdefault(study, {})
    if (key := (kind, current_naming())) not in tables:
        tables[key] = _scores(study, kind)
    return tables[key]


_TABLES: WeakKeyDictionary[StudyResults, dict[tuple[Kind, Naming], Table]] = WeakKeyDictionary()


def _scores(study: StudyResults, kind: Kind) -> Table:
    if study.protocol is None:
        return Table(kind.name, kind.title)
    protocol = study.protocol
    pairs = dict.fromkeys((run.record.train, test) for run in study.runs for test in run.record.test)
    # The data sets' own order; tests on the training's own data come before tests on foreign data.
    ordered = sorted(pairs, key=lambda pair: (not is_own(*pair), known_first(pair[1], KNOWN), pair))
    blocks = (_score_block(study, protocol, kind, *pair) for pair in ordered)
    return Table(kind.name, kind.title, tuple(block for block in blocks if block.columns))


def _score_block(study: StudyResults, protocol: Protocol, kind: Kind, train: tuple[str, ...], test: str) -> Block:
    reduction = kind.reduction or protocol.report.reduction
    runs: dict[str, list[Run]] = {}
    for run in study.runs:
        if run.record.train == train and test in run.record.test:
            runs.setdefault(run.record.model, []).append(run)
    unfinished: dict[str, list[UnfinishedRun]] = {}
    for waiting in study.unfinished:
        if waiting.train == train and test in waiting.test:
            unfinished.setdefault(waiting.model, []).append(waiting)
    rows: list[Row] = []
    for name in in_order({*runs, *unfinished}):
        rows.append(_model_row(name, runs.get(name, []), unfinished.get(name, []), test, kind, reduction, protocol))
        rows += _ensemble_row(study, train, name, runs.get(name, []), test, kind, reduction)
    n = max((cell.n for row in rows for cell in row.cells.values()), default=0)
    methods = study.references.get(test, {})
    for method in sorted(methods, key=lambda method: known_first(method, REFERENCES)):
        cells = _cells((counts.reduced[reduction] for counts in methods[method]), kind.columns)
        rows.append(Row(method, REFERENCES.get(method, method), "reference", cells, ranked=False))
    trained, tested = "+".join(train), _test_images(runs, test, protocol)
    shown = {name for row in rows for name in row.cells}
    names = [name for name in kind.columns if name in shown]
    if kind is ACCURACY and not names:  # an empty table would not say what is missing
        names = list(kind.columns)
    tests = [run for of_model in runs.values() for run in of_model if test in run.scores]
    everything = [(run.record.repeat, run.scores[test]) for run in tests]
    return Block(
        key=test if is_own(train, test) else f"{trained}-on-{test}",
        title=f"{kind.title} on {test}" + ("" if is_own(train, test) else f" after training on {trained}"),
        facts={"dataset": test, "train": trained, "protocol": protocol.name, "reduction": reduction}
        | {"ddof": 1, "test_images": tested, **folds_of(protocol)},
        conventions=(
            *about_scores(protocol, (reduction,), (test, *train), n, tested),
            *not_judged((scores for _, scores in everything), test),
            *about_ensembles(rows),
            *origins(run for of_model in runs.values() for run in of_model),
            *left_out(study),
            *no_logits(run for of_model in runs.values() for run in of_model),
            *(electrical_conventions(protocol, everything) if kind is ELECTRICAL else ()),
        ),
        columns=tuple(metric_column(metrics.METRICS[name]) for name in names),
        rows=tuple(rows),
        n=n,
    )


def _test_images(runs: dict[str, list[Run]], test: str, protocol: Protocol) -> str:
    """Say on how many images the figures rest: a number, several joined by "or", or "no" where no run has finished."""
    finished = [run for of_model in runs.values() for run in of_model if run.record.status == "ok"]
    counts = ((run.record.repeat, run.scores[test].judged if test in run.scores else 0) for run in finished)
    return in_all_tests(counts, noun_under(protocol)) or "no"


def _model_row(
    name: str, runs: list[Run], unfinished: list[UnfinishedRun], test: str, kind: Kind, reduction: metrics.Reduction,
    protocol: Protocol,
) -> Row:  # fmt: skip
    cells = _cells((run.scores[test].reduced[reduction] for run in runs if test in run.scores), kind.columns)
    missing: dict[str, list[int]] = {}
    for waiting in unfinished:
        missing.setdefault(waiting.state, []).append(waiting.repeat)
    for run in runs:
        if test not in run.scores:
            missing.setdefault(_why_missing(run, test), []).append(run.record.repeat)
    noun = noun_under(protocol)
    remarks = [f"{plural(len(n), noun)} {', '.join(map(str, sorted(n)))} {why}" for why, n in missing.items()]
    if unfinished:
        done = sum(run.record.status == "ok" for run in runs)
        remarks.insert(0, f"{done} of {counted(len(runs) + len(unfinished), noun)} done")
    return Row(name, *display(name), cells, remark="; ".join((*remarks, *_copies(runs, test))))


def _ensemble_row(
    study: StudyResults, train: tuple[str, ...], model: str, runs: Sequence[Run], test: str, kind: Kind,
    reduction: metrics.Reduction,
) -> Iterator[Row]:  # fmt: skip
    """Yield the row of a network's ensemble, if one was tested or asked for."""
    (label, family), cells = display(model), {}
    if tested := study.ensemble_of("+".join(train), model, test):
        repeats = [member.repeat for member in tested.record.members]
        label += f" (ensemble of {len(repeats)})"
        cells = _cells([tested.scores.reduced[reduction]], kind.columns)
        others = {run.record.repeat for run in runs} - {*repeats}
        remark = f"of repeats {', '.join(map(str, repeats))}" if others else ""
    elif (train, model) in study.asked_ensembles and not _has_no_images(runs, test):
        label += " (ensemble)"
        failed = [str(run.record.repeat) for run in runs if run.record.status == "failed"]
        reason = f"{plural(len(failed), 'repeat')} {', '.join(failed)} failed"
        remark = f"none, since {reason}" if failed else "not tested yet"
    else:
        return
    yield Row(f"{model}{ENSEMBLE}", label, family, cells, ranked=False, remark=remark)


def _has_no_images(runs: Sequence[Run], test: str) -> bool:
    return any(run.record.status == "ok" and test not in run.scores for run in runs)


def _copies(runs: Sequence[Run], test: str) -> Iterator[str]:
    """Name the repeats that predicted the same number of right and wrong pixels in every image, so without a spread."""
    alike: dict[tuple[object, ...], list[int]] = {}
    for run in runs:
        if (scores := run.scores.get(test)) is not None and scores.judged:
            counts = (tuple(scores.columns[name].tolist()) for name in metrics.PIXELS if name in scores.columns)
            alike.setdefault((scores.images, *counts), []).append(run.record.repeat)
    for repeats in alike.values():
        if len(repeats) > 1:
            yield (
                f"repeats {', '.join(map(str, sorted(repeats)))} have equal counts in every image, and so a std of 0 "
                "between them: copies of one run, or networks that predict nothing"
            )


def _cells(figures: Iterable[Mapping[str, float]], names: Sequence[str]) -> dict[str, Cell]:
    by_run = list(figures)
    return {name: cell for name in names if (cell := Cell.over(run[name] for run in by_run if name in run))}


def _why_missing(run: Run, test: str) -> str:
    record = run.record
    if record.status == "ok":
        return f"had no test images of {test}"
    if record.failure is None:
        return record.status
    return f"{record.status} ({record.failure.kind}): {record.failure.message}"
