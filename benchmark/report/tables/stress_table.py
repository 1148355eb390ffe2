"""Tables how networks fall as one effect of a stand-in grows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from benchmark import metrics
from benchmark.config.protocol import Protocol
from benchmark.config.targets import dataset_of, is_own
from benchmark.data.specs import KNOWN, SUFFIX, known_first
from benchmark.data.synthetic import STANDINS, Stress
from benchmark.records.stress_record import DRAWN, StressRecord
from benchmark.report.read import StudyResults
from benchmark.report.scores import Scores
from benchmark.report.tables.conventions import (
    MARKS,
    cross_validation,
    display,
    electrical_conventions,
    folds_of,
    in_all_tests,
    in_order,
    metric_column,
    not_judged,
    noun_under,
    over_repeats,
    stand_ins,
)
from benchmark.report.tables.render import Block, Cell, Row, Table
from benchmark.report.tables.transfer_table import reduction_of
from benchmark.utils.words import plural

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
    strangers: Mapping[str, Sequence[int]]

    @property
    def key(self) -> str:
        """Names it in files."""
        return self.test if is_own(self.train, self.test) else f"{'+'.join(self.train)}-on-{self.test}"

    @property
    def plot(self) -> str:
        """Name of its plot's files."""
        return f"{self.key}.stress"

    @property
    def where(self) -> str:
        """Says it in titles."""
        return f"on {self.test}" + (
            "" if is_own(self.train, self.test) else f" after training on {'+'.join(self.train)}"
        )

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

    def images(self, protocol: Protocol) -> str:
        """Return the number of images of a test, of all folds together."""
        return in_all_tests(((repeat, scores.judged) for repeat, scores in self.counts), noun_under(protocol))

    @property
    def counts(self) -> list[tuple[int, Scores]]:
        """Repeat and counts of all tests."""
        return [
            (repeat, scores)
            for by_repeat in self.scores.values()
            for repeat, tests in by_repeat.items()
            for scores in tests.values()
        ]

    def cell(
        self, study: StudyResults, model: str, metric: str, stress: Stress | None, shown: Shown = "value"
    ) -> Cell | None:
        """Return a metric under a stress over repeats, or by how much it differs from that of the images as drawn."""
        reduction = reduction_of(study, metric)
        both = (tests for tests in self.scores[model].values() if stress in tests and None in tests)
        pairs = ([tests[key].reduced[reduction].get(metric) for key in (stress, None)] for tests in both)
        values = ((value, drawn) for value, drawn in pairs if value is not None and drawn is not None)
        return Cell.over(value - drawn if shown == "change" else value for value, drawn in values)

    def has(self, metric: str) -> bool:
        """Tell whether a metric was counted."""
        return any(metric in scores.reduced["pooled"] for _, scores in self.counts)


def tested(study: StudyResults) -> list[Tested]:
    """Group a study's stress tests; those of which the images as drawn were not tested alike are left out."""
    if study.protocol is None:
        return []
    own = {(run.record.train, run.record.model, run.record.repeat): run.scores for run in study.runs}
    drawn = {_drawn(test.record): test.scores for test in study.stressed if test.record.effect is None}
    datasets: dict[tuple[tuple[str, ...], str], dict[str, dict[int, dict[Stress | None, Scores]]]] = {}
    strangers: dict[tuple[tuple[str, ...], str], dict[str, list[int]]] = {}
    for test in study.stressed:
        record = test.record
        if _drawn(record) not in drawn:
            continue
        stress = Stress(record.effect, record.strength) if record.effect and record.strength else None
        pair = record.train, record.test
        by_repeat = datasets.setdefault(pair, {}).setdefault(record.model, {})
        by_repeat.setdefault(record.repeat, {})[stress] = test.scores
        ours = own[record.train, record.model, record.repeat].get(record.test)
        if stress is None and (ours is None or ours.sums != test.scores.sums):
            strangers.setdefault(pair, {}).setdefault(record.model, []).append(record.repeat)
    every = []
    for pair in sorted(datasets, key=lambda pair: (not is_own(*pair), known_first(pair[1], KNOWN), pair)):
        scores, known = datasets[pair], list(_stresses_of(pair[1]))
        stresses = {key for by in scores.values() for tests in by.values() for key in tests if key is not None}
        ordered = sorted(stresses, key=lambda stress: (known_first(stress.name, known), stress.strength))
        every.append(Tested(*pair, tuple(ordered), scores, strangers.get(pair, {})))
    return every


def table(study: StudyResults) -> Table:
    """Return, per training set and stand-in, a block per metric with its values and one with its changes."""
    blocks = [
        _block(study, tests, metric, shown)
        for tests in tested(study)
        for metric in METRICS
        if tests.has(metric)
        for shown in ("value", "change")
    ]
    return Table("stress", "Stress tests", tuple(blocks))


def _block(study: StudyResults, tests: Tested, metric: str, shown: Shown) -> Block:
    assert study.protocol is not None
    printed = replace(metric_column(metrics.METRICS[metric]), digits=1)
    if shown == "change":
        printed = replace(printed, signed=True, unit="points")
    keys: list[Stress | None] = [*([None] if shown == "value" else []), *tests.stresses]
    titles = ((str(key), f"{key.strength:g}", key.name) if key else (DRAWN, "As drawn", "") for key in keys)
    columns = tuple(replace(printed, key=key, title=title, group=group) for key, title, group in titles)
    rows = []
    for model in tests.models:
        cells = (tests.cell(study, model, metric, key, shown) for key in keys)
        filled = {column.key: cell for column, cell in zip(columns, cells, strict=True) if cell}
        rows.append(Row(model, *display(model), filled, remark=_remark(tests, model, study.protocol)))
    name, reduction = metrics.METRICS[metric].display, reduction_of(study, metric)
    subject = name if shown == "value" else f"Change of {name}"
    return Block(
        key=f"stress-{metric}-{tests.key}" if shown == "value" else f"stress-{metric}-change-{tests.key}",
        title=f"{subject} under stress {tests.where}",
        facts={
            "dataset": tests.test, "train": "+".join(tests.train), "protocol": study.protocol.name,
            "metric_name": metric, "shown": shown, "reduction": reduction, "ddof": 1,
            "test_images": tests.images(study.protocol), **folds_of(study.protocol),
        },
        conventions=tuple(_conventions(study, tests, metric, shown)),
        columns=columns,
        rows=tuple(rows),
        n=tests.n,
    )  # fmt: skip


def _remark(tests: Tested, model: str, protocol: Protocol) -> str:
    repeats = tests.strangers.get(model)
    if not repeats:
        return ""
    named = f"{plural(len(repeats), noun_under(protocol))} {', '.join(map(str, repeats))}"
    return (
        f"{named}: as drawn, other counts than in the run's own test; another device or number of threads rounds "
        "otherwise"
    )


def _conventions(study: StudyResults, tests: Tested, metric: str, shown: Shown) -> Iterator[str]:
    assert study.protocol is not None
    reduction = reduction_of(study, metric)
    yield strengths(tests)
    if shown == "change":
        yield "Change: value under stress minus value as drawn, in percentage points, of each network."
    yield over_repeats(tests.n, study.protocol)
    yield from cross_validation(study.protocol)
    yield f"Reduction: {reduction} ({metrics.REDUCTIONS[reduction]})."
    yield f"Test images: {tests.images(study.protocol)}."
    yield from not_judged((scores for _, scores in tests.counts), tests.test)
    yield f"Protocol: {study.protocol.name}."
    if metric == "net_error_rate":
        yield from electrical_conventions(study.protocol, tests.counts)
    yield MARKS
    yield from stand_ins((tests.test, *tests.train))
    if study.broken_stress:
        yield f"Left out: {' '.join(f'{reason}.' for reason in study.broken_stress)}"


def strengths(tests: Tested) -> str:
    """Say what a strength is, and what is forced."""
    forced = _stresses_of(tests.test)
    named = [f"{name} forces {' and '.join(forced[name])}" for name in tests.effects if forced.get(name, ()) != (name,)]
    return (
        f"Columns: one effect at so many times the hardest strength that {tests.test} draws, on every test image; 1 is "
        "the hard end of what training shows, more lies outside of it. Layouts, masks and all other effects are as "
        "drawn" + (f" ({', '.join(named)})" if named else "") + "."
    )


def sentences(study: StudyResults, tests: Tested) -> list[tuple[str, str]]:
    """Return (model, sentence): the effect that costs most at the largest strength that all effects share, if any."""
    strengths_of = ({stress.strength for stress in tests.stresses if stress.name == name} for name in tests.effects)
    strongest = max(set.intersection(*strengths_of), default=None)
    return [(model, _sentence(study, tests, model, strongest)) for model in tests.models if strongest is not None]


def _sentence(study: StudyResults, tests: Tested, model: str, strength: float) -> str:
    parts = []
    for metric in METRICS:
        sign = 1 if metrics.METRICS[metric].higher_is_better else -1
        column = replace(metric_column(metrics.METRICS[metric]), digits=1)
        cells = ((name, tests.cell(study, model, metric, Stress(name, strength), "change")) for name in tests.effects)
        # As printed: changes that a reader cannot tell apart are equal.
        changes = {name: float(column.text(cell.mean)) for name, cell in cells if cell}
        if not changes:
            continue
        worst = min(changes.values(), key=lambda change: sign * change)
        label = metrics.METRICS[metric].display
        if sign * worst >= 0:
            parts.append(f"{label} {'falls' if sign > 0 else 'rises'} under no effect")
            continue
        names = [name for name, change in changes.items() if change == worst]
        ends = [tests.cell(study, model, metric, key) for key in (None, Stress(names[0], strength))]
        values = " to ".join(column.text(cell.mean) for cell in ends if cell is not None)
        clause = f"{label} {'falls' if sign > 0 else 'rises'} most under {' and '.join(names)}"
        parts.append(f"{clause} ({worst:+.1f} points, {values} %)".replace("-", "−"))
    return f"{display(model)[0]}: at strength {strength:g}, {'; '.join(parts)}."


def _drawn(record: StressRecord) -> StressRecord:
    """Return the record of the test of the same weights on the same images as drawn."""
    return record.model_copy(update={"effect": None, "strength": None})


def _stresses_of(dataset: str) -> Mapping[str, tuple[str, ...]]:
    """Return what a stand-in can be stressed by; nothing for one of another release."""
    standin = STANDINS.get(dataset_of(dataset).removesuffix(SUFFIX))
    return standin.stresses if standin else {}
