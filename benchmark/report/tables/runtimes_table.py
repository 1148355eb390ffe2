"""Tables forwards of predict beside those of other runtimes: a block per size."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

from benchmark.records.speedup_record import ComparedWork, SpeedupComparison
from benchmark.report.read import StudyResults
from benchmark.report.tables.conventions import display
from benchmark.report.tables.render import HINDERED, Block, Cell, Column, Row, Table
from benchmark.report.tables.speedup_table import groups, made_with, spread
from benchmark.utils.words import counted

#: Names for readers; ``torch`` and ``ours`` are torch's forwards of the network as written, and in the form of predict.
NAMES = {
    "torch": "torch as written",
    "ours": "torch by predict",
    "compile": "torch.compile",
    "onnxruntime": "onnxruntime",
    "openvino": "OpenVINO",
}


KINDS: tuple[ComparedWork, ...] = ("runtimes",)


def table(study: StudyResults) -> Table:
    """Return one block per size, number format and device; empty without such comparisons."""
    blocks = tuple(map(_block, groups(study.comparisons, KINDS)))
    return Table("runtimes", "Forwards by other runtimes", blocks)


def medians(comparison: SpeedupComparison) -> dict[str, float]:
    """Return the median milliseconds of each runtime that has timings, by its key in :data:`NAMES`."""
    raw_ms = {"torch": comparison.plain, "ours": comparison.ours}
    raw_ms |= {other.runtime: other.raw_ms for other in comparison.others if other.raw_ms}
    return {runtime: statistics.median(values) for runtime, values in raw_ms.items()}


def fastest_other(comparison: SpeedupComparison) -> tuple[str, float] | None:
    """Return the fastest of the other runtimes and its median; ``None`` if no other one has timings."""
    others = {name: ms for name, ms in medians(comparison).items() if name not in ("torch", "ours")}
    return min(others.items(), key=lambda item: item[1]) if others else None


def headings(comparison: SpeedupComparison) -> dict[str, tuple[str, str]]:
    """Return the name of each runtime with its version, and precision, folding, batch, size and threads."""
    versions: Mapping[str, str | None] = {"torch": comparison.torch, "ours": comparison.torch} | {
        other.runtime: other.version for other in comparison.others
    }
    size = f"batch 1, {comparison.size}×{comparison.size}, {counted(comparison.threads, 'thread')}"
    forms = dict.fromkeys(versions, f"{comparison.dtype}, norms folded, {size}")
    forms["torch"] = f"float32, norms as written, {size}"
    return {
        name: (f"{NAMES[name]} {version.partition('+')[0] if version else '(not installed)'}", forms[name])
        for name, version in versions.items()
    }


def _block(comparisons: Sequence[SpeedupComparison]) -> Block:
    first = comparisons[0]
    columns = [Column(name, title, None, 1.0, 1, "ms", form) for name, (title, form) in headings(first).items()]
    columns += [
        Column("fastest", "Fastest other", None, 1.0, 1),
        Column("ratio", "Ours / fastest other", None),
        Column("gain", "As written / ours", None),
        Column("spread", "Spread", None, 100.0, 0, "%"),
        Column("difference", "Difference", None, 1e6, 1, "1e-6"),
    ]
    facts = {"what": first.what, "size": first.size or "", "device": first.device_name, "dtype": first.dtype}
    facts |= {"threads": first.threads, "torch": first.torch}
    where = f"{first.device_name}, {counted(first.threads, 'thread')}"
    return Block(
        key="-".join(str(value) for value in facts.values() if value),
        title=f"Forward of one image at {first.size}×{first.size}, {first.dtype}, on {where}",
        facts=facts,
        conventions=tuple(_conventions(comparisons)),
        columns=tuple(columns),
        rows=tuple(map(_row, comparisons)),
    )


def _row(comparison: SpeedupComparison) -> Row:
    hindered = bool(comparison.hindered)
    times = medians(comparison)
    cells = {name: Cell(ms, hindered=hindered) for name, ms in times.items()}
    cells["gain"] = Cell(times["torch"] / times["ours"], hindered=hindered)
    if fastest := fastest_other(comparison):
        cells["fastest"] = Cell(fastest[1], text=NAMES[fastest[0]])
        cells["ratio"] = Cell(times["ours"] / fastest[1], hindered=hindered)
    raw_ms = (comparison.plain, comparison.ours, *(other.raw_ms for other in comparison.others))
    cells["spread"] = Cell(max(spread(values) for values in raw_ms if len(values) > 1))
    differences = (comparison.max_difference, *(other.max_difference for other in comparison.others))
    largest = max(value for value in (*differences, 0.0) if value is not None)
    cells["difference"] = Cell(largest / max(comparison.max_logit or 1.0, 1.0))
    remarks = [*comparison.hindered, *comparison.warnings]
    remarks += [f"{NAMES[other.runtime]}: {other.refusal}" for other in comparison.others if other.refusal]
    assert comparison.model is not None
    return Row(comparison.model, *display(comparison.model), cells, ranked=False, remark="; ".join(remarks))


def _conventions(comparisons: Sequence[SpeedupComparison]) -> Iterator[str]:
    first = comparisons[0]
    yield f"Torch as written: {first.plain_form}."
    yield f"Torch by predict: {first.our_form}."
    least = min(len(comparison.ours) for comparison in comparisons)
    yield (
        f"Medians of at least {counted(least, 'forward')} of each runtime, taken in turn in one process; spread: the "
        "largest interquartile range over its median."
    )
    free = [comparison for comparison in comparisons if not comparison.hindered]
    if len(free) < len(comparisons):
        yield f"{HINDERED}: taken while something else had the device, as said below the table; in no mean and no plot."
    ratios = [medians(one)["ours"] / fastest[1] for one in free if (fastest := fastest_other(one))]
    if len(ratios) > 1:
        mean = statistics.geometric_mean(ratios)
        yield f"Ours / fastest other, geometric mean over {counted(len(ratios), 'network')}: {mean:.2f}."
    yield (
        "Difference: the largest of any runtime's logits from those of torch as written, on a random image, over the "
        "largest logit where that exceeds 1."
    )
    yield from made_with(comparisons)
