"""Tables time and errors of networks in int8 beside float32: a block per test."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from benchmark import metrics
from benchmark.records.speedup_record import ComparedWork, SpeedupComparison
from benchmark.report.read import StudyResults
from benchmark.report.tables.conventions import display, metric_column, stand_ins
from benchmark.report.tables.render import HINDERED, Block, Cell, Column, Row, Table
from benchmark.report.tables.speedup_table import groups, made_with
from benchmark.utils.words import counted

#: Metrics of both ways with the reduction of each: errors are summed over the test images.
SHOWN: tuple[tuple[str, metrics.Reduction], ...] = (
    *(("miou", "image"), ("opens", "pooled"), ("shorts", "pooled"), ("via_f1", "pooled")),
)
WAYS = {"plain": "float32", "ours": "int8"}


KINDS: tuple[ComparedWork, ...] = ("int8",)


def table(study: StudyResults) -> Table:
    """Return one block per size, study and test; empty without such comparisons."""
    grouped = groups(study.comparisons, KINDS)
    tests = ((group, test) for group in grouped for test in dict.fromkeys(test for one in group for test in one.scores))
    blocks = tuple(_block([one for one in group if test in one.scores], test) for group, test in tests)
    return Table("int8", "Networks in int8", blocks)


def _block(comparisons: Sequence[SpeedupComparison], test: str) -> Block:
    first = comparisons[0]
    columns = [Column(f"{way}/ms", "Time", None, 1.0, 1, "ms", group) for way, group in WAYS.items()]
    columns.append(Column("ratio", "Times faster", None))
    for name, reduction in SHOWN:
        if any(name in values[reduction] for one in comparisons for values in one.scores[test].values()):
            column = metric_column(metrics.METRICS[name])
            digits = 0 if metrics.METRICS[name].unit == "count" else column.digits  # sums over one run's images
            columns += [
                Column(f"{way}/{name}", column.title, None, column.scale, digits, column.unit, group)
                for way, group in WAYS.items()
            ]
    columns.sort(key=lambda column: [*WAYS.values(), ""].index(column.group))
    facts = {"what": first.what, "study": first.study or "", "test": test, "size": first.size or ""}
    facts |= {"device": first.device_name, "threads": first.threads, "torch": first.torch}
    return Block(
        key="-".join(str(value) for value in facts.values() if value),
        title=f"int8 beside float32, study {first.study}, tested on {test}, {first.size}×{first.size}, batch 1, on "
        f"{first.device_name}, {counted(first.threads, 'thread')}",
        facts=facts,
        conventions=tuple(_conventions(comparisons, test)),
        columns=tuple(columns),
        rows=tuple(_row(comparison, test) for comparison in comparisons),
    )


def _row(comparison: SpeedupComparison, test: str) -> Row:
    hindered = bool(comparison.hindered)
    slow, fast = (statistics.median(values) for values in (comparison.plain, comparison.ours))
    cells = {
        "plain/ms": Cell(slow, hindered=hindered),
        "ours/ms": Cell(fast, hindered=hindered),
        "ratio": Cell(slow / fast, hindered=hindered),
    }
    for way, by_reduction in comparison.scores[test].items():
        cells |= {f"{way}/{name}": Cell(by_reduction[of][name]) for name, of in SHOWN if name in by_reduction[of]}
    assert comparison.model is not None
    remark = "; ".join((*comparison.hindered, *comparison.warnings))
    return Row(comparison.model, *display(comparison.model), cells, ranked=False, remark=remark)


def _conventions(comparisons: Sequence[SpeedupComparison], test: str) -> Iterator[str]:
    first = comparisons[0]
    yield f"float32: {first.plain_form}."
    yield f"int8: {first.our_form}."
    least = min(len(comparison.ours) for comparison in comparisons)
    yield f"Medians of at least {counted(least, 'forward')} of one image, taken in turn in one process."
    yield "mIoU: mean over test images; opens and shorts: sums over them, counted as in the test of a run."
    if any(comparison.hindered for comparison in comparisons):
        yield f"{HINDERED}: taken while something else had the device, as said below the table."
    yield from stand_ins((test,))
    yield from made_with(comparisons)
