"""Writes the page's summary: trainings, progress, the best networks, and warnings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmark.config.protocol import Protocol
from benchmark.config.targets import dataset_of
from benchmark.data.specs import KNOWN, SUFFIX, known_first
from benchmark.report.page import origin
from benchmark.report.page.grids import printed
from benchmark.report.read import StudyResults
from benchmark.report.tables.conventions import display, in_order, left_out, origins, stand_ins
from benchmark.report.tables.render import Block, Row, Table, noun_of
from benchmark.utils.words import counted

#: Lines of the overview, and names in a sentence.
LINES, NAMES = 24, 30

#: What the comparisons of each kind of work compare.
COMPARED = {"runtimes": "with other runtimes", "int8": "int8 with float32"}
PLAIN_WAY = "with the plain way of most repositories"


@dataclass(frozen=True)
class PrintedScore:
    """A method's mIoU on a dataset, as the accuracy table prints it.

    Attributes:
        label: the method.
        text: the mean.
        aside: its spread.
        bold: whether no other method's is higher.
    """

    label: str
    text: str
    aside: str
    bold: bool


@dataclass(frozen=True)
class Leader:
    """The best methods on a dataset, and the reference model.

    Attributes:
        where: the test dataset, and the training dataset if it is another.
        best: of the networks.
        own: the reference model's score; ``None`` without one.
        rank: its rank; equal printed means share one; 0 if it rests on fewer repeats than others.
        models: how many have a value over as many repeats as any.
        untrained: the best method without training; ``None`` without one.
        beaten: sentences about networks that a method without training beats.
    """

    where: str
    best: PrintedScore
    own: PrintedScore | None
    rank: int
    models: int
    untrained: PrintedScore | None
    beaten: tuple[str, ...]


@dataclass(frozen=True)
class Summary:
    """The content of the summary.

    Attributes:
        warnings: sentences that a reader must know before a number.
        facts: (name, text).
        leaders: best and reference model by dataset.
        more: number of datasets that ``leaders`` leaves out.
        conventions: of the mIoU in it.
        reference: label of the reference model.
    """

    warnings: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    leaders: tuple[Leader, ...]
    more: int
    conventions: str
    reference: str


def summarise(study: StudyResults, accuracy: Table, reference: str) -> Summary:
    """Collect the first statements of the page.

    Args:
        study: the study.
        accuracy: its table; mIoU is read from it.
        reference: name of the model that the others are compared with.
    """
    leaders = [leader for block in accuracy.blocks if (leader := _leader(block, reference)) is not None]
    conventions = ""
    if accuracy.blocks:
        facts = accuracy.blocks[0].facts
        conventions = f"mIoU in percent, {facts['reduction']} reduction, mean ± std over {noun_of(facts)}s (ddof = 1)"
    return Summary(
        tuple(_warnings(study)),
        tuple(_facts(study)),
        tuple(leaders[:LINES]),
        max(len(leaders) - LINES, 0),
        conventions,
        display(reference)[0],
    )


def _leader(block: Block, reference: str) -> Leader | None:
    column = next((column for column in block.columns if column.key == "miou"), None)
    if column is None:
        return None
    scored = [row for row in block.rows if "miou" in row.cells]
    networks = [row for row in scored if row.ranked]
    if not networks:
        return None
    untrained = [row for row in scored if row.family == "reference"]
    compared, _ = block.compared(column)
    values = {row.key: float(column.text(row.cells["miou"].mean)) for row in scored}
    rivals = [row.key for row in compared]

    def mean(row: Row) -> float:
        return row.cells["miou"].mean

    best, own = max(compared, key=mean), next((row for row in networks if row.key == reference), None)
    without = max(untrained, key=mean, default=None)
    highest = max(values[row.key] for row in (best, own, without) if row is not None)

    def printed_score(row: Row) -> PrintedScore:
        cell = row.cells["miou"]
        spread = f"± {column.spread(cell.std)}" if cell.std is not None else "n = 1" if row.ranked else ""
        return PrintedScore(row.label, printed(column, cell), spread, values[row.key] == highest)

    train, test = str(block.facts["train"]), str(block.facts["dataset"])
    where = test if train == dataset_of(test) else f"{test}, trained on {train}"
    return Leader(
        where=where,
        best=printed_score(best),
        own=printed_score(own) if own else None,
        rank=1 + sum(values[key] > values[reference] for key in rivals) if reference in rivals else 0,
        models=len(rivals),
        untrained=printed_score(without) if without else None,
        beaten=tuple(_beaten(where, untrained, networks, values)),
    )


def _beaten(
    where: str, untrained: Sequence[Row], networks: Sequence[Row], values: Mapping[str, float]
) -> Iterator[str]:
    """Name the networks whose printed mIoU is below that of a method without training."""
    for method in untrained:
        below = [row.label for row in networks if values[row.key] < values[method.key]]
        if not below:
            continue
        if len(below) == len(networks):
            losers = f"all {len(networks)} networks" if len(networks) > 1 else f"the one network, {below[0]}"
        else:
            losers = f"{len(below)} of {len(networks)} networks: {', '.join(below[:NAMES])}"
        yield f"On {where}, {method.label} ({values[method.key]:.2f} without any training) beats {losers}."


def _warnings(study: StudyResults) -> Iterator[str]:
    if study.unfinished:
        waiting = Counter(run.state for run in study.unfinished)
        done, total = sum(run.record.status == "ok" for run in study.runs), len(study.runs) + len(study.unfinished)
        states = ", ".join(f"{count} {state}" for state, count in waiting.items())
        yield f"Unfinished: {done} of {counted(total, 'run')} done, {states}. Tables name them below their rows."
    names = _ordered(dataset_of(name) for run in study.runs for name in (*run.record.train, *run.record.test))
    if generated := sum(name.endswith(SUFFIX) for name in names):
        whose = "Its" if generated == 1 else "Their"
        yield f"{' '.join(stand_ins(names))} {whose} images are generated: a ranking on real chips may be another."
    if study.protocol is not None and study.protocol.name == "quick":
        yield (
            "Protocol quick: short trainings on small images and few test images. It is a smoke test; do not compare "
            "its numbers."
        )
    if lost := sum(run.record.status != "ok" for run in study.runs):
        yield f"No numbers came from {lost} of {counted(len(study.runs), 'run')}; see Runs without numbers."
    yield from left_out(study)
    codes = [code for run in study.runs if isinstance(code := run.record.environment.get("code"), dict)]
    if (versions := len({str(code.get("content")) for code in codes})) > 1:
        yield f"The runs were made by {versions} states of the code; see Environment."
    if dirty := sum(code.get("dirty") is True for code in codes):
        yield f"Code with changes that are in no commit made {dirty} of {counted(len(study.runs), 'run')}."


def _ordered(datasets: Iterable[str]) -> list[str]:
    return sorted(set(datasets), key=lambda name: known_first(name, KNOWN))


def _facts(study: StudyResults) -> Iterator[tuple[str, str]]:
    if study.protocol is None or not study.runs:
        settings = {measurement.setting for measurement in study.efficiency}
        models = {measurement.record.model for measurement in study.efficiency}
        models |= {comparison.model for comparison in study.comparisons if comparison.model}
        yield "Models", _listed([display(name)[0] for name in in_order(models)])
        if settings:
            yield "Measured", f"efficiency alone, in {counted(len(settings), 'setting')}"
        what = Counter(COMPARED.get(comparison.what, PLAIN_WAY) for comparison in study.comparisons)
        if what:
            yield "Compared", "; ".join(f"{words}, {counted(times, 'time')}" for words, times in what.items())
        return
    records = [run.record for run in study.runs]
    yield "Models", _listed([display(name)[0] for name in in_order({record.model for record in records})])
    yield "Trained on", _listed(_ordered("+".join(record.train) for record in records))
    if any(set(map(dataset_of, record.test)) - set(record.train) for record in records):
        yield "Tested on", _listed(_ordered(name for record in records for name in record.test))
    done = sum(record.status == "ok" for record in records)
    yield "Runs", f"{done} of {len(records) + len(study.unfinished)} finished"
    lengths = Counter((record.model, record.train) for record in records)
    n = " to ".join(map(str, sorted({min(lengths.values()), max(lengths.values())})))
    if folds := study.protocol.split.folds:
        each = f"each tested on one of {folds} folds and trained without it"
        yield "Folds", f"n = {counted(n, 'training')} per model and dataset, {each}"
    else:
        noun = "training" if n == "1" else "trainings from different seeds"
        yield "Repeats", f"n = {n} {noun} per model and dataset"
    yield "Protocol", " ".join(_protocol(study.protocol, merged=bool(study.sources)))
    trainings = [record.training for record in records if record.training]
    if images := sorted({(training.train_images, training.validation_images) for training in trainings}):
        counts = (f"{train} for training, {validation} for validation" for train, validation in images[:6])
        yield "Images", "; ".join(counts)
    if study.origin:
        yield "Origin", " ".join(study.origin)
    if started := list(origins(study.runs)):
        yield "Weights", " ".join(started)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
    return f"{', '.join(names[:NAMES])}{more}" + (f" ({len(names)})" if len(names) > 2 else "")


def _by_model(own: Mapping[str, float]) -> str:
    return f" ({', '.join(f'{value:g} for {display(name)[0]}' for name, value in own.items())})" * bool(own)


def _protocol(protocol: Protocol, *, merged: bool) -> Iterator[str]:
    training = protocol.training
    length = counted(training.steps, "step") if training.steps else f"at most {counted(training.epochs, 'epoch')}"
    length += _by_model(training.steps_by_model)
    rate = f"{training.lr:g}{_by_model(training.lr_by_model)}"
    patience = (
        f", stopped after {counted(training.patience, 'validation')} without improvement" if training.patience else ""
    )
    yield f"{protocol.name}: {training.optimizer} at {rate}, batch {training.batch}, {length}{patience};"
    sizes = {"": protocol.input.size} | dict(protocol.input.size_by_dataset)
    inputs = ", ".join(f"{size}×{size}{f' for {name}' * bool(name)}" for name, size in sizes.items())
    folds = f" into {protocol.split.folds} folds" * bool(protocol.split.folds)
    yield f"input {inputs}; split by {protocol.split.unit}{folds}."
    changed = origin.settings(protocol, ignored={"repeats"} if merged else set())  # merged studies may differ in it
    if changed:
        yield f"Other than the preset of that name: {'; '.join(changed)}."
