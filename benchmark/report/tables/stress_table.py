"""Stress tests: how far networks fall as one effect of a stand-in grows, as tables and as a sentence per network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from benchmark import metrics
from benchmark.data.specs import KNOWN, SUFFIX, known_first
from benchmark.data.synthetic import STANDINS, Stress
from benchmark.records.stress_record import DRAWN, StressRecord
from benchmark.report.read import Scores, StudyResults
from benchmark.report.tables.conventions import (
    MARKS,
    display,
    electrical_conventions,
    in_order,
    metric_column,
    nothing_to_judge,
    over_repeats,
    stand_ins,
)
from benchmark.report.tables.render import Block, Cell, Row, Table
from benchmark.report.tables.transfer_table import reduction_of

METRICS = ("miou", "net_error_rate", "via_f1")
Shown = Literal["value", "change"]


@dataclass(frozen=True)
class Tested:
    """The stress tests of the networks of one training set on one stand-in.

    Attributes:
        stresses: all that any network was tested under, by effect and strength.
        scores: model -> repeat -> stress (``None``: as drawn) -> counts.
        strangers: model -> repeats whose images as drawn have other counts than in the run's own test.
    """

    train: tuple[str, ...]
    test: str
    stresses: tuple[Stress, ...]
    scores: Mapping[str, Mapping[int, Mapping[Stress | None, Scores]]]
    strangers: Mapping[str, tuple[int, ...]]

    @property
    def key(self) -> str:
        """Names it in files."""
        trained = "+".join(self.train)
        return self.test if trained == self.test else f"{trained}-on-{self.test}"

    @property
    def plot(self) -> str:
        """What its plot's files are called."""
        return f"{self.key}.stress"

    @property
    def where(self) -> str:
        """Says it in titles."""
        trained = "+".join(self.train)
        return f"on {self.test}" + ("" if trained == self.test else f" after training on {trained}")

    @property
    def models(self) -> list[str]:
        """In the order of tables."""
        return in_order(self.scores)

    @property
    def effects(self) -> list[str]:
        """That were forced."""
        return list(dict.fromkeys(stress.name for stress in self.stresses))

    @property
    def n(self) -> int:
        """The most repeats that a network was tested of."""
        return max(map(len, self.scores.values()))

    @property
    def images(self) -> str:
        """How many images a test has."""
        tests = (scores for by in self.scores.values() for of in by.values() for scores in of.values())
        return " or ".join(map(str, sorted({scores.judged for scores in tests})))

    def cell(
        self, study: StudyResults, model: str, metric: str, stress: Stress | None, shown: Shown = "value"
    ) -> Cell | None:
        """Return a metric under a stress over repeats, or by how much it differs from that of the images as drawn."""
        reduction = reduction_of(study, metric)
        values = []
        for tests in self.scores[model].values():
            found, drawn = (
                tests[key].reduced[reduction].get(metric) if key in tests else None for key in (stress, None)
            )
            if found is not None and drawn is not None:
                values.append(found - drawn if shown == "change" else found)
        return Cell.over(values)

    def has(self, metric: str) -> bool:
        """Tell whether a metric was counted."""
        return any(
            metric in scores.reduced["pooled"]
            for by in self.scores.values()
            for of in by.values()
            for scores in of.values()
        )


def tested(study: StudyResults) -> list[Tested]:
    """Group a study's stress tests; those of which the images as drawn were not tested alike are left out."""
    if study.protocol is None:
        return []
    own = {(run.record.train, run.record.model, run.record.repeat): run.scores for run in study.runs}
    drawn = {_drawn(test.record): test.scores for test in study.stressed if test.record.effect is None}
    places: dict[tuple[tuple[str, ...], str], dict[str, dict[int, dict[Stress | None, Scores]]]] = {}
    strangers: dict[tuple[tuple[str, ...], str], dict[str, list[int]]] = {}
    for test in study.stressed:
        record = test.record
        if _drawn(record) not in drawn:
            continue
        stress = Stress(record.effect, record.strength) if record.effect and record.strength else None
        place = record.train, record.test
        by_repeat = places.setdefault(place, {}).setdefault(record.model, {})
        by_repeat.setdefault(record.repeat, {})[stress] = test.scores
        ours = own[record.train, record.model, record.repeat].get(record.test)
        if stress is None and (ours is None or ours.sums != test.scores.sums):
            strangers.setdefault(place, {}).setdefault(record.model, []).append(record.repeat)
    made = []
    for train, name in sorted(places, key=lambda place: (place[0] != (place[1],), known_first(place[1], KNOWN), place)):
        found = places[train, name]
        stresses = {key for by in found.values() for tests in by.values() for key in tests if key is not None}
        known = list(_stresses_of(name))
        ordered = sorted(stresses, key=lambda one: (known_first(one.name, known), one.strength))
        apart = {model: tuple(repeats) for model, repeats in strangers.get((train, name), {}).items()}
        made.append(Tested(train, name, tuple(ordered), found, apart))
    return made


def table(study: StudyResults) -> Table:
    """Return, per training set and stand-in, a block per metric with its values and one with its changes."""
    blocks = [
        _block(study, found, metric, shown)
        for found in tested(study)
        for metric in METRICS
        if found.has(metric)
        for shown in ("value", "change")
    ]
    return Table("stress", "Stress tests", tuple(blocks))


def _block(study: StudyResults, found: Tested, metric: str, shown: Shown) -> Block:
    assert study.protocol is not None
    printed = replace(metric_column(metrics.METRICS[metric]), digits=1)
    if shown == "change":
        printed = replace(printed, signed=True, unit="points")
    keys: list[Stress | None] = [*([None] if shown == "value" else []), *found.stresses]
    columns = tuple(
        replace(printed, key=str(key), title=f"{key.strength:g}", group=key.name)
        if key
        else replace(printed, key=DRAWN, title="As drawn")
        for key in keys
    )
    rows = []
    for model in found.models:
        cells = {
            column.key: found.cell(study, model, metric, key, shown) for column, key in zip(columns, keys, strict=True)
        }
        filled = {key: cell for key, cell in cells.items() if cell is not None}
        rows.append(Row(model, *display(model), filled, remark=_remark(found, model)))
    name, reduction = metrics.METRICS[metric].display, reduction_of(study, metric)
    what = name if shown == "value" else f"Change of {name}"
    return Block(
        key=f"stress-{metric}-{found.key}" if shown == "value" else f"stress-{metric}-change-{found.key}",
        title=f"{what} under stress {found.where}",
        facts={
            "dataset": found.test, "train": "+".join(found.train), "protocol": study.protocol.name,
            "metric_name": metric, "shown": shown, "reduction": reduction, "ddof": 1, "test_images": found.images,
        },
        conventions=tuple(_conventions(study, found, metric, shown)),
        columns=columns,
        rows=tuple(rows),
        n=found.n,
    )  # fmt: skip


def _remark(found: Tested, model: str) -> str:
    repeats = found.strangers.get(model)
    if not repeats:
        return ""
    return (
        f"repeat{'s' * (len(repeats) > 1)} {', '.join(map(str, repeats))}: as drawn, other counts than in the run's "
        "own test; another device or number of threads rounds otherwise"
    )


def _conventions(study: StudyResults, found: Tested, metric: str, shown: Shown) -> Iterator[str]:
    assert study.protocol is not None
    reduction = reduction_of(study, metric)
    yield strengths(found)
    if shown == "change":
        yield "Change: value under stress minus value as drawn, in percentage points, of each network."
    yield over_repeats(found.n)
    yield f"Reduction: {reduction} ({metrics.REDUCTIONS[reduction]})."
    everything = [scores for by in found.scores.values() for tests in by.values() for scores in tests.values()]
    yield f"Test images: {found.images}."
    yield from nothing_to_judge(everything, found.test)
    yield f"Protocol: {study.protocol.name}."
    if metric == "net_error_rate":
        yield from electrical_conventions(study.protocol, everything)
    yield MARKS
    yield from stand_ins((found.test, *found.train))
    if study.broken_stress:
        yield f"Left out: {' '.join(f'{reason}.' for reason in study.broken_stress)}"


def strengths(found: Tested) -> str:
    """Say what a strength is, and what is forced."""
    forced = _stresses_of(found.test)
    named = [f"{name} forces {' and '.join(forced[name])}" for name in found.effects if forced.get(name, ()) != (name,)]
    return (
        f"Columns: one effect at so many times the hardest strength that {found.test} draws, on every test image; 1 is "
        "the hard end of what training shows, more lies outside of it. Layouts, masks and all other effects are as "
        "drawn" + (f" ({', '.join(named)})" if named else "") + "."
    )


def sentences(study: StudyResults, found: Tested) -> list[tuple[str, str]]:
    """Say of each network which effect costs it most at the largest strength that all effects have in common.

    Returns:
        (model, sentence), none where no strength is common to all.
    """
    common = set.intersection(
        *({stress.strength for stress in found.stresses if stress.name == name} for name in found.effects)
    )
    if not common:
        return []
    strongest = max(common)
    return [(model, _sentence(study, found, model, strongest)) for model in found.models]


def _sentence(study: StudyResults, found: Tested, model: str, strength: float) -> str:
    parts = []
    for metric in METRICS:
        sign = 1 if metrics.METRICS[metric].higher_is_better else -1
        column = replace(metric_column(metrics.METRICS[metric]), digits=1)
        changes: dict[str, float] = {}
        for name in found.effects:
            cell = found.cell(study, model, metric, Stress(name, strength), "change")
            if cell is not None:
                changes[name] = float(column.text(cell.mean))  # as printed: what a reader cannot tell apart is equal
        if not changes:
            continue
        worst = min(changes.values(), key=lambda change: sign * change)
        label = metrics.METRICS[metric].display
        if sign * worst >= 0:
            parts.append(f"{label} {'falls' if sign > 0 else 'rises'} under no effect")
            continue
        names = [name for name, change in changes.items() if change == worst]
        ends = [found.cell(study, model, metric, key) for key in (None, Stress(names[0], strength))]
        told = " to ".join(column.text(cell.mean) for cell in ends if cell is not None)
        what = f"{label} {'falls' if sign > 0 else 'rises'} most under {' and '.join(names)}"
        parts.append(f"{what} ({worst:+.1f} points, {told} %)".replace("-", "−"))
    return f"{display(model)[0]}: at strength {strength:g}, {'; '.join(parts)}."


def _drawn(record: StressRecord) -> StressRecord:
    """Return the record of the test of the same weights on the same images as drawn."""
    return record.model_copy(update={"effect": None, "strength": None})


def _stresses_of(dataset: str) -> Mapping[str, tuple[str, ...]]:
    """Return what a stand-in can be stressed by; nothing for one of another release."""
    standin = STANDINS.get(dataset.removesuffix(SUFFIX))
    return standin.stresses if standin else {}
