"""Tables the harness against the plain way: a block per kind of work."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import get_args

from benchmark.config.protocol import flatten_settings
from benchmark.records.speedup_record import ComparedWork, SpeedupComparison
from benchmark.report.read import StudyResults
from benchmark.report.tables.conventions import display, in_order
from benchmark.report.tables.render import HINDERED, Block, Cell, Column, Row, Table
from benchmark.utils.words import counted

#: Name of each kind of work, and whether more of its unit is better.
TITLES: Mapping[ComparedWork, tuple[str, bool]] = {
    "forward": ("Forward of one image", False),
    "replayed": ("Forward of one image, in half precision and replayed", False),
    "forward_memory": ("Peak memory of a forward", False),
    "train_step": ("Training step at batch 1", False),
    "train_step_memory": ("Peak memory of a training step", False),
    "training": ("Training at batch 1, feeding included", True),
    "together": ("Several trainings at once against one", True),
    "together_replayed": ("Several trainings at once against one that is replayed", True),
    "feeding": ("Feeding batches of one image", True),
    "loop": ("Share of an epoch outside the network", False),
    "start_up": ("Start-up to the first training step", False),
}
#: Form of each unit: scale, decimals and name.
UNITS = {
    "ms": (1.0, 1, "ms"),
    "bytes": (2**-20, 0, "MiB"),
    "images/s": (1.0, 1, "images/s"),
    "s": (1.0, 2, "s"),
    "share": (100.0, 2, "%"),
}
HARNESS = "harness"  # stands in a model's place where no network is involved


def table(study: StudyResults) -> Table:
    """Return one block per kind of work, size, number format and device; empty without comparisons."""
    return Table("bench", "The harness against the plain way", tuple(map(_block, groups(study.comparisons))))


def groups(
    comparisons: Iterable[SpeedupComparison], kinds: Collection[ComparedWork] = tuple(TITLES)
) -> list[list[SpeedupComparison]]:
    """Group comparisons of some kinds of work by size, number format, device and form, in a reader's order."""
    order = get_args(ComparedWork)
    comparisons = [comparison for comparison in comparisons if comparison.what in kinds]

    def kind(comparison: SpeedupComparison) -> tuple[str | int, ...]:
        # Of a float32 and a bfloat16 comparison the plain side is the same, so float32 comes first.
        where = (comparison.device, comparison.device_name, comparison.threads, comparison.torch)
        return (
            *where,
            order.index(comparison.what),
            comparison.size or 0,
            comparison.dtype != "float32",
            comparison.our_form,
            comparison.plain_form,
            comparison.study or "",
            *(f"{other.runtime} {other.version}" for other in comparison.others),
        )

    models = in_order({comparison.model for comparison in comparisons if comparison.model})
    ordered = sorted(
        comparisons,
        key=lambda comparison: (kind(comparison), models.index(comparison.model) if comparison.model else 0),
    )
    return [list(group) for _, group in groupby(ordered, kind)]


def ratio(comparison: SpeedupComparison) -> float | None:
    """Return how many times better the harness's median is; ``None`` where there is no plain way."""
    if not comparison.plain:
        return None
    slow, fast = statistics.median(comparison.plain), statistics.median(comparison.ours)
    return fast / slow if TITLES[comparison.what][1] else slow / fast


def _block(comparisons: Sequence[SpeedupComparison]) -> Block:
    first = comparisons[0]
    title, more_is_better = TITLES[first.what]
    scale, digits, unit = UNITS[first.unit]
    gain = "less" if first.unit == "bytes" else "faster"
    shown = {name: Column(name, name.capitalize(), None, scale, digits, unit) for name in ("plain", "ours")}
    columns = [
        *(shown.values() if first.plain else [shown["ours"]]),
        *([Column("ratio", f"Times {gain}", higher_is_better=None)] if first.plain else []),
        *([Column("spread", "Spread", None, 100.0, 0, "%")] if len(first.ours) > 1 else []),
        *([Column("difference", "Difference", None, 1e6, 1, "1e-6")] if first.max_difference is not None else []),
        *([Column("agreement", "Masks agree", None, 100.0, 3, "%")] if first.pixels else []),
    ]
    facts = {"what": first.what, "size": first.size or "", "device": first.device_name, "dtype": first.dtype}
    facts |= {"threads": first.threads, "torch": first.torch}
    where = f"{first.device_name}, {counted(first.threads, 'thread')}"
    at = f" at {first.size}×{first.size}" if first.size else ""
    return Block(
        key="-".join(str(value) for value in facts.values() if value),
        title=f"{title}{at}, {first.dtype}, on {where}",
        facts=facts,
        conventions=tuple(_conventions(comparisons, more_is_better=more_is_better)),
        columns=tuple(columns),
        rows=tuple(_row(comparison) for comparison in comparisons),
    )


def _row(comparison: SpeedupComparison) -> Row:
    hindered = bool(comparison.hindered)
    values = {"plain": comparison.plain, "ours": comparison.ours}
    cells = {name: Cell(statistics.median(figures), hindered=hindered) for name, figures in values.items() if figures}
    if (gain := ratio(comparison)) is not None:
        cells["ratio"] = Cell(gain, hindered=hindered)
    if len(comparison.ours) > 1:
        cells["spread"] = Cell(max(map(spread, filter(None, (comparison.plain, comparison.ours)))))
    if comparison.max_difference is not None and comparison.max_logit:
        cells["difference"] = Cell(comparison.max_difference / max(comparison.max_logit, 1.0))
    if comparison.pixels and comparison.differing_pixels is not None:
        cells["agreement"] = Cell(1 - comparison.differing_pixels / comparison.pixels)
    label, family = display(comparison.model) if comparison.model else ("All networks", HARNESS)
    behind = [f"{gain:.2f} times the plain way: behind it"] if gain is not None and gain < 1 else []
    remark = "; ".join((*comparison.hindered, *behind, *comparison.warnings))
    return Row(comparison.model or HARNESS, label, family, cells, ranked=False, remark=remark)


def spread(values: Sequence[float]) -> float:
    """Return the interquartile range as a share of the median."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / middle


def _conventions(comparisons: Sequence[SpeedupComparison], *, more_is_better: bool) -> Iterator[str]:
    first = comparisons[0]
    lengths = [len(comparison.ours) for comparison in comparisons]
    if first.plain:
        yield f"Plain: {first.plain_form}."
    yield f"Ours: {first.our_form}."
    if max(lengths) > 1:
        order = "taken in turn in one process" if first.plain else "taken one after the other"
        spread = "Spread: the larger interquartile range over its median"
        yield f"Medians of at least {counted(min(lengths), 'value')}, {order}; {spread}."
    if any(comparison.plain for comparison in comparisons):
        formula = "ours / plain" if more_is_better else "plain / ours"
        yield f"Times {'less' if first.unit == 'bytes' else 'faster'}: {formula}."
    free = [comparison for comparison in comparisons if not comparison.hindered]
    others = [
        gain
        for comparison in free
        if comparison.model and comparison.model != "eal_icnet" and (gain := ratio(comparison)) is not None
    ]
    if len(free) < len(comparisons):
        yield f"{HINDERED}: taken while something else had the device, as said below the table; in no mean and no plot."
    if len(others) > 1:
        yield f"Geometric mean over the networks other than EAL-ICNet: {statistics.geometric_mean(others):.2f}."
    if first.max_difference is not None:
        yield "Difference: the largest of two logits on a random image, over the largest logit where that exceeds 1."
    if first.pixels:
        yield f"Masks agree: share of {first.pixels} pixels of test images that both call alike, with trained weights."
    if any(comparison.model == "eal_icnet" for comparison in comparisons) and first.what != "loop":
        yield "EAL-ICNet has γ = 0.7 and temperatures of 400, so that no branch is the identity."
    yield from made_with(comparisons)


def made_with(comparisons: Iterable[SpeedupComparison]) -> Iterable[str]:
    """Say once each which versions and code comparisons were made with."""
    return dict.fromkeys(map(_made_with, comparisons))


def _made_with(comparison: SpeedupComparison) -> str:
    """Say which versions and code a comparison was made with, as far as its file tells; the page lists all of them."""
    facts = flatten_settings(comparison.environment)
    parts = [f"torch {comparison.torch}"]
    if "python" in facts:
        parts += [f"Python {facts['python']}", str(facts.get("os", ""))]
    if commit := facts.get("code.commit"):
        changed = " and changes that are in no commit" if facts.get("code.dirty") else ""
        parts.append(f"commit {str(commit)[:12]}{changed}")
    elif content := facts.get("code.content"):
        parts.append(f"sources {content}")
    return f"{', '.join(filter(None, parts))}."
