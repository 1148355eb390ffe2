"""The tables of a study: accuracy and electrical errors per dataset, efficiency per device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from benchmark import metrics
from benchmark.config import registry
from benchmark.config.protocol import Protocol
from benchmark.data.specs import KNOWN, SUFFIX, known_first
from benchmark.evaluation import counts as scoring
from benchmark.records.efficiency_record import ENERGY_SECONDS
from benchmark.records.run_record import BOUNDED, BOUNDED_MEANS
from benchmark.report.read import Measurement, Run, Scores, Setting, Study
from benchmark.report.tables.render import HINDERED, Block, Cell, Column, Row, Table

REFERENCES = {"otsu": "Otsu threshold", "kmeans": "k-means", "background": "All background"}


@dataclass(frozen=True)
class Kind:
    """A table of scores: which metrics it shows, formed how.

    Attributes:
        name: of the table's files.
        title: of the table and its blocks.
        columns: metrics in their order; those that no method has on a dataset are left out there.
        reduction: ``None`` for the protocol's.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    reduction: metrics.Reduction | None


ACCURACY = Kind("accuracy", "Accuracy", ("miou", "mpa", "dice", "aji", "aji_plus", "fg_iou"), None)
TOPOLOGY = Kind("topology", "Topology", ("cldice", "vi_split", "vi_merge"), None)
# Counts are summed over images before a rate is formed: a net error rate of an image with two nets means little.
ELECTRICAL = Kind(
    "electrical",
    "Electrical errors",
    (
        *("opens", "shorts", "missed", "false", "net_error_rate", "net_f1"),
        *("via_precision", "via_recall", "via_f1", "via_missed", "via_false"),
    ),
    "pooled",
)


def scores(study: Study, kind: Kind) -> Table:
    """Return one block per (training datasets, test dataset), models in the registry's order, references last."""
    if study.protocol is None:
        return Table(kind.name, kind.title)
    protocol = study.protocol
    pairs = dict.fromkeys((run.record.train, test) for run in study.runs for test in run.record.test)
    # The data sets' own order; tests on the training's own data come before tests on foreign data.
    ordered = sorted(pairs, key=lambda pair: (pair[0] != (pair[1],), known_first(pair[1], KNOWN), pair))
    blocks = (_score_block(study, protocol, kind, *pair) for pair in ordered)
    return Table(kind.name, kind.title, tuple(block for block in blocks if block.columns))


def _score_block(study: Study, protocol: Protocol, kind: Kind, train: tuple[str, ...], test: str) -> Block:
    reduction = kind.reduction or protocol.report.reduction
    runs: dict[str, list[Run]] = {}
    for run in study.runs:
        if run.record.train == train and test in run.record.test:
            runs.setdefault(run.record.model, []).append(run)
    rows = [_model_row(name, runs[name], test, kind, reduction) for name in in_order(runs)]
    n = max((cell.n for row in rows for cell in row.cells.values()), default=0)
    methods = study.references.get(test, {})
    for method in sorted(methods, key=lambda method: known_first(method, REFERENCES)):
        cells = _cells([found.reduced[reduction] for found in methods[method]], kind.columns)
        rows.append(Row(method, REFERENCES.get(method, method), "reference", cells, ranked=False))
    trained, tested = "+".join(train), _test_images(runs, test)
    shown = {name for row in rows for name in row.cells}
    # Accuracy keeps its columns where no run has finished: an empty table would not say what is missing.
    names = [name for name in kind.columns if name in shown or kind is ACCURACY]
    everything = [run.scores[test] for of_model in runs.values() for run in of_model if test in run.scores]
    return Block(
        key=test if train == (test,) else f"{trained}-on-{test}",
        title=f"{kind.title} on {test}" + ("" if train == (test,) else f" after training on {trained}"),
        facts={
            "dataset": test,
            "train": trained,
            "protocol": protocol.name,
            "reduction": reduction,
            "ddof": 1,
            "test_images": tested,
        },
        conventions=(
            *conventions(protocol, (reduction,), train, test, n, tested),
            *nothing_to_judge(everything, test),
            *origins(run for of_model in runs.values() for run in of_model),
            *left_out(study),
            *no_logits(run for of_model in runs.values() for run in of_model),
            *(electrical_conventions(protocol, everything) if kind is ELECTRICAL else ()),
        ),
        columns=tuple(column(metrics.METRICS[name]) for name in names),
        rows=tuple(rows),
        n=n,
    )


def column(metric: metrics.Metric) -> Column:
    """Return how tables print a metric."""
    scale, digits, unit = {"fraction": (100.0, 2, "%"), "count": (1.0, 1, ""), "bits": (1.0, 4, "bits")}[metric.unit]
    return Column(metric.name, metric.display, metric.higher_is_better, scale, digits, unit)


def _test_images(runs: dict[str, list[Run]], test: str) -> str:
    """Say on how many images the figures rest: a number, several joined by "or", or "no" where no run has finished."""
    finished = [run for of_model in runs.values() for run in of_model if run.record.status == "ok"]
    counts = {run.scores[test].judged if test in run.scores else 0 for run in finished}
    return " or ".join(map(str, sorted(counts))) or "no"


#: How cells are marked.
MARKS = "Bold: best, underlined: second, among trained models, by the printed mean; equal means share a mark."


def conventions(
    protocol: Protocol,
    reductions: Sequence[metrics.Reduction],
    train: Sequence[str],
    test: str,
    n: int,
    test_images: str,
) -> Iterator[str]:
    """Say how the scores of a block were formed."""
    nothing = "No test images to judge: trained, not tested." if test_images == "0" else "No run has finished."
    yield nothing if n == 0 else over_repeats(n)
    if reductions:
        yield f"Reduction: {', '.join(f'{name} ({metrics.REDUCTIONS[name]})' for name in reductions)}."
    yield f"Test images: {test_images}."
    yield f"Protocol: {protocol.name}."
    yield MARKS
    yield from stand_ins((test, *train))


def no_logits(runs: Iterable[Run]) -> Iterator[str]:
    """Name the networks whose outputs were no logits."""
    models = dict.fromkeys(run.record.model for run in runs if run.record.environment.get(BOUNDED))
    if models:
        yield f"{', '.join(models)}: {BOUNDED_MEANS}."


def nothing_to_judge(scores: Iterable[Scores], test: str) -> Iterator[str]:
    """Say how many images of a test gave no value, and where to see which; nothing where all of them gave one."""
    found = sorted({len(one.images) - one.judged for one in scores} - {0})
    if found:
        yield (
            f"Without a counted pixel, and so without any value: {' or '.join(map(str, found))} more test images "
            f"(their ratios are blank in images.{test}.csv)."
        )


def over_repeats(n: int) -> str:
    """Say what a mean over so many repeats stands beside."""
    return f"Mean ± std over n = {n} repeats (std with ddof = 1)." if n > 1 else "n = 1 repeat, so no std."


def stand_ins(datasets: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each dataset that stands in for another, or whose images are drawn from a layout."""
    for name in dict.fromkeys(datasets):
        base = name.removesuffix(SUFFIX)
        if name != base:
            what = f"the synthetic stand-in for {base}" if base in KNOWN else f"synthetic, drawn from the layout {base}"
            yield f"{name} is {what}."


def origins(runs: Iterable[Run]) -> Iterator[str]:
    """Say which weights of other studies the runs started from."""
    found = {(init.study, "+".join(init.train)) for run in runs if (init := run.record.init)}
    for study, train in sorted(found):
        yield f"Fine-tuned: training started from the weights of study {study}, trained on {train}."


def left_out(study: Study) -> Iterator[str]:
    """Name the runs that are missing because their records cannot be read, and rows that are not of the runs."""
    if study.broken:
        yield f"Left out, since their records are broken: {', '.join(broken.run for broken in study.broken)}."
    if study.strangers:
        yield f"Left out, since they do not belong to these runs: {', '.join(study.strangers)}."


def electrical_conventions(protocol: Protocol, scores: Sequence[Scores]) -> Iterator[str]:
    """Say what counts as a net or a via, and how many true ones there are."""
    yield scoring.limits_of_nets(protocol.evaluation, (score.behaviour for score in scores))
    for column, what in (("nets", "Interior nets"), ("via_true", "True vias")):
        found = sorted({score.sums[column] for score in scores if column in score.sums})
        if found:
            yield f"{what} in all test images: {' or '.join(map(str, found))}."


def _model_row(name: str, runs: list[Run], test: str, kind: Kind, reduction: metrics.Reduction) -> Row:
    cells = _cells([run.scores[test].reduced[reduction] for run in runs if test in run.scores], kind.columns)
    missing: dict[str, list[int]] = {}
    for run in runs:
        if test not in run.scores:
            missing.setdefault(_why_missing(run, test), []).append(run.record.repeat)
    remarks = [
        f"repeat{'s' * (len(repeats) > 1)} {', '.join(map(str, sorted(repeats)))} {why}"
        for why, repeats in missing.items()
    ]
    return Row(name, *display(name), cells, remark="; ".join((*remarks, *_copies(runs, test))))


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


def _cells(figures: Sequence[Mapping[str, float]], names: Sequence[str]) -> dict[str, Cell]:
    cells = {name: Cell.over(values[name] for values in figures if name in values) for name in names}
    return {name: cell for name, cell in cells.items() if cell is not None}


def _why_missing(run: Run, test: str) -> str:
    record = run.record
    if record.status == "ok":
        return f"had no test images of {test}"
    if record.failure is None:
        return record.status
    return f"{record.status} ({record.failure.kind}): {record.failure.message}"


def display(model: str) -> tuple[str, str]:
    """Return a model's name for readers and its family; a user's network known only to its records keeps its name."""
    entry = registry.models().get(model)
    return (entry.display, entry.family) if entry else (model, "user")


def in_order(models: Iterable[str]) -> list[str]:
    """Sort model names as the registry does; unknown ones follow by name."""
    known = registry.models()
    return sorted(models, key=lambda name: known_first(name, known))


UNUSED_NAMES = 3  # of parameters, in a remark; the file of the measurement has all
EFFICIENCY = (
    Column("params", "Params", higher_is_better=False, scale=1e-6, digits=3, unit="M"),
    Column("unused_params", "Unused", higher_is_better=None, scale=1e-6, digits=3, unit="M"),
    Column("macs", "MACs", higher_is_better=False, scale=1e-9, digits=3, unit="G"),
    Column("flops", "FLOPs", higher_is_better=False, scale=1e-9, digits=3, unit="G"),
    Column("latency_p50_ms", "p50", higher_is_better=False, digits=2, unit="ms"),
    Column("latency_p90_ms", "p90", higher_is_better=False, digits=2, unit="ms"),
    Column("latency_p99_ms", "p99", higher_is_better=False, digits=2, unit="ms"),
    Column("fps", "FPS", higher_is_better=True, digits=1),
    Column("images_per_second", "Images/s", higher_is_better=True, digits=1),
    Column("images_per_second_batch", "Batch", higher_is_better=None, digits=0),
    Column("forward_peak_bytes", "Forward", higher_is_better=False, scale=2**-20, digits=1, unit="MiB"),
    Column("train_step_peak_bytes", "Step", higher_is_better=False, scale=2**-20, digits=1, unit="MiB"),
    Column("energy_j_per_image", "Energy", higher_is_better=False, digits=3, unit="J"),
    Column("energy_j_per_image_batch", "Energy at Batch", higher_is_better=False, digits=3, unit="J"),
)

#: Those that tell of everything that the device did while they were taken.
TIMED = frozenset(
    {
        *("latency_p50_ms", "latency_p90_ms", "latency_p99_ms", "fps", "images_per_second", "images_per_second_batch"),
        *("energy_j_per_image", "energy_j_per_image_batch"),
    }
)


def cost(measured: Measurement, figure: str) -> Cell:
    """Return the cell of a figure, marked where it was taken while something else had the device."""
    return Cell(measured.figures[figure], hindered=measured.hindered and figure in TIMED)


def about_hindered(found: Iterable[Measurement]) -> Iterator[str]:
    """Say what the mark of hindered figures means, where there are any."""
    if any(measured.hindered for measured in found):
        yield f"{HINDERED}: taken while something else had the device, as said below the table; never ranked."


def efficiency(study: Study) -> Table:
    """Return one block per setting: figures of another device, input, number format or thread count share no column."""
    settings = sorted({found.setting for found in study.efficiency})
    return Table("efficiency", "Efficiency", tuple(_efficiency_block(study, setting) for setting in settings))


def _efficiency_block(study: Study, setting: Setting) -> Block:
    found = {measured.record.model: measured for measured in study.efficiency if measured.setting == setting}
    shown = {key for measured in found.values() for key in measured.figures}
    return Block(
        key=setting.key,
        title=f"Efficiency at {setting.size} on {setting.describe()}",
        facts=setting.facts,
        conventions=(
            *efficiency_conventions(list(found.values()), setting, shown),
            "Bold: best, underlined: second, by the printed value; equal values share a mark.",
        ),
        columns=tuple(column for column in EFFICIENCY if column.key in shown),
        rows=tuple(
            Row(
                name,
                *display(name),
                {key: cost(found[name], key) for key in found[name].figures},
                remark="; ".join((*_unused(found[name]), *found[name].warnings)),
            )
            for name in in_order(found)
        ),
    )


def _unused(measured: Measurement) -> Iterator[str]:
    if names := list(measured.record.unused_params):
        more = f" and {len(names) - UNUSED_NAMES} more" if len(names) > UNUSED_NAMES else ""
        yield f"never take part in the forward pass: {', '.join(names[:UNUSED_NAMES])}{more}"


def efficiency_conventions(found: Sequence[Measurement], setting: Setting, shown: Set[str]) -> Iterator[str]:
    """Say what the shown efficiency figures are."""
    if "params" in shown:
        unused = "; Unused: those that it never does" if "unused_params" in shown else ""
        yield f"Params: trainable parameters that the forward pass reaches{unused}."
    if shown & {"macs", "flops"}:
        flops = "; FLOPs = 2 × MACs" if "flops" in shown else ""
        yield (
            "MACs: multiply-accumulates of convolutions, linear layers, matrix products and attention for one image"
            f"{flops}."
        )
    if shown & {"latency_p50_ms", "latency_p90_ms", "latency_p99_ms"}:
        yield "p50, p90, p99: percentiles of the latency at batch 1; FPS = 1000 / p50."
    elif "fps" in shown:
        yield "FPS = 1000 / median latency in ms at batch 1."
    if "images_per_second" in shown:
        yield "Images/s: throughput at the best Batch."
    if shown & {"forward_peak_bytes", "train_step_peak_bytes"}:
        for method in sorted({measured.record.memory.method for measured in found if measured.record.memory}):
            yield f"Memory of one forward pass and of one training step at batch 1: {method}."
    if energy := [
        what
        for key, what in (("energy_j_per_image", "at batch 1"), ("energy_j_per_image_batch", "at the best Batch"))
        if key in shown
    ]:
        yield (
            f"Energy: joules per image {' and '.join(energy)}, of the whole GPU, idle power included, over at least "
            f"{ENERGY_SECONDS:g} s."
        )
    if setting.precision:
        yield f"float32 kernels: {setting.precision}."
    if shown & TIMED:
        yield from about_hindered(found)
    yield setting.remainder
