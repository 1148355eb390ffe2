"""Tables the harness against the plain way: a block per kind of work."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import get_args

from benchmark.config.protocol import flatten_settings
from benchmark.records.speedup_record import SpeedupComparison, What
from benchmark.report.read import StudyResults
from benchmark.report.tables.conventions import display, in_order
from benchmark.report.tables.render import HINDERED, Block, Cell, Column, Row, Table

#: What each kind of work is called, and whether more of its unit is better.
TITLES: Mapping[What, tuple[str, bool]] = {
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
#: How each unit is printed: scale, decimals and name.
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


def groups(comparisons: Sequence[SpeedupComparison]) -> list[list[SpeedupComparison]]:
    """Group comparisons of one kind of work, size, number format, device and form, in a reader's order."""
    order = get_args(What)

    def kind(one: SpeedupComparison) -> tuple[str | int, ...]:
        # Of a float32 and a bfloat16 comparison the plain side is the same, so float32 comes first.
        where = (one.device, one.device_name, one.threads, one.torch)
        return (*where, order.index(one.what), one.size or 0, one.dtype != "float32", one.our_form, one.plain_form)

    models = in_order({one.model for one in comparisons if one.model})
    ordered = sorted(comparisons, key=lambda one: (kind(one), models.index(one.model) if one.model else 0))
    return [list(found) for _, found in groupby(ordered, kind)]


def ratio(one: SpeedupComparison) -> float | None:
    """Return how many times better the harness's median is; ``None`` where there is no plain way."""
    if not one.plain:
        return None
    slow, fast = statistics.median(one.plain), statistics.median(one.ours)
    return fast / slow if TITLES[one.what][1] else slow / fast


def _block(found: Sequence[SpeedupComparison]) -> Block:
    first = found[0]
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
    where = f"{first.device_name}, {first.threads} thread{'s' * (first.threads != 1)}"
    at = f" at {first.size}×{first.size}" if first.size else ""
    return Block(
        key="-".join(str(value) for value in facts.values() if value),
        title=f"{title}{at}, {first.dtype}, on {where}",
        facts=facts,
        conventions=tuple(_conventions(found, more_is_better=more_is_better)),
        columns=tuple(columns),
        rows=tuple(_row(one) for one in found),
    )


def _row(one: SpeedupComparison) -> Row:
    hindered = bool(one.hindered)
    values = {"plain": one.plain, "ours": one.ours}
    cells = {name: Cell(statistics.median(taken), hindered=hindered) for name, taken in values.items() if taken}
    if (gain := ratio(one)) is not None:
        cells["ratio"] = Cell(gain, hindered=hindered)
    if len(one.ours) > 1:
        cells["spread"] = Cell(max(map(_spread, filter(None, (one.plain, one.ours)))))
    if one.max_difference is not None and one.max_logit:
        cells["difference"] = Cell(one.max_difference / max(one.max_logit, 1.0))
    if one.pixels and one.differing_pixels is not None:
        cells["agreement"] = Cell(1 - one.differing_pixels / one.pixels)
    label, family = display(one.model) if one.model else ("All networks", HARNESS)
    behind = [f"{gain:.2f} times the plain way: behind it"] if gain is not None and gain < 1 else []
    remark = "; ".join((*one.hindered, *behind, *one.warnings))
    return Row(one.model or HARNESS, label, family, cells, ranked=False, remark=remark)


def _spread(values: Sequence[float]) -> float:
    """Return the interquartile range as a share of the median."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / middle


def _conventions(found: Sequence[SpeedupComparison], *, more_is_better: bool) -> Iterator[str]:
    first = found[0]
    numbers = sorted({len(one.ours) for one in found})
    if first.plain:
        yield f"Plain: {first.plain_form}."
    yield f"Ours: {first.our_form}."
    if max(numbers) > 1:
        how = "taken in turn in one process" if first.plain else "taken one after the other"
        yield f"Medians of at least {numbers[0]} values, {how}; Spread: the larger interquartile range over its median."
    if any(one.plain for one in found):
        formula = "ours / plain" if more_is_better else "plain / ours"
        yield f"Times {'less' if first.unit == 'bytes' else 'faster'}: {formula}."
    free = [one for one in found if not one.hindered]
    others = [gain for one in free if one.model and one.model != "eal_icnet" and (gain := ratio(one)) is not None]
    if len(free) < len(found):
        yield f"{HINDERED}: taken while something else had the device, as said below the table; in no mean and no plot."
    if len(others) > 1:
        yield f"Geometric mean over the networks other than EAL-ICNet: {statistics.geometric_mean(others):.2f}."
    if first.max_difference is not None:
        yield "Difference: the largest of two logits on a random image, over the largest logit where that exceeds 1."
    if first.pixels:
        yield f"Masks agree: share of {first.pixels} pixels of test images that both call alike, with trained weights."
    if any(one.model == "eal_icnet" for one in found) and first.what != "loop":
        yield "EAL-ICNet has γ = 0.7 and temperatures of 400, so that no branch is the identity."
    yield from dict.fromkeys(map(_made_with, found))


def _made_with(one: SpeedupComparison) -> str:
    """Say which versions and code a comparison was made with, as far as its file tells; the page lists all of them."""
    facts = flatten_settings(one.environment)
    said = [f"torch {one.torch}"]
    if "python" in facts:
        said += [f"Python {facts['python']}", str(facts.get("os", ""))]
    if commit := facts.get("code.commit"):
        changed = " and changes that are in no commit" if facts.get("code.dirty") else ""
        said.append(f"commit {str(commit)[:12]}{changed}")
    elif content := facts.get("code.content"):
        said.append(f"sources {content}")
    return f"{', '.join(filter(None, said))}."
